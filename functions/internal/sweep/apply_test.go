// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestAKeyGoesThroughQuarantine(t *testing.T) {
	w := newWorld(t)
	id := w.add(cloudsim.KeySpec{
		User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(30 * dayLong),
		Created: time.Now().Add(-8 * dayLong), Inactive: true,
	})
	w.lease("other")
	w.job.Settings.Quarantine = 9 * dayLong
	_, found := w.mustRun(t)
	mustBeClass(t, found[id], ClassOrphan, ActionWait)
	w.mustBe(t, id, cloudsim.Inactive)

	w.job.Settings.Quarantine = 8 * dayLong // it was last changed when it was made
	_, found = w.mustRun(t)
	mustBeClass(t, found[id], ClassOrphan, ActionDelete)
	w.mustBe(t, id, "deleted")
}

func TestAKeyThatEndsInQuarantineIsStillDeleted(t *testing.T) {
	w := newWorld(t, cloudsim.WithRules(cloudsim.Rules{RefuseExpiredDelete: true}))
	w.lease("other")
	w.job.Settings.Grace = 3 * dayLong // not yet expired to the sweep
	id := w.add(cloudsim.KeySpec{
		User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-dayLong),
		Created: time.Now().Add(-8 * dayLong), Inactive: true,
	})
	_, found := w.mustRun(t)
	mustBeClass(t, found[id], ClassOrphan, ActionDelete)
	w.mustBe(t, id, "deleted")
}

func TestCapsAreJudgedOverTheWholePlanBeforeTheFirstCall(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.orphan(userName(i), ahead(dayLong))
	}
	for _, change := range []func(*settings.Sweep){
		func(s *settings.Sweep) { s.MaxKeys = 4 },
		func(s *settings.Sweep) { s.MaxPercent = 71 }, // 5 of 7
	} {
		w.job.Settings.MaxKeys, w.job.Settings.MaxPercent = 5, 72
		change(&w.job.Settings)
		result, found := w.mustRun(t)
		if result.Accounts[0].Tripped == "" || len(w.changes()) != 0 {
			t.Errorf("got %+v and %+v", result.Accounts, w.changes())
		}
		for _, f := range found {
			if f.Action.Changes() && f.Outcome != OutcomeRefused {
				t.Errorf("got %+v", f)
			}
		}
	}
	w.job.Settings.MaxKeys, w.job.Settings.MaxPercent = 5, 72
	if result, _ := w.mustRun(t); result.Total().Deactivated != 5 {
		t.Errorf("got %+v", result.Total())
	}
}

func TestAUsersKeysAreReadAgainOnceForAllOfThem(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.orphan("deploy", ahead(dayLong))
	}
	result, _ := w.mustRun(t)
	reads := 0
	for _, call := range w.cloud.Calls() {
		if body := string(call.Body); call.Op == "ReadAccessKeys" && strings.Contains(body, `"deploy"`) && !strings.Contains(body, "Filters") {
			reads++
		}
	}
	if result.Total().Deactivated != 3 || len(w.changes()) != 3 || reads != 2 {
		t.Errorf("got %+v, %d changes and %d lists: want one for the plan and one before the changes", result.Total(), len(w.changes()), reads)
	}
}

func TestAUsersKeysAreReadOnceMoreWhereTheCloudIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var orphans []fleet.LedgerKey
		for range 5 {
			orphans = append(orphans, fleet.LedgerKey{AccessKey: w.orphan("deploy", ahead(dayLong)), User: "deploy"})
		}
		w.cloud.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Delay, Delay: lookLife/3 + time.Second})
		w.cloud.OnCall(func(call cloudsim.Call) {
			if call.Op == "UpdateAccessKey" && len(w.changes()) == 1 {
				w.ledger.entries = append(w.ledger.entries, orphans...) // all of them are leased now
			}
		})
		result, _ := w.mustRun(t)
		if total := result.Total(); total.Deactivated != 3 || total.Drifted != 2 || len(w.changes()) != 3 {
			t.Errorf("got %+v and %d changes", total, len(w.changes()))
		}
	})
}

func TestAKeyThatChangesAfterThePlanIsLeftAlone(t *testing.T) {
	cases := map[string]struct {
		change func(w *world, id string)
		want   Outcome
	}{
		"because it is leased now": {func(w *world, id string) {
			w.ledger.entries = append(w.ledger.entries, fleet.LedgerKey{AccessKey: id, User: "deploy"})
		}, OutcomeDrifted},
		"because it is gone":          {func(w *world, id string) { w.account.DeleteKey(id) }, OutcomeGone},
		"because its user is gone":    {func(w *world, _ string) { w.account.DeleteUser("deploy") }, OutcomeGone},
		"because its user is renamed": {func(w *world, _ string) { w.account.RenameUser("deploy", "other") }, OutcomeGone},
		"because the ledger is lost":  {func(w *world, _ string) { w.ledger.err = errors.New("sealed") }, OutcomeNotReached},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.orphan("deploy", ahead(dayLong))
			reads := 0
			w.cloud.OnCall(func(call cloudsim.Call) {
				if body := string(call.Body); call.Op == "ReadAccessKeys" && strings.Contains(body, `"deploy"`) && !strings.Contains(body, "Filters") {
					if reads++; reads == 2 {
						test.change(w, id)
					}
				}
			})
			_, found, err := w.run(t)
			if found[id].Outcome != test.want || (err != nil) != (test.want == OutcomeNotReached) || len(w.changes()) != 0 {
				t.Errorf("got %+v and error %v", found[id], err)
			}
			if test.want == OutcomeGone && !strings.Contains(found[id].Detail, "renamed") { // a key that lives is not called deleted
				t.Errorf("it says %q", found[id].Detail)
			}
		})
	}
}

func TestARefusedKeyEndsTheAccountAtOnce(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Workers = 1
	for i := range 12 {
		w.orphan(userName(i), ahead(dayLong))
	}
	w.cloud.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 401, Code: "1"})
	result, _, err := w.run(t)
	if provider.KindOf(err) != provider.KindKeyRefused || result.Total().Failed != 1 || result.Total().NotReached != 11 {
		t.Errorf("got %+v and error %v", result.Total(), err)
	}
}
