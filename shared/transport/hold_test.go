// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// A test cannot set the clock. What tells is the monotonic reading, by which package time compares where there is one (Time.String).
func TestSettingTheClockMovesNoHold(t *testing.T) {
	isSteady := func(t *testing.T, what string, at time.Time) {
		t.Helper()
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s is %s, which moves with the clock", what, at)
		}
	}
	t.Run("one that was stored, and resumed by another process", func(t *testing.T) {
		now := time.Now()
		stored, err := json.Marshal(provider.Hold{Why: provider.KindKeyRefused, Refusals: 3, Since: now.Add(-time.Hour), Until: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		var hold provider.Hold
		if err := json.Unmarshal(stored, &hold); err != nil {
			t.Fatal(err)
		}
		b := NewBreaker()
		b.Resume(hold)
		got, held := b.Hold()
		if !held || !got.Since.Equal(hold.Since) || !got.Until.Equal(hold.Until) {
			t.Errorf("got %+v, want %+v", got, hold)
		}
		isSteady(t, "the first refusal", got.Since)
		isSteady(t, "the next try", got.Until)
	})
	t.Run("one before the end of the key, which the cloud has told as a date", func(t *testing.T) {
		b := NewBreaker()
		ends := time.Now().Add(10 * time.Minute).Round(0)
		b.EndsAt(ends, new(Clock))
		next := b.beforeEnd(time.Now().Add(time.Hour))
		if !next.Equal(ends.Add(-lastTry)) {
			t.Errorf("got %s, want %s before %s", next, lastTry, ends)
		}
		isSteady(t, "the last try", next)
	})
	t.Run("a lock that was never of the key has no first refusal", func(t *testing.T) {
		b := NewBreaker()
		b.Resume(provider.Hold{Why: provider.KindLockedOut, Until: time.Now().Add(time.Minute).Round(0)})
		if got, _ := b.Hold(); !got.Since.IsZero() {
			t.Errorf("got %+v", got)
		}
	})
}

// What was stored under a clock that was ahead says so itself where its first refusal lies in the future. Who resumes it was not there when
// the clock was set.
func TestAResumedHoldDoesNotOutlastAClockThatWasWrong(t *testing.T) {
	for name, test := range map[string]struct {
		why          provider.Kind
		refusals     int
		since, until time.Duration // from now on
		want         time.Duration
		last         time.Duration
	}{
		"a wrong time that was refused three times": {provider.KindClockWrong, 3, 43 * time.Minute, 75 * time.Minute, 30 * time.Minute, 0},
		"and once":                              {provider.KindClockWrong, 1, -time.Second, time.Minute, time.Minute, 0},
		"and once, by a cloud that counts none": {provider.KindClockWrong, 0, 0, time.Minute, time.Minute, 0},
		"and four times, the last just now":     {provider.KindClockWrong, 4, -64 * time.Minute, 64 * time.Minute, 30 * time.Minute, 0},
		"and four times, the last long ago":     {provider.KindClockWrong, 4, -3 * time.Hour, time.Hour, 0, -time.Hour},
		"a refused key":                         {provider.KindKeyRefused, 3, 43 * time.Minute, 75 * time.Minute, 32 * time.Minute, 0},
		"a refused key, by a good clock":        {provider.KindKeyRefused, 2, -time.Minute, 15 * time.Minute, 15 * time.Minute, 0},
		"one of a clock that was years ahead":   {provider.KindKeyRefused, 1, 365 * 24 * time.Hour, 366 * 24 * time.Hour, 0, 0},
		"and its three tries are used up":       {provider.KindKeyRefused, 3, 365 * 24 * time.Hour, 366 * 24 * time.Hour, 30 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				hold := provider.Hold{Why: test.why, Refusals: test.refusals, Until: now.Add(test.until)}
				if test.refusals > 0 {
					hold.Since = now.Add(test.since)
				}
				if test.last != 0 {
					hold.Last = now.Add(test.last)
				}
				g := guarded(plays(status(200)))
				g.Resume(hold)
				if test.want > 0 {
					mustBeHeld(t, g, now.Add(test.want))
					pass(test.want)
				}
				mustAnswer(t, g, 200)
			})
		})
	}
}
