// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// results are the ends of concurrent calls: statuses, 0 for those held back.
type results struct {
	group sync.WaitGroup
	mu    sync.Mutex
	ends  []int
}

func (r *results) call(t *testing.T, rt http.RoundTripper, n int) {
	t.Helper()
	for range n {
		r.group.Go(func() {
			got, err := call(t, t.Context(), rt)
			var held *BreakerOpenError
			if err != nil && !errors.As(err, &held) {
				t.Errorf("got %v", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ends = append(r.ends, got)
		})
	}
	synctest.Wait()
}

// wait returns how many calls ended with each status.
func (r *results) wait() map[int]int {
	r.group.Wait()
	counts := map[int]int{}
	for _, end := range r.ends {
		counts[end]++
	}
	return counts
}

func mustBeHeld(t *testing.T, rt http.RoundTripper, until time.Time) {
	t.Helper()
	_, err := call(t, t.Context(), rt)
	var held *BreakerOpenError
	var notSent *NotSentError
	if !errors.As(err, &held) || !errors.As(err, &notSent) {
		t.Fatalf("got %v, want the call to be held back", err)
	}
	if !held.Until.Equal(until) {
		t.Fatalf("held back until %s, want %s", held.Until, until)
	}
}

func TestARefusedKeyStopsAllCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(status(401))
		rt := chainTo(cloud)
		mustAnswer(t, rt, 401)
		until := time.Now().Add(time.Minute)
		for range 20 {
			mustBeHeld(t, rt, until)
		}
		pass(59 * time.Second)
		mustBeHeld(t, rt, until)
		if cloud.count() != 1 {
			t.Errorf("%d calls reached the cloud, want one", cloud.count())
		}
	})
}

func TestTheErrorOfACallHeldBackSaysWhyAndUntilWhen(t *testing.T) {
	until := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	for why, want := range map[Verdict]string{
		Refused: "the cloud has refused the engine's access key since 2026-03-04T03:06:07Z; " +
			"one call tries at 2026-03-04T04:06:07Z and none before, so that the account does not get locked",
		Unclear: "the cloud has not known the engine's access key since 2026-03-04T03:06:07Z; " +
			"one call tries at 2026-03-04T04:06:07Z and none before, so that the account does not get locked",
		Locked: "refused keys, of whichever program, have locked the API, which says nothing of the engine's own key; one call tries at 2026-03-04T04:06:07Z",
		WrongTime: "the cloud finds the time of the requests wrong, which says nothing of the engine's key; " +
			"one call tries at 2026-03-04T04:06:07Z, or once this machine's clock has been set",
	} {
		if err := (&BreakerOpenError{Why: why, Since: until.Add(-time.Hour), Until: until}); err.Error() != want {
			t.Errorf("got %q", err)
		}
	}
}

func TestOneCallAloneIsTriedAfterThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan int)
		cloud := &script{play: func(n int, _ *http.Request) (*http.Response, error) {
			if n == 0 {
				return answer(401), nil
			}
			return answer(<-answers), nil
		}}
		rt := chainTo(cloud)
		mustAnswer(t, rt, 401)
		pass(time.Minute)
		var r results
		r.call(t, rt, 10)
		if cloud.count() != 2 {
			t.Fatalf("%d calls were tried, want one alone", cloud.count()-1)
		}
		answers <- 200
		if got := r.wait(); got[200] != 1 || got[0] != 9 {
			t.Errorf("got %v, want one answer and nine held back", got)
		}
		close(answers)
		cloud.play = plays(status(200)).play
		var again results
		again.call(t, rt, 10)
		if got := again.wait(); got[200] != 10 {
			t.Errorf("after the key was accepted got %v, want all sent", got)
		}
	})
}

func TestTriesComeAfter1And16And32And64MinutesADayApartAtMostAndASuccessResetsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(status(401))
		rt := chainTo(cloud)
		for _, minutes := range []int{1, 15, 16, 32, 64, 128, 256, 512, 1024, 24 * 60, 24 * 60} {
			pause := time.Duration(minutes) * time.Minute
			mustAnswer(t, rt, 401)
			mustBeHeld(t, rt, time.Now().Add(pause))
			pass(pause)
		}
		cloud.play = plays(status(200)).play
		mustAnswer(t, rt, 200)
		cloud.play = plays(status(401)).play
		mustAnswer(t, rt, 401)
		mustBeHeld(t, rt, time.Now().Add(time.Minute))
	})
}

// proven is a chain whose key the cloud has accepted once, so that calls go side by side.
func proven(t *testing.T, cloud *script) http.RoundTripper {
	t.Helper()
	play := cloud.play
	cloud.play = plays(status(200)).play
	rt := chainTo(cloud)
	mustAnswer(t, rt, 200)
	cloud.play, cloud.attempts = play, nil
	return rt
}

func TestTheFirstCallGoesAloneUntilTheCloudHasKnownTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan int)
		cloud := &script{play: func(int, *http.Request) (*http.Response, error) { return answer(<-release), nil }}
		var r results
		r.call(t, chainTo(cloud), 5)
		if cloud.count() != 1 {
			t.Fatalf("%d calls were sent with a key that may be dead", cloud.count())
		}
		for range 5 {
			release <- 200
		}
		if got := r.wait(); got[200] != 5 {
			t.Errorf("got %v", got)
		}
	})
}

func TestRefusalsOfCallsUnderWayTogetherOpenOnceAndAllCount(t *testing.T) {
	for calls, pause := range map[int]time.Duration{2: time.Minute, 3: 30 * time.Minute, 4: 30 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			cloud := &script{play: func(int, *http.Request) (*http.Response, error) {
				<-release
				return answer(401), nil
			}}
			rt := proven(t, cloud)
			var r results
			r.call(t, rt, calls)
			close(release)
			if got := r.wait(); got[401] != calls {
				t.Fatalf("got %v", got)
			}
			mustBeHeld(t, rt, time.Now().Add(pause))
		})
	}
}

func TestNoMoreCallsThanAllowedAreUnderWayAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		cloud := &script{play: func(int, *http.Request) (*http.Response, error) {
			<-release
			return answer(200), nil
		}}
		rt := &inFlight{next: cloud, slots: make(Slots, 2)}
		var r results
		r.call(t, rt, 5)
		if cloud.count() != 2 {
			t.Errorf("%d calls are under way", cloud.count())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var notSent *NotSentError
		if _, err := call(t, ctx, rt); !errors.As(err, &notSent) {
			t.Errorf("got %v of a call that ended while it waited", err)
		}
		close(release)
		if got := r.wait(); got[200] != 5 {
			t.Errorf("got %v", got)
		}
	})
}

func TestACallQueuedBehindARefusalIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(status(401))
		p := NewPacer(1)
		mustPass(t, p) // so that all must wait for their turn
		rt := chainTo(cloud, func(o *Options) { o.Pacer = p })
		var r results
		r.call(t, rt, 50)
		if got := r.wait(); got[401] != 1 || got[0] != 49 || cloud.count() != 1 {
			t.Errorf("got %v; %d calls with a refused key reached the cloud, want one", got, cloud.count())
		}
	})
}

func TestAProbeWithoutAVerdictLetsTheNextCallTry(t *testing.T) {
	probes := map[string]outcome{
		"a network error":                        {err: io.ErrUnexpectedEOF},
		"an answer that says nothing of the key": {status: 502},
	}
	for name, probe := range probes {
		for _, first := range []int{400, 401} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cloud := plays(status(first), probe, status(first), status(200))
					b := guarded(cloud)
					if first == 400 { // the call itself is the probe
						_, _ = call(t, t.Context(), b)
					} else {
						mustAnswer(t, b, 401)
						pass(time.Minute)
						_, _ = call(t, t.Context(), b)
					}
					_, _ = call(t, t.Context(), b) // the next, at once
					if cloud.count() != 3 {
						t.Fatalf("got %d attempts, want a third", cloud.count())
					}
					_, err := call(t, t.Context(), b)
					var held *BreakerOpenError
					if !errors.As(err, &held) {
						t.Errorf("got %v: the probe without a verdict has closed the breaker", err)
					}
				})
			})
		}
	}
}

func TestAnAnswerThatSaysNothingOfTheKeyChangesNothing(t *testing.T) {
	rt := chainTo(plays(status(502), status(502), status(200)))
	for _, want := range []int{502, 502, 200} {
		mustAnswer(t, rt, want)
	}
}

func TestGoodNewsOlderThanTheRefusalDoesNotCloseTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		cloud := &script{play: func(n int, _ *http.Request) (*http.Response, error) {
			if n == 0 {
				<-release
				return answer(200), nil
			}
			return answer(401), nil
		}}
		rt := proven(t, cloud)
		var r results
		r.call(t, rt, 1)
		mustAnswer(t, rt, 401)
		close(release)
		if got := r.wait(); got[200] != 1 {
			t.Fatalf("got %v", got)
		}
		mustBeHeld(t, rt, time.Now().Add(time.Minute))
	})
}

func TestACallThatWaitsForAProbeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		cloud := &script{play: func(n int, _ *http.Request) (*http.Response, error) {
			if n == 0 {
				return answer(400), nil
			}
			<-release
			return answer(200), nil
		}}
		rt := chainTo(cloud)
		var r results
		r.call(t, rt, 1)
		pass(2*time.Second + time.Millisecond)
		for _, wait := range []time.Duration{time.Second, 5 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			start := time.Now()
			_, err := call(t, ctx, rt)
			cancel()
			var notSent *NotSentError
			if !errors.As(err, &notSent) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != wait {
				t.Errorf("got %v after %s, want the context's end after %s", err, time.Since(start), wait)
			}
		}
		close(release)
		if got := r.wait(); got[200] != 1 {
			t.Errorf("got %v", got)
		}
	})
}

func TestABreakerSerialisesAnythingThatMayHappen(t *testing.T) {
	// Whatever the answers, never more than one call is under way while the key is
	// in doubt.
	outcomes := [][]int{{401, 401}, {400, 400}, {400, 200, 401}, {502, 401, 502, 502, 401}, {400, 502, 400}}
	for _, codes := range outcomes {
		synctest.Test(t, func(t *testing.T) {
			var times []time.Time
			cloud := &script{}
			cloud.play = func(n int, _ *http.Request) (*http.Response, error) {
				times = append(times, time.Now())
				return answer(codes[min(n, len(codes)-1)]), nil
			}
			rt := chainTo(cloud, func(o *Options) { o.Pacer = NewPacer(1) })
			for range 20 {
				var r results
				r.call(t, rt, 5)
				r.wait()
				pass(30 * time.Second)
			}
			refusals := 0
			for n := range times {
				if code := codes[min(n, len(codes)-1)]; code == 401 || code == 400 {
					refusals++
				}
			}
			if refusals >= lockingRefusal { // within ten minutes
				t.Errorf("%v: the refused key was used %d times in ten minutes", codes, refusals)
			}
			if !slices.IsSortedFunc(times, time.Time.Compare) {
				t.Error("calls overtook each other")
			}
		})
	}
}

// A cloud that refuses a key by mistake for an hour must not have the key end while nobody tries it: it could not replace itself any more.
// The fourth refusal locks the account, and does so in the first half hour for no key.
func TestARefusedKeyIsTriedOnceMoreBeforeItEnds(t *testing.T) {
	cases := map[string]struct {
		cloud *script
		ends  time.Duration
		held  []time.Duration // until when after each call, since the first
	}{
		"a refused key": {
			plays(status(401)), 15 * time.Minute, []time.Duration{time.Minute, 12 * time.Minute, 30 * time.Minute, time.Hour},
		},
		"one that the cloud does not know, and that was tried twice within two seconds": {
			plays(status(400), status(400), status(401)), 15 * time.Minute, []time.Duration{12 * time.Minute, 30 * time.Minute, time.Hour},
		},
		"one that ends after the third try, and before a fourth may be": {
			plays(status(401)), 25 * time.Minute, []time.Duration{time.Minute, 16 * time.Minute, 32 * time.Minute},
		},
		"one that a burst had refused twice, and that ends much later: it may be good": {
			plays(status(400), status(400), status(401)), 32 * time.Minute,
			[]time.Duration{15*time.Minute + unclearPause, 30*time.Minute + 2*unclearPause},
		},
		"one that lives long enough for a fourth": {
			plays(status(401)), 50 * time.Minute, []time.Duration{time.Minute, 16 * time.Minute, 32 * time.Minute, 47 * time.Minute},
		},
		"one that ends too soon for a last try": {
			plays(status(401)), 4 * time.Minute, []time.Duration{time.Minute, 16 * time.Minute, 32 * time.Minute},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt, began := guarded(test.cloud), time.Now()
				rt.EndsAt(began.Add(test.ends), new(Clock))
				for _, until := range test.held {
					_, _ = call(t, t.Context(), rt)
					mustBeHeld(t, rt, began.Add(until))
					pass(time.Until(began.Add(until)))
				}
			})
		})
	}
}

func TestAKeyThatEndsSoonIsNotTriedBeforeThatWhereItsTriesAreUsedUp(t *testing.T) {
	for _, calls := range []int{3, 4} { // the last of which is the one that is tried, while refusals of others still come
		synctest.Test(t, func(t *testing.T) {
			b, now := NewBreaker(), time.Now()
			b.EndsAt(now.Add(15*time.Minute), new(Clock))
			for range calls - 1 {
				b.leave(ticket{}, Refused, 0)
			}
			b.leave(ticket{changes: b.changes, probe: true}, Refused, 0)
			if hold, _ := b.Hold(); !hold.Until.Equal(now.Add(unlockedTime)) {
				t.Errorf("after %d refusals the next try is at %s", calls, hold.Until)
			}
		})
	}
}

func TestTheEndOfAKeyIsByTheCloudsClockThatTheRefusalShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuses := &script{play: func(int, *http.Request) (*http.Response, error) {
			resp := answer(http.StatusUnauthorized)
			resp.Header = dated(time.Now().Add(10 * time.Minute))
			return resp, nil
		}}
		b, clock, began := NewBreaker(), new(Clock), time.Now()
		b.EndsAt(began.Add(25*time.Minute), clock) // before any answer has come: a client makes no call when it is made
		rt := chainTo(refuses, func(o *Options) {
			o.Breaker, o.Clock, o.Own = b, clock, func(*http.Response) bool { return true }
		})
		for _, minutes := range []time.Duration{1, 12} { // three before the end, which this machine's clock shows at 15
			mustAnswer(t, rt, http.StatusUnauthorized)
			mustBeHeld(t, rt, began.Add(minutes*time.Minute))
			pass(time.Until(began.Add(minutes * time.Minute)))
		}
	})
}

func TestAWantedTryIsGivenOnceInAQuarterOfAnHourAfterTheFirstThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(status(401))
		g, began := guarded(cloud), time.Now()
		for _, minute := range []time.Duration{0, 1, 16} {
			pass(time.Until(began.Add(minute * time.Minute)))
			mustAnswer(t, g, 401)
		}
		want := func(sent int) {
			t.Helper()
			_, _ = call(t, WithNow(t.Context()), g)
			if cloud.count() != sent {
				t.Errorf("%d calls after %s, want %d", cloud.count(), time.Since(began), sent)
			}
		}
		want(3) // the fourth in half an hour
		pass(time.Until(began.Add(31 * time.Minute)))
		want(4)
		want(4)
		pass(15 * time.Minute)
		want(5)
	})
}
