// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestWithoutALedgerNothingIsAnOrphan(t *testing.T) {
	w := newWorld(t)
	w.job.Ledger = nil
	live := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(dayLong)})
	ended := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-dayLong)})
	_, found := w.mustRun(t)
	mustBeClass(t, found[live], ClassUnverified, ActionKeep)
	mustBeClass(t, found[ended], ClassExpired, ActionRemove)
}

// A key that somebody took the label off is still a lease.
func TestALeaseWithoutItsLabelIsFoundInTheLedger(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Foreign = settings.Enforce
	id := w.add(cloudsim.KeySpec{User: "deploy", Created: time.Now().Add(-100 * dayLong)})
	w.ledger.entries = []fleet.LedgerKey{{AccessKey: id, Kind: "static", User: "deploy", Role: "db"}}
	_, found := w.mustRun(t)
	mustBeClass(t, found[id], ClassStatic, ActionKeep)
}

// The engine's own identity has no name in its ledger, whoever that is to the sweep.
func TestALeaseOnTheEnginesOwnIdentityIsFoundInTheLedger(t *testing.T) {
	w := newWorld(t)
	id := w.add(cloudsim.KeySpec{User: "engine", Tag: ours(keylabel.KindLease), Expires: ahead(dayLong)})
	w.ledger.entries = []fleet.LedgerKey{{AccessKey: id, Kind: "lease", User: ""}}
	_, found := w.mustRun(t)
	mustBeClass(t, found[id], ClassLeased, ActionKeep)
}

func TestOnlyKeysThatTheirUsersPartLacksAreAskedForByTheirID(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Mode = settings.Report
	const users = 20
	for i := range users {
		w.orphan(userName(i), ahead(dayLong))
	}
	w.mustRun(t)
	if want := users + 1 + users; w.ledger.asked != want { // each user's part, the leaseholder's, each orphan
		t.Errorf("the ledger was asked %d times, want %d", w.ledger.asked, want)
	}
}

// An account that takes several parts is compared with its ledger all the same: what is lost shows in all of them together.
func TestALedgerThatHasLostHalfOfItsKeysIsDoubtedInPartsToo(t *testing.T) {
	const leases = 60
	inParts := func(t *testing.T, test func(t *testing.T, w *world)) {
		t.Helper()
		bubble(t, func(t *testing.T, w *world) {
			w.job.Settings.Workers, w.job.Settings.Mode = 1, settings.Report
			w.account.AddUser("functions", "api:Read*") // found by the first call that asks whose the key is
			w.signWith(t, w.account.AddKey(cloudsim.KeySpec{User: "functions", Expires: ahead(dayLong)}))
			for i := range leases {
				w.lease(userName(i))
			}
			w.cloud.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: 10 * time.Millisecond})
			test(t, w)
		})
	}
	// plan begins each part where the one before it ended, as often as it is told to, and returns what the last one says.
	plan := func(t *testing.T, w *world, attempts int) (last Result, err error) {
		t.Helper()
		for parts, cursor := 1, ""; parts < 20; parts++ {
			for range attempts {
				w.job.Resume = map[string]string{"default": cursor}
				ctx, cancel := context.WithTimeout(t.Context(), 1300*time.Millisecond) // one second is the reserve
				last, _, err = w.runIn(t, ctx)
				cancel()
			}
			if !last.Accounts[0].Partial {
				if parts < 3 {
					t.Fatalf("there are %d parts, which proves nothing", parts)
				}
				return last, err
			}
			if err != nil {
				t.Fatal(err)
			}
			cursor = last.Accounts[0].Cursor
		}
		t.Fatal("the parts come to no end")
		return last, err
	}
	mustPlan := func(t *testing.T, w *world, attempts int) {
		t.Helper()
		if _, err := plan(t, w, attempts); err != nil {
			t.Fatal(err)
		}
		if state := w.ledger.states["default"]; state.LedgerKeys != leases || len(state.Progress) > 10 {
			t.Errorf("the ledger knows %d keys, and the state is %+v", leases, state)
		}
	}
	t.Run("the last part says so, and is not planned", func(t *testing.T) {
		inParts(t, func(t *testing.T, w *world) {
			mustPlan(t, w, 1)
			w.ledger.entries = w.ledger.entries[:leases/2-1]
			result, err := plan(t, w, 1)
			mustSay(t, err, "knows 29 keys and knew 60", "31 keys would become orphans")
			if result.Total().Planned != 0 || w.ledger.states["default"].LedgerKeys != leases {
				t.Errorf("got %+v and %+v", result.Total(), w.ledger.states)
			}
			w.job.Settings.AllowEmptyLedger = true
			if _, err := plan(t, w, 1); err != nil || w.ledger.states["default"].LedgerKeys != 29 {
				t.Errorf("got %+v and error %v", w.ledger.states, err)
			}
		})
	})
	t.Run("a part that is tried again counts once", func(t *testing.T) {
		inParts(t, func(t *testing.T, w *world) {
			mustPlan(t, w, 2)
			w.ledger.entries = w.ledger.entries[:leases/2-1]
			_, err := plan(t, w, 2)
			mustSay(t, err, "knows 29 keys and knew 60", "31 keys would become orphans")
		})
	})
	t.Run("one that has lost fewer is believed", func(t *testing.T) {
		inParts(t, func(t *testing.T, w *world) {
			mustPlan(t, w, 1)
			w.ledger.entries = w.ledger.entries[:leases/2]
			if _, err := plan(t, w, 1); err != nil || w.ledger.states["default"].LedgerKeys != leases/2 {
				t.Errorf("got %+v and error %v", w.ledger.states, err)
			}
		})
	})
	t.Run("parts of which the first is missing are compared with nothing", func(t *testing.T) {
		inParts(t, func(t *testing.T, w *world) {
			mustPlan(t, w, 1)
			w.ledger.entries = w.ledger.entries[:leases/2-1]
			w.job.Resume = map[string]string{"default": userName(leases - 5)}
			if _, _, err := w.run(t); err != nil || w.ledger.states["default"].LedgerKeys != leases {
				t.Errorf("got %+v and error %v", w.ledger.states, err)
			}
		})
	})
}
