// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// populate makes users with all kinds of keys. No age or date is near a threshold, since
// the two runs that are compared do not begin in the same moment.
func (w *world) populate(random *rand.Rand) {
	w.lease("leaseholder")
	labels := []func() string{
		func() string { return "" },
		func() string { return ours(keylabel.KindLease) },
		func() string { return ours(keylabel.KindStatic) },
		func() string { return ours(keylabel.KindRoot) },
		func() string { return keylabel.New("OTHERAAAAAAAAAAA", keylabel.KindLease).String() },
		func() string { return "vault-keep-until=2999-01-01" },
		func() string { return "vault-keep-until=1999-01-01" },
	}
	pick := func(n int) int { return random.IntN(n) }
	for user := range 6 {
		for range pick(5) {
			now := time.Now()
			spec := cloudsim.KeySpec{User: userName(user), Tag: labels[pick(len(labels))](), Inactive: pick(3) == 0}
			spec.Created = now.Add(-[]time.Duration{time.Minute, 2 * dayLong, 8 * dayLong, 100 * dayLong}[pick(4)])
			spec.Expires = []time.Time{{}, ahead(-2 * dayLong), ahead(-time.Minute), ahead(dayLong)}[pick(4)]
			id := w.add(spec)
			if pick(3) == 0 {
				kind := []string{"lease", "static", "root"}[pick(3)]
				w.ledger.entries = append(w.ledger.entries, fleet.LedgerKey{AccessKey: id, Kind: kind, User: spec.User})
			}
		}
	}
}

func TestPlansDoNotDependOnTheMode(t *testing.T) {
	t.Run("dry-run plan == enforce plan", func(t *testing.T) {
		for seed := range uint64(16) {
			random := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t)
			w.populate(random)
			w.job.Settings.Foreign = []string{settings.Report, settings.Enforce}[random.IntN(2)]
			w.job.Settings.Quarantine = []time.Duration{0, 7 * dayLong}[random.IntN(2)]
			w.job.Settings.MaxPercent = []int{5, 100}[random.IntN(2)]

			w.job.Settings.Mode = settings.Report
			dryResult, dry := w.mustRun(t)
			if changes := w.changes(); len(changes) != 0 {
				t.Fatalf("seed %d: a report changed %+v", seed, changes)
			}
			before := w.account.Keys()
			w.job.Settings.Mode = settings.Enforce
			result, wet := w.mustRun(t)

			if len(dry) != len(wet) || dryResult.Accounts[0].Tripped != result.Accounts[0].Tripped {
				t.Fatalf("seed %d: got %d and %d findings", seed, len(dry), len(wet))
			}
			for id, f := range dry {
				if wet[id].Class != f.Class || wet[id].Action != f.Action || wet[id].Reason != f.Reason {
					t.Errorf("seed %d: planned %+v and then %+v", seed, f, wet[id])
				}
			}
			w.mustHaveChangedOnly(t, before, wet, result.Accounts[0].Tripped != "")
		}
	})
}

// mustHaveChangedOnly holds the cloud against the plan: what it names has changed as it
// says, and nothing else has.
func (w *world) mustHaveChangedOnly(t *testing.T, before []cloudsim.Key, plan map[string]Finding, refused bool) {
	t.Helper()
	for _, key := range before {
		want := key.State
		switch action := plan[key.ID].Action; {
		case refused:
		case action == ActionDeactivate:
			want = cloudsim.Inactive
		case action == ActionDelete, action == ActionRemove:
			want = "deleted"
		}
		w.mustBe(t, key.ID, want)
	}
}
