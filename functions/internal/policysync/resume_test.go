// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// kept is a store in memory.
type kept map[string]State

func (k kept) Load(_ context.Context, account string) (State, error) { return k[account], nil }

func (k kept) Save(_ context.Context, account string, state State) error {
	k[account] = state
	return nil
}

// inTime makes a world without sockets, on a clock of its own, whose cloud takes a tenth of a
// second for each user of so many.
func inTime(t *testing.T, users int, test func(t *testing.T, w *world, store kept)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{cloud: cloudsim.New(), vault: &vault{max: 30 * day}}
		w.account = w.cloud.AddAccount(testAccount)
		own := w.account.AddKey(cloudsim.KeySpec{Expires: ahead(20 * day)})
		w.account.DeleteKey(w.account.RootKey().AccessKey)
		for i := range users {
			w.account.AddKey(cloudsim.KeySpec{User: fmt.Sprintf("user-%03d", i), Expires: ahead(time.Hour)})
		}
		w.cloud.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: 100 * time.Millisecond})
		w.job = newJob(w, opening(provider.Config{
			Provider: clouds.Outscale, AccessKey: own.AccessKey, SecretKey: provider.Secret(own.SecretKey), Region: "eu-west-2",
			UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, PerSecond: 1e6, Base: w.cloud.Transport(),
		}))
		store := kept{}
		w.job.Store, w.job.Settings.Workers = store, 1
		test(t, w, store)
	})
}

func TestASyncForWhichTimeRanOutIsGoneOnWith(t *testing.T) {
	inTime(t, 200, func(t *testing.T, w *world, store kept) {
		w.job.Settings.Wanted = 30 * day
		for run := 1; ; run++ {
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
			result, err := Run(ctx, w.job)
			cancel()
			if err != nil || run > 12 {
				t.Fatalf("run %d: got %+v and error %v", run, result.Accounts, err)
			}
			if r := result.Accounts[0]; !r.Partial {
				if run < 2 || r.Action != ActionTighten || store["default"].Cursor != "" {
					t.Errorf("run %d: got %+v, and kept is %+v", run, r, store["default"])
				}
				w.mustHavePolicy(t, 30*day)
				return
			}
			w.mustHavePolicy(t, 0)
			if store["default"].Cursor == "" {
				t.Fatal("where the next run begins is not kept")
			}
		}
	})
}

func TestASyncBeginsAnew(t *testing.T) {
	for name, change := range map[string]func(w *world, state *State){
		"where what was seen is a day old":          func(_ *world, s *State) { s.Began = s.Began.Add(-25 * time.Hour) },
		"where something else is wanted":            func(w *world, _ *State) { w.job.Settings.Wanted = 40 * day },
		"where the user of the cursor is gone":      func(_ *world, s *State) { s.Cursor = "removed" },
		"and counts the keys of the account itself": func(_ *world, s *State) { s.Cursor = "" },
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, 5, func(t *testing.T, w *world, store kept) {
				w.job.Settings.Wanted = 30 * day
				state := State{Cursor: "user-001", Began: time.Now(), Wanted: 30 * day, NoExpiration: 3, Blockers: 3}
				change(w, &state)
				store["default"] = state
				result, err := Run(t.Context(), w.job)
				if r := result.Accounts[0]; err != nil || r.Action != ActionTighten || r.BlockerCount != 0 {
					t.Errorf("got %+v and error %v", r, err)
				}
			})
		})
	}
}
