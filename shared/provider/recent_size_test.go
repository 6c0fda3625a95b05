// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// addMany adds so many, under names that were not there, and tells what that takes at best.
func addMany(r *Recent, count int, prefix string) time.Duration {
	best := time.Hour
	for run := range 5 {
		started := time.Now()
		for i := range count {
			r.Add(fmt.Sprintf("%s-%d-%d", prefix, run, i))
		}
		best = min(best, time.Since(started))
	}
	return best
}

func TestWhatWasMadeIsRememberedWithoutALookAtAllThatWas(t *testing.T) {
	few, many := new(Recent), new(Recent)
	addMany(many, 2000, "before")
	ofFew, ofMany := addMany(few, 1000, "key"), addMany(many, 1000, "key")
	if ofMany > 20*ofFew {
		t.Errorf("a thousand more take %s after ten thousand, and %s after none", ofMany, ofFew)
	}
}

func TestWhatHasSettledTakesNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(Recent)
		for i := range 10_000 {
			r.Add(fmt.Sprint(i))
			<-time.After(Settling / 50)
		}
		if len(r.made) > 2*leastRecent {
			t.Errorf("%d are kept, of which fifty are recent", len(r.made))
		}
	})
}
