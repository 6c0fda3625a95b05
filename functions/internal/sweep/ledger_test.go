// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
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
