// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package lifetime

import (
	"testing"
	"time"
)

func TestTheBackOffDoublesUpToItsLongest(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		-1: time.Minute, 0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 6: 32 * time.Minute, 7: time.Hour, 1 << 40: time.Hour,
	} {
		if got := Backoff(time.Minute, time.Hour, failures); got != want {
			t.Errorf("after %d failures: got %s, want %s", failures, got, want)
		}
	}
}

func TestADateFurtherAheadThanItsPeriodIsNotBelieved(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for ahead, waits := range map[time.Duration]bool{
		-time.Hour: false, 0: false, time.Second: true, time.Hour: true, time.Hour + 1: false, 365 * day: false,
	} {
		if got := Waits(now.Add(ahead), now, time.Hour); got != waits {
			t.Errorf("%s ahead, an hour at most: waits %t", ahead, got)
		}
	}
	if Waits(time.Time{}, now, time.Hour) {
		t.Error("no date waits")
	}
}
