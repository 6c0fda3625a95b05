// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// owners are who is sent messages.
type owners struct {
	mu   sync.Mutex // users are told side by side
	sent []Message
	err  error
}

func (o *owners) notify(_ context.Context, m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.sent = append(o.sent, m)
	}
	return o.err
}

func withNotice(t *testing.T, test func(t *testing.T, w *world, o *owners)) {
	t.Helper()
	bubble(t, func(t *testing.T, w *world) {
		o := &owners{}
		w.job.Settings.Notify, w.job.Settings.Notice, w.job.Notify = "https://example.com", 3*dayLong, o.notify
		test(t, w, o)
	})
}

func TestAKeyIsSwitchedOffOnlyWhenItsOwnerHasHadNotice(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		first, second := w.orphan("deploy", ahead(90*dayLong)), w.orphan("deploy", ahead(90*dayLong))
		other := w.orphan("ci", ahead(90*dayLong))
		for night := range 3 {
			result, found := w.mustRun(t)
			for _, id := range []string{first, second, other} {
				w.mustBe(t, id, cloudsim.Active)
				want := OutcomeNotified
				if night > 0 {
					want = ""
				}
				if found[id].Outcome != want {
					t.Errorf("night %d: got %+v, want %q", night, found[id], want)
				}
			}
			if len(w.changes()) != 0 || night == 0 && result.Total().Notified != 3 {
				t.Errorf("night %d: got %+v and %d changes", night, result.Total(), len(w.changes()))
			}
			<-time.After(dayLong)
		}
		if len(o.sent) != 2 { // one for each user
			t.Errorf("%d messages were sent: %+v", len(o.sent), o.sent)
		}
		w.mustRun(t)
		w.mustBe(t, first, cloudsim.Inactive)
		w.mustBe(t, other, cloudsim.Inactive)
		if len(o.sent) != 2 {
			t.Errorf("%d messages were sent", len(o.sent))
		}
		for _, m := range o.sent {
			if m.Account != "default" || m.User == "deploy" && len(m.Keys) != 2 || m.Keys[0].SwitchedOffFrom.IsZero() ||
				strings.Contains(m.Keys[0].AccessKey, first) {
				t.Errorf("got %+v", m)
			}
		}
	})
}

func TestAMessageThatFailsKeepsTheKey(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		o.err = errors.New("nobody listens")
		id := w.orphan("deploy", ahead(90*dayLong))
		for range 5 {
			result, found := w.mustRun(t)
			if found[id].Outcome != OutcomeNotNotified || !strings.Contains(found[id].Detail, "nobody listens") || result.Total().NotNotified != 1 {
				t.Errorf("got %+v", found[id])
			}
			<-time.After(dayLong)
		}
		w.mustBe(t, id, cloudsim.Active)
	})
}

func TestAReportSendsNothing(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		w.job.Settings.Mode = settings.Report
		id := w.orphan("deploy", ahead(90*dayLong))
		_, found := w.mustRun(t)
		if found[id].Action != ActionNotify || found[id].Outcome != OutcomePlanned || len(o.sent) != 0 ||
			len(w.ledger.states["default"].Notified) != 0 {
			t.Errorf("got %+v and %+v", found[id], o.sent)
		}
	})
}

func TestAKeyWithoutQuarantineIsNotRemovedWithoutNotice(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		w.job.Settings.Quarantine = 0
		id := w.orphan("deploy", ahead(90*dayLong))
		w.mustRun(t)
		w.mustBe(t, id, cloudsim.Active)
		<-time.After(3 * dayLong)
		w.mustRun(t)
		w.mustBe(t, id, "deleted")
	})
}

// A state machine applies a plan again where a step failed or its time ran out: who was told is not told again, and has been told.
func TestAPlanThatIsAppliedAgainTellsNobodyTwice(t *testing.T) {
	withNotice(t, func(t *testing.T, w *world, o *owners) {
		id := w.orphan("deploy", ahead(90*dayLong))
		plan := w.planned(t)
		if len(plan) != 1 {
			t.Fatalf("the plan is %+v", plan)
		}
		plan[0].Outcome = "" // a plan that is kept has none
		var first time.Time
		for attempt := range 4 {
			result, err := w.apply(t, t.Context(), plan)
			if err != nil || result.Total().Notified != 1 || result.Total().Drifted != 0 {
				t.Errorf("attempt %d: got %+v and error %v", attempt, result.Total(), err)
			}
			state := w.ledger.states["default"]
			if attempt == 0 {
				first = state.Notified[id]
			}
			if at := state.Notified[id]; at.IsZero() || !at.Equal(first) || state.Drifted[id] != 0 {
				t.Errorf("attempt %d: the state is %+v, and it was told first at %s", attempt, state, first)
			}
			<-time.After(time.Minute)
		}
		if len(o.sent) != 1 {
			t.Errorf("%d messages were sent", len(o.sent))
		}
	})
}

// Whose keys cannot be read again is not told of them, and what ends the account's sweep ends it here as well.
func TestAnOwnerWhoseKeysCannotBeReadAgainIsNotTold(t *testing.T) {
	// planned has two owners to be told, and then the cloud fail to list the keys of each.
	planned := func(t *testing.T, w *world, failure func(id string) error) (plan []Finding, lists *int) {
		t.Helper()
		id := w.orphan("ci", ahead(90*dayLong))
		w.orphan("deploy", ahead(90*dayLong))
		w.job.Settings.Workers = 1
		plan, lists = w.planned(t), new(int)
		for i := range plan {
			plan[i].Outcome = "" // a plan that is kept has none
		}
		w.wrap(func(c fleet.Cloud) fleet.Cloud { return failing{c, failure(id), lists} })
		return plan, lists
	}
	t.Run("by an error of the account: it is given up before the next owner", func(t *testing.T) {
		withNotice(t, func(t *testing.T, w *world, o *owners) {
			plan, lists := planned(t, w, func(string) error { return &provider.Error{Kind: provider.KindLockedOut, Op: "ReadAccessKeys"} })
			result, err := w.apply(t, t.Context(), plan)
			mustSay(t, err, "default")
			if n := result.Total(); n.NotReached != 2 || n.Failed != 0 || *lists != 1 || len(o.sent) != 0 || result.Accounts[0].Problem == "" {
				t.Errorf("got %+v after %d lists, and the problem %q", n, *lists, result.Accounts[0].Problem)
			}
		})
	})
	t.Run("by one of the user: he is reported, and no key's id shows", func(t *testing.T) {
		withNotice(t, func(t *testing.T, w *world, o *owners) {
			plan, lists := planned(t, w, func(id string) error { return errors.New("no list for whoever signs with " + id) })
			result, err := w.apply(t, t.Context(), plan)
			mustSay(t, err, "could not change 2 keys")
			if n := result.Total(); n.Failed != 2 || *lists != 2 || len(o.sent) != 0 || result.Accounts[0].Problem != "" {
				t.Errorf("got %+v after %d lists, and the problem %q", n, *lists, result.Accounts[0].Problem)
			}
			for _, f := range findings(t, result) {
				mustHide(t, w, f.Detail)
			}
		})
	})
	t.Run("and what a message's failure says shows no key's id", func(t *testing.T) {
		withNotice(t, func(t *testing.T, w *world, o *owners) {
			id := w.orphan("ci", ahead(90*dayLong))
			o.err = errors.New("nobody listens to " + id)
			_, found := w.mustRun(t)
			if found[id].Outcome != OutcomeNotNotified {
				t.Errorf("got %+v", found[id])
			}
			mustHide(t, w, found[id].Detail)
		})
	})
}

// failing lists no keys.
type failing struct {
	fleet.Cloud
	err   error
	lists *int
}

func (f failing) ListKeys(context.Context, string) ([]provider.Key, error) {
	*f.lists++
	return nil, f.err
}
