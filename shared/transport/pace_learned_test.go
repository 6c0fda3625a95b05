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
// The cloud has so much more work with a call that it takes than with one that it throttles.
func manyAtOnce(t *testing.T, count int, cloud *script, work time.Duration) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		play := cloud.play
		cloud.play = func(n int, r *http.Request) (*http.Response, error) {
			pass(10*time.Millisecond + rand.N(20*time.Millisecond))
			resp, err := play(n, r)
			if err == nil && resp.StatusCode == http.StatusOK {
				pass(work)
			}
			return resp, err
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
				total += manyAtOnce(t, test.calls, takes(test.perSecond), 0)
			}
			ideal := time.Duration(test.calls-test.perSecond) * time.Second / time.Duration(test.perSecond)
			if mean := total / rounds; mean > ideal*13/10 {
				t.Errorf("they took %s, where the cloud would have had them through in %s", mean, ideal)
			}
		})
	}
}

// No single round takes much longer, either, also where what is throttled is answered before what is taken, as clouds do. Each used to
// take four times as long then: by the answers so far the cloud took nothing, and the pace fell to the slowest. And one in
// fifty took twice as long, since the last call had drawn a pause of two seconds.
func TestNoRoundOfCallsThatComeTogetherTakesMuchLongerThanTheCloud(t *testing.T) {
	const rounds = 100
	for _, work := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(fmt.Sprintf("taking one lasts %s longer", work), func(t *testing.T) {
			var worst time.Duration
			for range rounds {
				worst = max(worst, manyAtOnce(t, 15, takes(5), work))
			}
			const ideal = 2 * time.Second
			if worst > work+ideal*14/10 { // 1.26 was the worst of 4000
				t.Errorf("one of %d rounds took %s, where the cloud would have had them through in %s", rounds, worst, ideal)
			}
		})
	}
}

func TestCallsUnderWayCountAsTakenUntilTheirAnswerSaysElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(200)
		var calls []*paced
		for range 16 {
			calls = append(calls, p.begin())
		}
		p.lost(calls[15]) // nobody knows of it
		for i, want := range []rate.Limit{100, 100, 100, 100, 10, 9, 8, 7, 6, 5} {
			p.throttled(calls[i])
			if got := p.limiter.Limit(); got != want {
				t.Errorf("after %d throttled answers the rate is %v, want %v", i+1, got, want)
			}
		}
		for _, c := range calls[10:15] {
			p.accepted(c)
		}
		if got := p.limiter.Limit(); got != 5 {
			t.Errorf("once the others were taken, the rate is %v, want 5", got)
		}
	})
}

// A call that waits for its slot counts for nothing: nobody can have taken it.
func TestACallIsUnderWayOnceItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, cloud := NewPacer(200), &script{play: func(int, *http.Request) (*http.Response, error) {
			pass(time.Millisecond)
			return answer(http.StatusOK), nil
		}}
		chain := chainTo(cloud, func(o *Options) { o.Pacer, o.Slots = p, make(Slots, 2) })
		mustAnswer(t, chain, http.StatusOK) // the first goes alone
		pass(time.Second)
		must := func(answers int, most rate.Limit) {
			t.Helper()
			p.mu.Lock()
			defer p.mu.Unlock()
			if a, m := p.lately(time.Now()); a != answers || m != most {
				t.Errorf("%d answers, and %v may have been taken, want %d and %v", a, m, answers, most)
			}
		}
		var calls sync.WaitGroup
		for range 9 {
			calls.Go(func() { mustAnswer(t, chain, http.StatusOK) })
		}
		synctest.Wait()
		must(0, 2)
		calls.Wait()
		must(9, 9)
	})
}

func TestThePauseOfAThrottledCallGrowsOnlyWhileTheCloudTakesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(200)
		must := func(when string, want int) {
			t.Helper()
			if got := p.growth(3); got != want {
				t.Errorf("%s, the fourth attempt's pause has grown %d times, want %d", when, got, want)
			}
		}
		p.accepted(p.begin())
		for range 9 {
			p.throttled(p.begin())
		}
		must("the cloud has taken one in this second", 0)
		pass(time.Second)
		must("it has taken none in this second", 3)
		taken := p.begin()
		pass(time.Second)
		p.accepted(taken)
		p.throttled(p.begin())
		must("it took the one before, after a second's work", 0)
		p.throttled(p.begin())
		must("that was two calls ago", 1)
	})
}

func TestThePaceFallsToWhatTheCloudHasTakenInTheLastSecond(t *testing.T) {
	answers := func(p *Pacer, taken, throttled int) {
		for range taken {
			p.accepted(p.begin())
		}
		for range throttled {
			p.throttled(p.begin())
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
