// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// planned runs in report mode and returns what it would change.
func (w *world) planned(t *testing.T) []Finding {
	t.Helper()
	mode := w.job.Settings.Mode
	w.job.Settings.Mode = settings.Report
	_, found := w.mustRun(t)
	w.job.Settings.Mode = mode
	var plan []Finding
	for _, f := range found {
		if f.Outcome == OutcomePlanned {
			plan = append(plan, f)
		}
	}
	return plan
}

func (w *world) apply(t *testing.T, ctx context.Context, plan []Finding) (Result, error) {
	t.Helper()
	job := w.job
	job.Planned = sequence(plan)
	result, err := Run(ctx, job)
	t.Cleanup(func() { _ = result.Close() })
	return result, err
}

func sequence(plan []Finding) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		for _, f := range plan {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func TestAPlanIsAppliedAsItWasMade(t *testing.T) {
	t.Run("what was planned is done, and nothing else", func(t *testing.T) {
		w := newWorld(t)
		orphan := w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		later := w.orphan("deploy", ahead(dayLong)) // it would be planned by now
		result, err := w.apply(t, t.Context(), plan)
		if err != nil || result.Total().Deactivated != 1 || result.Accounts[0].Partial {
			t.Errorf("got %+v and error %v", result.Accounts, err)
		}
		w.mustBe(t, orphan, cloudsim.Inactive)
		w.mustBe(t, later, cloudsim.Active)
	})
	t.Run("a second time changes nothing more", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Quarantine = 0
		orphan := w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		for range 2 {
			if _, err := w.apply(t, t.Context(), plan); err != nil {
				t.Fatal(err)
			}
		}
		w.mustBe(t, orphan, "deleted")
		if len(w.changes()) != 2 {
			t.Errorf("got %+v", w.changes())
		}
	})
	t.Run("an attempt that was cut off between its two halves is brought to its end", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Quarantine = 0
		orphan := w.orphan("deploy", ahead(dayLong).Add(321*time.Millisecond)) // it loses them by being switched off
		plan := w.planned(t)
		cancel := w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 400})
		if _, err := w.apply(t, t.Context(), plan); err == nil {
			t.Fatal("nobody says that the key is left")
		}
		w.mustBe(t, orphan, cloudsim.Inactive)
		cancel()
		result, err := w.apply(t, t.Context(), plan)
		if err != nil || result.Total().Deleted != 1 {
			t.Errorf("got %+v and error %v", result.Total(), err)
		}
		w.mustBe(t, orphan, "deleted")
	})
	t.Run("so is that of a key that had ended, which got a date for it", func(t *testing.T) {
		w := newWorld(t)
		w.lease("leaseholder")
		ended := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-dayLong)})
		plan := w.planned(t)
		cancel := w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 400})
		if _, err := w.apply(t, t.Context(), plan); err == nil {
			t.Fatal("nobody says that the key is left")
		}
		w.mustBe(t, ended, cloudsim.Inactive)
		cancel()
		result, err := w.apply(t, t.Context(), plan)
		if err != nil || result.Total().Deleted != 1 {
			t.Errorf("got %+v and error %v", result.Total(), err)
		}
		w.mustBe(t, ended, "deleted")
	})
	t.Run("a key that had ended, and got a date of its owner's, is left alone", func(t *testing.T) {
		w := newWorld(t)
		w.lease("leaseholder")
		ended := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-dayLong)})
		plan := w.planned(t)
		w.account.DeleteKey(ended)
		later := w.add(cloudsim.KeySpec{
			User: "deploy", Tag: ours(keylabel.KindLease), Created: plan[0].Created, Expires: ahead(time.Hour), Inactive: true,
		})
		plan[0].AccessKey = later
		result, err := w.apply(t, t.Context(), plan)
		if err != nil || result.Total().Drifted != 1 {
			t.Errorf("got %+v and error %v", result.Total(), err)
		}
	})
	t.Run("a key that is switched off already is not switched off again", func(t *testing.T) {
		w := newWorld(t)
		w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		for range 2 {
			result, err := w.apply(t, t.Context(), plan)
			if err != nil || result.Total().Deactivated != 1 {
				t.Errorf("got %+v and error %v", result.Total(), err)
			}
		}
		if len(w.changes()) != 1 {
			t.Errorf("got %+v", w.changes())
		}
	})
	t.Run("a key that was leased meanwhile is left alone", func(t *testing.T) {
		w := newWorld(t)
		orphan := w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		w.ledger.entries = append(w.ledger.entries, fleet.LedgerKey{AccessKey: orphan, Kind: "lease", User: "deploy"})
		result, err := w.apply(t, t.Context(), plan)
		if err != nil || result.Total().Drifted != 1 || len(w.changes()) != 0 {
			t.Errorf("got %+v and error %v", result.Total(), err)
		}
	})
	t.Run("the plan of another account is refused", func(t *testing.T) {
		w := newWorld(t)
		w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		plan[0].Account = "other"
		_, err := w.apply(t, t.Context(), plan)
		mustSay(t, err, `account "other"`)
		if len(w.changes()) != 0 {
			t.Errorf("got %+v", w.changes())
		}
	})
	t.Run("a key that is to be kept is no part of a plan", func(t *testing.T) {
		w := newWorld(t)
		w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		plan[0].Action = ActionKeep
		_, err := w.apply(t, t.Context(), plan)
		mustSay(t, err, `"keep"`)
	})
	t.Run("what was switched off is remembered where the cloud does not tell", func(t *testing.T) {
		w := newWorld(t)
		orphan := w.orphan("deploy", ahead(dayLong))
		plan := w.planned(t)
		w.ledger.states["default"] = State{Cursor: "x", Inactive: map[string]time.Time{"other": time.Unix(1, 0)}}
		plan[0].Changed = time.Time{}
		w.account.DeleteKey(orphan)
		if _, err := w.apply(t, t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if state := w.ledger.states["default"]; state.Cursor != "x" || !slices.Contains(mapKeys(state.Inactive), "other") {
			t.Errorf("the state is %+v", state)
		}
	})
	t.Run("time that runs out leaves the plan to be applied again", func(t *testing.T) {
		w := newWorld(t)
		for i := range 3 {
			w.orphan(userName(i), ahead(dayLong))
		}
		plan := w.planned(t)
		ctx, cancel := context.WithTimeout(t.Context(), w.job.Settings.Reserve)
		defer cancel()
		result, err := w.apply(t, ctx, plan)
		if err != nil || !result.Accounts[0].Partial || result.Total().NotReached != 3 || len(w.changes()) != 0 {
			t.Errorf("got %+v and error %v", result.Accounts, err)
		}
	})
}

// slow answers no list of a user's keys before the time is up.
type slow struct{ fleet.Cloud }

func (s slow) ListKeys(ctx context.Context, user string) ([]provider.Key, error) {
	<-ctx.Done()
	return s.Cloud.ListKeys(ctx, user)
}

// slowLedger answers nothing before the time is up.
type slowLedger struct{ *memory }

func (slowLedger) Keys(ctx context.Context, _, _ string) ([]fleet.LedgerKey, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What was planned is applied again by the next step: nobody need look after an account whose time was merely too short.
func TestTimeThatRunsOutWhileKeysAreReadAgainGivesNoAccountUp(t *testing.T) {
	slowCloud := func(w *world) { w.wrap(func(c fleet.Cloud) fleet.Cloud { return slow{c} }) }
	inVault := func(w *world) { w.job.Ledger = slowLedger{w.ledger} }
	for name, test := range map[string]struct {
		notice time.Duration
		slow   func(w *world)
	}{
		"in the cloud, before a key is switched off": {0, slowCloud},
		"in the cloud, before its owner is told":     {3 * dayLong, slowCloud},
		"in Vault, before a key is switched off":     {0, inVault},
		"in Vault, before its owner is told":         {3 * dayLong, inVault},
	} {
		t.Run(name, func(t *testing.T) {
			withNotice(t, func(t *testing.T, w *world, o *owners) {
				if w.job.Settings.Notice = test.notice; test.notice == 0 {
					w.job.Settings.Notify, w.job.Notify = "", nil
				}
				w.orphan("deploy", ahead(90*dayLong))
				w.orphan("ci", ahead(90*dayLong))
				plan := w.planned(t)
				for i := range plan {
					plan[i].Outcome = "" // a plan that is kept has none
				}
				test.slow(w)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				result, err := w.apply(t, ctx, plan)
				if err != nil || result.Accounts[0].Problem != "" || !result.Accounts[0].Partial {
					t.Errorf("the account was given up, or nobody goes on: %+v and error %v", result.Accounts, err)
				}
				if result.Total().NotReached != 2 || len(w.changes()) != 0 || len(o.sent) != 0 {
					t.Errorf("got %+v, %d changes and %d messages", result.Total(), len(w.changes()), len(o.sent))
				}
			})
		})
	}
}

// A message that the time cuts off says nothing of NOTIFY: the plan is applied again, as where a change is cut off.
func TestTimeThatRunsOutWhileAnOwnerIsToldIsNoMessageThatFailed(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, _ *owners) {
		w.orphan("deploy", ahead(90*dayLong))
		plan := w.planned(t)
		plan[0].Outcome = "" // a plan that is kept has none
		w.job.Notify = func(ctx context.Context, _ Message) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		result, err := w.apply(t, ctx, plan)
		if err != nil || !result.Accounts[0].Partial || result.Total().NotReached != 1 || result.Total().NotNotified != 0 {
			t.Errorf("got %+v and error %v", result.Accounts, err)
		}
	})
}

func mapKeys(m map[string]time.Time) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	return keys
}

func TestTheCapsOfARun(t *testing.T) {
	s := settings.Sweep{RunMaxKeys: 10, RunMaxPercent: 10}
	for name, test := range map[string]struct {
		planned, seen int
		trips         bool
	}{
		"nothing at all":              {0, 0, false},
		"reaching both is allowed":    {10, 100, false},
		"one key too many":            {11, 1000, true},
		"a share that is not whole":   {10, 99, true},
		"the last allowed fraction":   {9, 90, false},
		"a single key of very few":    {1, 9, false},
		"five keys of very few":       {5, 49, true},
		"a single key of ten exactly": {1, 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := RunTripped(s, test.planned, test.seen); (got != "") != test.trips {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A step of a state machine that has failed is tried again within minutes: that is no other night.
func TestAKeyThatHasChangedIsLeftAloneForNightsAndNotForAttempts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		orphan := w.orphan("deploy", ahead(90*dayLong))
		plan := w.planned(t)
		plan[0].Label += " of its owner's" // it had another when the plan was made
		for attempt := range 5 {
			result, err := w.apply(t, t.Context(), plan)
			if err != nil || result.Total().Drifted != 1 || w.ledger.states["default"].Drifted[orphan] != 1 {
				t.Errorf("attempt %d: got %+v, %+v and error %v", attempt, result.Total(), w.ledger.states["default"], err)
			}
			<-time.After(time.Minute)
		}
		w.mustBe(t, orphan, cloudsim.Active)
		for range 3 {
			<-time.After(dayLong)
			if _, err := w.apply(t, t.Context(), plan); err != nil {
				t.Fatal(err)
			}
		}
		w.mustBe(t, orphan, cloudsim.Inactive)
	})
}
