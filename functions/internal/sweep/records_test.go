// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// What earlier runs have recorded is all that some keys are judged by: one run that goes wrong must not lose it.
func TestARunThatEndsByAnErrorForgetsNothing(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		last := w.orphan("zoe", ahead(90*dayLong)) // the walk has seen others before it comes to her
		noticed := w.orphan("ci", ahead(90*dayLong))
		before := State{
			LedgerKeys: 3,
			Inactive:   map[string]time.Time{last: time.Now().Add(-dayLong)},
			Refused:    map[string]Refusal{last: {2, time.Now().Add(-dayLong)}},
			Notified:   map[string]time.Time{last: time.Now().Add(-dayLong), noticed: time.Now().Add(-dayLong)},
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
			after.Notified[noticed].IsZero() || after.Drifted[last] != 2 || after.DriftedAt[last].IsZero() {
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

// unreadable has one user's keys denied to the sweep, so that no run sees the whole account.
func (w *world) unreadable(t *testing.T) {
	t.Helper()
	w.account.AddUser("odd")
	w.wrap(func(c fleet.Cloud) fleet.Cloud {
		return oddOne{c, "odd", &provider.Error{Kind: provider.KindDenied, Op: "ReadAccessKeys"}}
	})
}

func TestARunThatDoesNotSeeAllForgetsWhatItHasSeenToBeOver(t *testing.T) {
	t.Run("a key that is in use again gets a quarantine and a notice of its own when it is to go once more", func(t *testing.T) {
		withNotice(t, func(t *testing.T, w *world, o *owners) {
			w.job.Settings.Foreign, w.job.Settings.UsedWithin = settings.Enforce, 7*dayLong
			var used time.Time
			w.unreadable(t)
			w.wrap(func(c fleet.Cloud) fleet.Cloud { return witness{forgetful{c}, used, nil} })
			w.lease("other")
			id := w.add(cloudsim.KeySpec{User: "ci", Created: time.Now().Add(-100 * dayLong)})
			nights := func(n int, state string) {
				for range n {
					w.mustRun(t)
					w.mustBe(t, id, state)
					<-time.After(dayLong)
				}
			}
			nights(3, cloudsim.Active) // told
			nights(1, cloudsim.Inactive)
			w.account.SwitchKey(id, true)
			used = time.Now()
			nights(1, cloudsim.Active)
			if state := w.ledger.states["default"]; state.recorded(id) {
				t.Errorf("what was known of a key that stays is still remembered: %+v", state)
			}
			<-time.After(8 * dayLong)
			nights(3, cloudsim.Active)
			if len(o.sent) != 2 {
				t.Errorf("%d messages were sent, want one before each time", len(o.sent))
			}
			nights(7, cloudsim.Inactive)
			nights(1, "deleted")
			if state := w.ledger.states["default"]; state.recorded(id) {
				t.Errorf("what was known of a deleted key is still remembered: %+v", state)
			}
		})
	})
	t.Run("a delete that was refused and then not reached is still refused", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			id := w.orphan("deploy", ahead(90*dayLong))
			plan := w.planned(t)
			w.ledger.states["default"] = State{Refused: map[string]Refusal{id: {2, time.Now().Add(-dayLong)}}}
			ctx, cancel := context.WithTimeout(t.Context(), w.job.Settings.Reserve)
			defer cancel()
			result, err := w.apply(t, ctx, plan)
			if left := w.ledger.states["default"].Refused[id]; err != nil || result.Total().NotReached != 1 || left.Times != 2 {
				t.Errorf("got %+v and error %v, and there is left %+v", result.Total(), err, left)
			}
		})
	})
	t.Run("a key whose owner is not known yet keeps its records", func(t *testing.T) {
		w := newWorld(t)
		own := w.account.RootKey().AccessKey
		w.wrap(func(c fleet.Cloud) fleet.Cloud { return nameless{c} })
		w.orphan("deploy", ahead(90*dayLong))
		w.job.Resume = map[string]string{"default": "deploy"}
		w.ledger.states["default"] = State{Inactive: map[string]time.Time{own: time.Now().Add(-dayLong)}}
		_, found := w.mustRun(t)
		if left := w.ledger.states["default"]; found[own].Class != ClassUnclear || left.Inactive[own].IsZero() {
			t.Errorf("got %+v, and there is left %+v", found[own], left)
		}
	})
}

// nameless does not tell whose key signs.
type nameless struct{ fleet.Cloud }

func (n nameless) WhoAmI(ctx context.Context) (provider.Whoami, error) {
	who, err := n.Cloud.WhoAmI(ctx)
	who.Identity = provider.Identity{}
	return who, err
}
