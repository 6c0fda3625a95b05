// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// The names of these subtests are those of the bugs that other clean-up tools have had.
func TestASweepDoesNotRepeatTheMistakesOfOthers(t *testing.T) {
	t.Run("own key never planned", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.MinAge, w.job.Settings.MaxAge, w.job.Settings.Foreign = 0, time.Nanosecond, settings.Enforce
		engine := w.add(cloudsim.KeySpec{User: "engine"})
		w.job.Accounts[0].EngineKeys = []string{engine}
		former := w.add(cloudsim.KeySpec{User: "engine", Tag: ours(keylabel.KindRoot)})
		w.ledger.entries = []fleet.LedgerKey{{AccessKey: former, Kind: "root"}}
		_, found := w.mustRun(t)
		mustBeClass(t, found[w.account.RootKey().AccessKey], ClassOwn, ActionKeep)
		mustBeClass(t, found[engine], ClassEngine, ActionKeep)
		mustBeClass(t, found[former], ClassEngine, ActionKeep)
		if len(w.changes()) != 0 {
			t.Errorf("got %+v", w.changes())
		}
	})

	t.Run("lease listed late is not an orphan", func(t *testing.T) {
		w := newWorld(t)
		w.lease("other")
		id := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(dayLong)})
		var listed atomic.Bool // the users are looked at side by side
		w.cloud.OnAnswer(func(call cloudsim.Call) {
			if call.Op == "ReadAccessKeys" {
				listed.Store(true)
			}
		})
		w.ledger.onAsk = func() { // the entry is written after the cloud was listed
			if !listed.Load() {
				t.Error("the ledger was asked before the cloud")
			}
			if len(w.ledger.entries) == 1 {
				w.ledger.entries = append(w.ledger.entries, fleet.LedgerKey{AccessKey: id, Kind: "lease", User: "deploy"})
			}
		}
		_, found := w.mustRun(t)
		mustBeClass(t, found[id], ClassLeased, ActionKeep)
	})

	t.Run("> 100 users/paging", func(t *testing.T) {
		w := newWorld(t)
		var ids []string
		for i := range 250 {
			ids = append(ids, w.add(cloudsim.KeySpec{User: userName(i)}))
		}
		last := w.orphan(userName(249), ahead(dayLong))
		_, found := w.mustRun(t)
		for _, id := range ids {
			mustBeClass(t, found[id], ClassForeign, ActionKeep)
		}
		mustBeClass(t, found[last], ClassOrphan, ActionDeactivate)
		w.mustBe(t, last, cloudsim.Inactive)
	})

	t.Run("a static role's key that was handed over is foreign", func(t *testing.T) {
		w := newWorld(t)
		w.lease("other")
		given := keylabel.HandedOver(ours(keylabel.KindStatic))
		id := w.add(cloudsim.KeySpec{User: "db", Tag: given, Expires: ahead(30 * dayLong)})
		ended := w.add(cloudsim.KeySpec{User: "db", Tag: given, Expires: ahead(-dayLong)})
		old := w.add(cloudsim.KeySpec{User: "db", Tag: given, Created: time.Now().Add(-100 * dayLong)})
		_, found := w.mustRun(t)
		mustBeClass(t, found[id], ClassForeign, ActionKeep)
		mustBeClass(t, found[ended], ClassExpired, ActionFlag)
		mustBeClass(t, found[old], ClassOverAge, ActionFlag)
		if len(w.changes()) != 0 {
			t.Errorf("got %+v", w.changes())
		}
	})

	t.Run("user with 1 old + 1 fresh key loses only the old", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Foreign = settings.Enforce
		old := w.add(cloudsim.KeySpec{User: "ci", Created: time.Now().Add(-100 * dayLong)})
		fresh := w.add(cloudsim.KeySpec{User: "ci", Created: time.Now().Add(-10 * dayLong)})
		_, found := w.mustRun(t)
		mustBeClass(t, found[old], ClassOverAge, ActionDeactivate)
		mustBeClass(t, found[fresh], ClassForeign, ActionKeep)
		w.mustBe(t, old, cloudsim.Inactive)
		w.mustBe(t, fresh, cloudsim.Active)
	})

	t.Run("exemption source unreadable → abort", func(t *testing.T) {
		w := newWorld(t)
		id := w.orphan("deploy", ahead(dayLong))
		w.cloud.Order(cloudsim.Fault{Op: "ReadApiAccessPolicy", Kind: cloudsim.Refuse, Status: 401, Code: "7"})
		_, _, err := w.run(t)
		mustSay(t, err, "reading the access policy")
		w.mustBe(t, id, cloudsim.Active)
	})

	t.Run("404/409 on delete idempotent", func(t *testing.T) {
		w := newWorld(t)
		gone, stuck := w.orphan("gone", ahead(dayLong)), w.orphan("stuck", ahead(dayLong))
		w.job.Settings.Quarantine = 0
		w.cloud.OnCall(func(call cloudsim.Call) {
			if call.Op == "DeleteAccessKey" {
				w.account.DeleteKey(gone)
			}
		})
		w.job.Settings.Workers = 1
		w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6007", Skip: 1})
		result, found := w.mustRun(t)
		if found[gone].Outcome != OutcomeDeleted || found[stuck].Outcome != OutcomeDeleteRefused || result.Total().Undeletable != 0 {
			t.Errorf("got %+v and %+v", found[gone], found[stuck])
		}
		w.mustBe(t, stuck, cloudsim.Inactive)
	})

	t.Run("deactivation request carries ExpirationDate", func(t *testing.T) {
		w := newWorld(t)
		expires := ahead(3 * dayLong)
		w.orphan("deploy", expires)
		w.mustRun(t)
		changes := w.changes()
		if len(changes) != 1 || changes[0].Op != "UpdateAccessKey" || !wireDate(t, changes[0]).Equal(expires) {
			t.Errorf("got %+v, want an update with %s", changes, expires)
		}
	})

	t.Run("a key without a date gets one that outlasts its quarantine", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Foreign = settings.Enforce
		w.add(cloudsim.KeySpec{User: "ci", Created: time.Now().Add(-100 * dayLong)})
		w.mustRun(t)
		if changes := w.changes(); len(changes) != 1 || time.Until(wireDate(t, changes[0])) < 7*dayLong {
			t.Errorf("got %+v", changes)
		}
	})

	t.Run("expired+ACTIVE classed expired", func(t *testing.T) {
		w := newWorld(t)
		w.lease("other")
		mine := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-2 * time.Hour)})
		theirs := w.add(cloudsim.KeySpec{User: "ci", Expires: ahead(-2 * time.Hour)})
		_, found := w.mustRun(t)
		mustBeClass(t, found[mine], ClassExpired, ActionRemove)
		mustBeClass(t, found[theirs], ClassExpired, ActionFlag)
		w.mustBe(t, mine, "deleted")
		w.mustBe(t, theirs, cloudsim.Active)
	})

	t.Run("an expired key whose deletion is refused is a result", func(t *testing.T) {
		w := newWorld(t)
		w.lease("other")
		id := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-2 * time.Hour)})
		w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6007"})
		_, found := w.mustRun(t)
		if found[id].Outcome != OutcomeDeleteRefused {
			t.Errorf("got %+v", found[id])
		}
		w.mustBe(t, id, cloudsim.Inactive)
		w.job.Store, w.job.Settings.Quarantine = nil, 0 // nobody remembers how often: it is said at once
		if _, found = w.mustRun(t); found[id].Outcome != OutcomeUndeletable {
			t.Errorf("got %+v", found[id])
		}
	})

	t.Run("Vault sealed/403/empty → abort: it cannot be read", func(t *testing.T) {
		for _, failure := range []string{"Error making API request. Code: 503. Vault is sealed", "Code: 403. permission denied"} {
			w := newWorld(t)
			id := w.orphan("deploy", ahead(dayLong))
			w.ledger.err = errors.New(failure)
			result, _, err := w.run(t)
			mustSay(t, err, "default", failure, "every leased key would look like an orphan")
			if result.Accounts[0].Problem == "" {
				t.Errorf("got %+v", result.Accounts)
			}
			w.mustBe(t, id, cloudsim.Active)
		}
	})

	t.Run("Vault sealed/403/empty → abort: it is empty", func(t *testing.T) {
		w := newWorld(t)
		id := w.orphan("deploy", ahead(dayLong))
		w.ledger.entries = nil
		result, found, err := w.run(t)
		mustSay(t, err, "the ledger of Vault is empty", "ALLOW_EMPTY_LEDGER")
		if len(w.changes()) != 0 || found[id].Outcome != OutcomeNotReached || result.Total().NotReached != 2 { // the lease looks like one too
			t.Errorf("got %+v and %+v", w.changes(), found[id])
		}
		w.job.Settings.AllowEmptyLedger = true
		w.mustRun(t)
		w.mustBe(t, id, cloudsim.Inactive)
	})

	t.Run("a ledger that has lost half of its keys aborts", func(t *testing.T) {
		w := newWorld(t)
		for i := range 12 {
			w.lease(userName(i))
		}
		w.mustRun(t)
		w.ledger.entries = w.ledger.entries[:5]
		_, _, err := w.run(t)
		mustSay(t, err, "knows 5 keys and knew 12", "7 keys would become orphans")
		if len(w.changes()) != 0 || w.ledger.states["default"].LedgerKeys != 12 {
			t.Errorf("got %+v and %+v", w.changes(), w.ledger.states)
		}
	})

	t.Run("clock skew", func(t *testing.T) {
		w := newWorld(t)
		w.lease("other")
		ended := w.add(cloudsim.KeySpec{User: "deploy", Expires: ahead(-59 * time.Minute)})
		unborn := w.add(cloudsim.KeySpec{
			User: "deploy", Tag: ours(keylabel.KindLease), Created: time.Now().Add(time.Minute),
			Expires: ahead(dayLong),
		})
		_, found := w.mustRun(t)
		mustBeClass(t, found[ended], ClassForeign, ActionKeep)
		mustBeClass(t, found[unborn], ClassYoung, ActionKeep)
	})

	t.Run("`ExpirationDate` with date-only form", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Mode = settings.Report
		w.account.AddUser("ci")
		body := `{"AccessKeys":[{"AccessKeyId":"DATEONLYAAAAAAAAAAAA","State":"ACTIVE","CreationDate":"2020-01-01",` +
			`"ExpirationDate":"2021-01-01"}],"ResponseContext":{}}`
		// Who signs takes two lists and the signing identity one; the next is the user's.
		w.cloud.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RubbishAnswer, Body: body, Skip: 3, Times: 1})
		_, found := w.mustRun(t)
		mustBeClass(t, found["DATEONLYAAAAAAAAAAAA"], ClassExpired, ActionFlag)
	})

	t.Run("duplicate delivery = same end state", func(t *testing.T) {
		w := newWorld(t)
		id := w.orphan("deploy", ahead(dayLong))
		w.mustRun(t)
		before, _ := w.account.Key(id)
		w.cloud.ResetCalls()
		_, found := w.mustRun(t)
		after, _ := w.account.Key(id)
		if before != after || len(w.changes()) != 0 {
			t.Errorf("got %+v and then %+v", before, after)
		}
		mustBeClass(t, found[id], ClassOrphan, ActionWait)
	})

	t.Run("deadline hits mid-apply → partial report, no key half-done unreported", deadlineHitsMidApply)

	t.Run("secrets/full key ids absent from logs, report, errors: errors", func(t *testing.T) {
		w := newWorld(t)
		id := w.orphan("deploy", ahead(dayLong))
		w.cloud.Order(cloudsim.Fault{
			Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 400, Code: "0",
			Body: `{"Errors":[{"Type":"X","Code":"0","Details":"key ` + id + `"}]}`,
		})
		result, found, err := w.run(t)
		mustSay(t, err, "could not change 1 keys")
		if found[id].Outcome != OutcomeFailed {
			t.Errorf("got %+v", found[id])
		}
		mustHide(t, w, err.Error()+found[id].Detail+result.Accounts[0].Problem)
	})
}

// deadlineHitsMidApply also wants the next run to go on. Nine calls of 60 ms fit into the
// 590 ms between the deadline and the reserve: the last tenth is for those that have begun.
func deadlineHitsMidApply(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.Settings.Workers, w.job.Settings.Reserve = 1, 200*time.Millisecond
		ids := []string{}
		for i := range 20 {
			ids = append(ids, w.orphan(userName(i), ahead(dayLong)))
		}
		w.cloud.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Delay, Delay: 60 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), 790*time.Millisecond)
		defer cancel()
		result, found, err := w.runIn(t, ctx)
		if err != nil || !result.Accounts[0].Partial {
			t.Fatalf("got %+v and error %v", result.Accounts, err)
		}
		for _, id := range ids {
			key, _ := w.account.Key(id)
			want := OutcomeNotReached
			if key.State == cloudsim.Inactive {
				want = OutcomeDeactivated
			}
			if found[id].Outcome != want {
				t.Errorf("the key is %s and reported as %s", key.State, found[id].Outcome)
			}
		}
		if n := result.Total(); n.Deactivated != 9 || n.NotReached != 11 {
			t.Errorf("got %+v", n)
		}
		w.mustRun(t)
		for _, id := range ids {
			w.mustBe(t, id, cloudsim.Inactive)
		}
	})
}

func mustHide(t *testing.T, w *world, text string) {
	t.Helper()
	hidden := w.cloud.Secrets()
	for _, key := range w.account.Keys() {
		hidden = append(hidden, key.ID)
	}
	for _, value := range hidden {
		if len(value) > 0 && strings.Contains(text, value) {
			t.Errorf("%s shows in %s", value, text)
		}
	}
}
