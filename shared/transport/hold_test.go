// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"encoding/json"
	"strings"
	"testing"
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
		b.EndsAt(ends)
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
