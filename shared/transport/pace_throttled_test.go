// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

func TestThrottlingHalvesTheRateAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(8)
		cloud := plays(status(429))
		rt := &pacing{next: &heeding{next: cloud, pacer: p}, pacer: p}
		for second, want := range []rate.Limit{4, 2, 1, slowest, slowest} {
			for range 3 {
				p.throttled(p.begin())
			}
			if got := p.limiter.Limit(); got != want {
				t.Errorf("second %d: the rate is %v, want %v", second, got, want)
			}
			pass(time.Second)
		}
		for _, code := range []int{429, 503} {
			p.limiter.SetLimit(8)
			cloud.play = plays(status(code)).play
			mustAnswer(t, rt, code)
			if got := p.limiter.Limit(); got != 4 {
				t.Errorf("after a %d the rate is %v, want 4", code, got)
			}
			pass(time.Second)
		}
	})
}

func TestARateBelowTheSlowestIsNotRaisedByThrottling(t *testing.T) {
	p := NewPacer(0.2)
	p.throttled(p.begin())
	if got := p.limiter.Limit(); got != 0.2 {
		t.Errorf("the rate is %v, want 0.2", got)
	}
}

func TestTheRateClimbsBackAndBurstsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(10)
		rt := &pacing{next: &heeding{next: plays(status(200)), pacer: p}, pacer: p}
		p.throttled(p.begin())
		if p.limiter.Limit() != 5 || p.limiter.Burst() != 1 {
			t.Fatalf("got rate %v and burst %d", p.limiter.Limit(), p.limiter.Burst())
		}
		start := time.Now()
		for p.limiter.Limit() < 10 {
			before := p.limiter.Limit()
			mustAnswer(t, rt, 200)
			if p.limiter.Limit() > before+0.5 {
				t.Fatalf("the rate jumps from %v to %v", before, p.limiter.Limit())
			}
		}
		if took := time.Since(start); took < 9*time.Second || took > 15*time.Second {
			t.Errorf("climbing back from the half took %s, want about 10s", took)
		}
		if p.limiter.Burst() != 10 {
			t.Errorf("the burst is %d at the full rate, want 10", p.limiter.Burst())
		}
	})
}

func TestAFailedAttemptDoesNotChangeTheRate(t *testing.T) {
	p := NewPacer(4)
	rt := &pacing{next: &heeding{next: plays(outcome{err: http.ErrServerClosed}), pacer: p}, pacer: p}
	if _, err := call(t, t.Context(), rt); err == nil || p.limiter.Limit() != 4 {
		t.Errorf("got %v and rate %v", err, p.limiter.Limit())
	}
}
