// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestAnotherAccountsKeyLooksAtNothing(t *testing.T) {
	w := newWorld(t)
	w.job.Accounts[0].AccountID = "210987654321"
	_, _, err := w.run(t)
	mustSay(t, err, "belongs to cloud account 123456789012", "nothing was looked at")
	if w.cloud.CountCalls("ReadUsers") > 1 { // WhoAmI asks for them
		t.Error("the users were listed")
	}
}

func TestAPlanThatTakesTooLongGoesOnInTheNextRun(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.Settings.Workers, w.job.Settings.Reserve = 1, time.Second
		ids := []string{}
		for i := range 60 {
			ids = append(ids, w.orphan(userName(i), ahead(dayLong)))
		}
		w.cloud.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: 10 * time.Millisecond})
		cursors := []string{}
		for range 20 {
			// Finding out who signs asks fifty users: half a second of the two and a half.
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			result, _, err := w.runIn(t, ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if !result.Accounts[0].Partial {
				break
			}
			cursors = append(cursors, result.Accounts[0].Cursor)
		}
		if len(cursors) == 0 || len(cursors) == 20 {
			t.Errorf("the runs ended after %q", cursors)
		}
		for _, id := range ids {
			w.mustBe(t, id, cloudsim.Inactive)
		}
	})
}

func TestACursorSkipsTheUsersBeforeIt(t *testing.T) {
	w := newWorld(t)
	first, second := w.orphan("a", ahead(dayLong)), w.orphan("b", ahead(dayLong))
	w.job.Resume = map[string]string{"default": "a"}
	_, found := w.mustRun(t)
	w.mustBe(t, first, cloudsim.Active)
	w.mustBe(t, second, cloudsim.Inactive)
	if _, seen := found[first]; seen {
		t.Error("a user before the cursor was looked at")
	}
	w.job.Resume = map[string]string{"default": "a user that was deleted"}
	w.mustRun(t)
	w.mustBe(t, first, cloudsim.Inactive)
}

func TestAnAccountThatFailsDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	id := w.orphan("deploy", ahead(dayLong))
	good := w.job.Connect
	w.job.Connect = func(ctx context.Context, account fleet.Account) (fleet.Cloud, func(), error) {
		if account.Name == "broken" {
			return nil, nil, errors.New("no key for this account")
		}
		return good(ctx, account)
	}
	w.job.Accounts = append([]fleet.Account{{Name: "broken"}}, w.job.Accounts...)
	result, _, err := w.run(t)
	var failed *fleet.FailedError
	if !errors.As(err, &failed) || !slices.Equal(failed.Accounts, []string{"broken"}) || len(result.Accounts) != 2 {
		t.Errorf("got %+v and error %v", result.Accounts, err)
	}
	w.mustBe(t, id, cloudsim.Inactive)

	w.job.Settings.Accounts = []string{"broken", "default", "misspelt"}
	_, _, err = w.run(t)
	mustSay(t, err, "misspelt", "does not exist")
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has more than one line", err)
	}
}

// A plan in parts counts and plans each key once, the account's own too.
func TestTheAccountsOwnKeysBelongToOnePart(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Mode = settings.Report
	w.lease("a")
	w.lease("b")
	root := w.account.RootKey().AccessKey
	forgotten := w.add(cloudsim.KeySpec{Tag: ours(keylabel.KindLease), Expires: ahead(90 * dayLong)}) // nobody leases it
	part := func(after string) (seen int, found map[string]Finding) {
		w.job.Resume = map[string]string{"default": after}
		result, found := w.mustRun(t)
		return result.Total().Seen, found
	}
	t.Run("the part that begins with the first user has them", func(t *testing.T) {
		seen, found := part("")
		mustBeClass(t, found[root], ClassOwn, ActionKeep)
		mustBeClass(t, found[forgotten], ClassOrphan, ActionDeactivate)
		if seen != 4 {
			t.Errorf("%d keys were seen", seen)
		}
	})
	t.Run("a later part has none of them", func(t *testing.T) {
		if seen, found := part("a"); seen != 1 {
			t.Errorf("%d keys were seen: %+v", seen, found)
		}
	})
	t.Run("a later part that begins again, since its user is gone, has them", func(t *testing.T) {
		seen, found := part("nobody")
		mustBeClass(t, found[forgotten], ClassOrphan, ActionDeactivate)
		if seen != 4 {
			t.Errorf("%d keys were seen", seen)
		}
	})
}
