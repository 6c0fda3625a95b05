// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"errors"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// What earlier runs have recorded is all that some keys are judged by: one run that goes wrong must not lose it.
func TestARunThatEndsByAnErrorForgetsNothing(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		last := w.orphan("zoe", ahead(90*dayLong)) // the walk has seen others before it comes to her
		told := w.orphan("ci", ahead(90*dayLong))
		before := State{
			LedgerKeys: 3,
			Inactive:   map[string]time.Time{last: time.Now().Add(-dayLong)},
			Refused:    map[string]Refusal{last: {2, time.Now().Add(-dayLong)}},
			Notified:   map[string]time.Time{last: time.Now().Add(-dayLong), told: time.Now().Add(-dayLong)},
			Drifted:    map[string]int{last: 2},
			DriftedAt:  map[string]time.Time{last: time.Now().Add(-dayLong)},
		}
		w.ledger.states["default"] = before
		w.ledger.err = errors.New("Code: 503. Vault is sealed")
		if _, _, err := w.run(t); err == nil {
			t.Fatal("the ledger cannot be read, and nobody says so")
		}
		after := w.ledger.states["default"]
		if after.LedgerKeys != 3 || after.Inactive[last].IsZero() || after.Refused[last].Times != 2 || after.Notified[last].IsZero() ||
			after.Notified[told].IsZero() || after.Drifted[last] != 2 || after.DriftedAt[last].IsZero() {
			t.Errorf("of %+v there is left %+v", before, after)
		}
		w.ledger.err = nil
		<-time.After(2 * dayLong) // the notice is over
		w.mustRun(t)
		w.mustBe(t, last, cloudsim.Inactive)
		if len(o.sent) != 0 {
			t.Errorf("owners who had been told were told again: %+v", o.sent)
		}
	})
}
