// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// takes is a cloud that takes so many calls a second, as many at once, and throttles the others.
func takes(perSecond int) *script {
	bucket := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	return &script{play: func(int, *http.Request) (*http.Response, error) {
		if bucket.Allow() {
			return answer(http.StatusOK), nil
		}
		return answer(http.StatusTooManyRequests), nil
	}}
}

// manyAtOnce is how long so many calls take that come together, by a pacer that was told of 200 a second.
func manyAtOnce(t *testing.T, count int, cloud *script) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		play := cloud.play
		cloud.play = func(n int, r *http.Request) (*http.Response, error) {
			pass(10*time.Millisecond + rand.N(20*time.Millisecond))
			return play(n, r)
		}
		chain := chainTo(cloud, func(o *Options) { o.Pacer = NewPacer(200) })
		started := time.Now()
		var calls sync.WaitGroup
		for range count {
			calls.Go(func() { mustAnswer(t, chain, http.StatusOK) })
		}
		calls.Wait()
		took = time.Since(started)
	})
	return took
}

// The first half of E18's row: 15 leases at once, all served; here, how soon.
func TestCallsThatComeTogetherAreThroughAboutAsSoonAsTheCloudTakesThem(t *testing.T) {
	for _, test := range []struct{ calls, perSecond int }{{15, 5}, {60, 5}, {400, 50}} {
		t.Run(fmt.Sprintf("%d calls at %d a second", test.calls, test.perSecond), func(t *testing.T) {
			const rounds = 20
			var total time.Duration
			for range rounds {
				total += manyAtOnce(t, test.calls, takes(test.perSecond))
			}
			ideal := time.Duration(test.calls-test.perSecond) * time.Second / time.Duration(test.perSecond)
			if mean := total / rounds; mean > ideal*13/10 {
				t.Errorf("they took %s, where the cloud would have had them through in %s", mean, ideal)
			}
		})
	}
}

func TestThePaceFallsToWhatTheCloudHasTakenInTheLastSecond(t *testing.T) {
	answers := func(p *Pacer, taken, throttled int) {
		for range taken {
			p.accepted()
		}
		for range throttled {
			p.throttled()
		}
	}
	for name, test := range map[string]struct {
		run  func(p *Pacer)
		want rate.Limit
	}{
		"five answers show it":                                  {func(p *Pacer) { answers(p, 4, 1) }, 4},
		"fewer do not, and it falls to the half":                {func(p *Pacer) { answers(p, 3, 1) }, 50},
		"those before the last second say nothing":              {func(p *Pacer) { answers(p, 9, 0); pass(time.Second); answers(p, 3, 2) }, 3},
		"each answer of those that come together tells more":    {func(p *Pacer) { answers(p, 1, 5); answers(p, 6, 1) }, 7},
		"it never ends":                                         {func(p *Pacer) { answers(p, 0, 9) }, slowest},
		"it falls where the cloud has taken as many as it does": {func(p *Pacer) { answers(p, 200, 1) }, 95},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPacer(100)
				test.run(p)
				if got := p.limiter.Limit(); got != test.want {
					t.Errorf("the rate is %v, want %v", got, test.want)
				}
			})
		})
	}
}
