// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

func TestALockedAPIIsTriedAgainWhenItSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		header string
		pause  time.Duration
	}{
		"after the seconds that it says":             {"90", 90 * time.Second},
		"after an hour where it says none":           {"", time.Hour},
		"after an hour at most":                      {"86400000", time.Hour},
		"and after no refusal of the key either":     {"60", time.Minute},
		"however often it is said, after a second":   {"1", time.Second},
		"also where it is locked until support does": {"0", time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				locked := outcome{status: 423, header: retryAfterHeader(test.header)}
				cloud := plays(locked, locked, locked, locked, locked, status(200))
				rt := chainTo(cloud)
				for range 5 { // which says nothing of the key, and so makes no pause longer
					mustAnswer(t, rt, 423)
					mustBeHeld(t, rt, time.Now().Add(test.pause))
					pass(test.pause)
				}
				var r results
				r.call(t, rt, 1)
				r.call(t, rt, 10)
				if got := r.wait(); got[200] != 11 {
					t.Errorf("got %v once the lock is over", got)
				}
			})
		})
	}
}

func TestALockDoesNotForgetThatTheKeyWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := chainTo(plays(status(401), outcome{status: 423, header: retryAfterHeader("60")}, status(401)))
		for _, step := range []struct {
			status int
			pause  time.Duration
		}{{401, time.Minute}, {423, time.Minute}, {401, 15 * time.Minute}, {401, 17 * time.Minute}} {
			mustAnswer(t, rt, step.status)
			mustBeHeld(t, rt, time.Now().Add(step.pause))
			pass(step.pause)
		}
	})
}

// together answers the first calls, which are under way together, in their order, and all others with what comes later.
func together(first []outcome, later outcome) *script {
	cloud := plays(append(slices.Clone(first), later)...)
	play := cloud.play
	cloud.play = func(n int, r *http.Request) (*http.Response, error) {
		if n < len(first) {
			pass(time.Duration(n+1) * time.Millisecond)
		}
		return play(n, r)
	}
	return cloud
}

func TestARefusalThatComesBehindOneThatTellsNothingOfTheKeyIsTheFirst(t *testing.T) {
	for name, before := range map[string]outcome{
		"a lock":                               {status: 423, header: retryAfterHeader("60")},
		"a wrong time that is had again":       {status: 425, header: retryAfterHeader("60")},
		"a wrong time that is had in a second": {status: 425, header: retryAfterHeader("1")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt := proven(t, together([]outcome{before, status(401)}, status(401)))
				var r results
				r.call(t, rt, 2)
				r.wait()
				since := time.Now()
				for _, minutes := range []time.Duration{1, 16, 32, 64} {
					until := since.Add(minutes * time.Minute)
					_, err := call(t, t.Context(), rt)
					if held := new(BreakerOpenError); !errors.As(err, &held) || held.Why != Refused || !held.Since.Equal(since) || !held.Until.Equal(until) {
						t.Fatalf("got %v, want it to be held as refused since %s, until %s", err, since, until)
					}
					pass(time.Until(until))
					mustAnswer(t, rt, 401)
				}
			})
		})
	}
}

func TestARefusalThatMakesNoPauseLongerIsAChangeAsWell(t *testing.T) {
	b, changes := NewBreaker(), 0
	b.OnHold(func() { changes++ })
	b.leave(ticket{}, Locked, 10*time.Minute)
	before := changes
	b.leave(ticket{}, Refused, 0) // of a call that was under way
	if hold, _ := b.Hold(); changes == before || hold.Refusals != 1 || hold.Why != provider.KindKeyRefused {
		t.Errorf("%d changes, then %d: %+v", before, changes, hold)
	}
}

func TestAWrongTimeIsTriedAgainEachMinuteWhereItDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := chainTo(plays(outcome{status: 425, header: retryAfterHeader("60")}))
		for range 20 {
			mustAnswer(t, rt, 425)
			mustBeHeld(t, rt, time.Now().Add(time.Minute))
			pass(time.Minute)
		}
	})
}

func TestAWrongTimeThatCountsIsTriedAgainLikeARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := chainTo(plays(status(425)))
		for _, pause := range []time.Duration{time.Minute, 15 * time.Minute, 16 * time.Minute} {
			mustAnswer(t, rt, 425)
			mustBeHeld(t, rt, time.Now().Add(pause))
			pass(pause)
		}
	})
}

func TestACallTriesAsSoonAsThisMachinesClockHasBeenSet(t *testing.T) {
	for _, step := range []time.Duration{-20 * time.Minute, 20 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			cloud := plays(status(425), status(200))
			g := guarded(cloud)
			mustAnswer(t, g, 425)
			pass(30 * time.Second)
			mustBeHeld(t, g, time.Now().Add(30*time.Second))
			g.wall = g.wall.Add(step)
			mustAnswer(t, g, 200)
		})
	}
}

func TestNoRefusedKeyLocksWithinHalfAnHourHoweverItDies(t *testing.T) {
	dies := map[string]struct {
		first []outcome // answers of calls under way together
		later outcome
	}{
		"refused":                              {[]outcome{status(401)}, status(401)},
		"unclear":                              {[]outcome{status(400)}, status(400)},
		"unclear, then refused":                {[]outcome{status(400)}, status(401)},
		"refused twice at once":                {[]outcome{status(401), status(401)}, status(401)},
		"unclear twice at once":                {[]outcome{status(400), status(400)}, status(400)},
		"unclear and refused at once":          {[]outcome{status(400), status(401)}, status(401)},
		"refused three times at once":          {[]outcome{status(401), status(401), status(401)}, status(401)},
		"its time wrong, with no word of that": {[]outcome{status(425)}, status(425)},
		"refused behind a lock":                {[]outcome{{status: 423, header: retryAfterHeader("60")}, status(401)}, status(401)},
	}
	for name, death := range dies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := together(death.first, death.later)
				rt := proven(t, cloud)
				var r results
				r.call(t, rt, len(death.first))
				start := time.Now()
				pass(time.Second)
				for time.Since(start) < 29*time.Minute+55*time.Second {
					r.call(t, rt, 3)
					pass(time.Second)
				}
				r.wait()
				refusals := cloud.count()
				for _, first := range death.first {
					if first.status == 423 { // which is no news of the key
						refusals--
					}
				}
				if refusals >= lockingRefusal || refusals < lockingRefusal-1 {
					t.Errorf("%d refusals in half an hour", refusals)
				}
			})
		})
	}
}
