// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package accounts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// clock is a time that tests move.
type clock struct{ now time.Time }

// longRun is an account of so many users, and a way to it whose keys live for fifteen minutes.
func longRun(t *testing.T, users int) (cloud *lasting, sim *cloudsim.Cloud, account *cloudsim.Account, at *clock) {
	t.Helper()
	sim = cloudsim.New()
	account = sim.AddAccount("123456789012")
	endpoint := sim.Start(t)
	for i := range users {
		account.AddUser(fmt.Sprintf("user-%04d", i))
	}
	at = &clock{time.Now()}
	cloud = &lasting{now: func() time.Time { return at.now }}
	cloud.take = func(context.Context) (clouds.Client, time.Time, error) {
		ends := at.now.Add(15 * time.Minute)
		key := account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(time.Hour)})
		client, err := clouds.Open(provider.Config{
			Provider: clouds.Outscale, AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "eu-west-2",
			Endpoint: endpoint, PerSecond: 1e6, Timeout: 15 * time.Second,
		})
		return client, ends, err
	}
	if err := cloud.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud, sim, account, at
}

func TestALongRunTakesAKeyAnewBeforeItsOwnEnds(t *testing.T) {
	cloud, sim, _, at := longRun(t, 1)
	keys := map[string]bool{}
	for range 16 {
		if _, err := cloud.ListKeys(t.Context(), "user-0000"); err != nil {
			t.Fatal(err)
		}
		calls := sim.Calls()
		keys[calls[len(calls)-1].AccessKey] = true
		at.now = at.now.Add(5 * time.Minute)
	}
	if len(keys) < 4 || len(keys) > 9 {
		t.Errorf("in 80 minutes %d keys of 15 minutes have signed", len(keys))
	}
}

func TestAListOfUsersOutlivesTheKeyThatBeganIt(t *testing.T) {
	for name, test := range map[string]struct {
		ends    int // of so many users that are listed, the key ends after these
		early   int // of the first users, so many were removed when the first page was listed
		removed int // and so many when the key has ended
		users   int // each of whom is listed once
		fails   bool
	}{
		"and goes on where it was":                              {ends: 100, users: 1500},
		"and where the user is gone who came last":              {ends: 100, removed: 100, users: 100, fails: true},
		"and where some of the last are gone":                   {ends: 100, removed: 99, users: 1500},
		"far from its beginning":                                {ends: 1400, removed: 700, users: 1500},
		"and misses nobody where the list was about to go back": {ends: 200, early: 3, users: 1500},
		"nor repeats somebody where it had gone back":           {ends: 202, early: 3, users: 1500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()                                // each waits for the pause after a refusal
			cloud, sim, account, at := longRun(t, 1500) // several pages
			var names []string
			var last error
			for user, err := range cloud.ListUsers(t.Context()) {
				if last = err; err != nil {
					break
				}
				names = append(names, user.Name)
				if len(names) == 100 {
					removeUsers(account, test.early)
				}
				if len(names) == test.ends {
					calls := sim.Calls()
					at.now = at.now.Add(15*time.Minute - 10*time.Second)
					account.DeleteKey(calls[len(calls)-1].AccessKey) // as at its end
					removeUsers(account, test.removed)
				}
			}
			if (last != nil) != test.fails || len(names) != test.users || len(slices.Compact(slices.Sorted(slices.Values(names)))) != test.users {
				t.Errorf("%d users were listed, and then %v", len(names), last)
			}
		})
	}
}

func removeUsers(account *cloudsim.Account, n int) {
	for i := range n {
		account.DeleteUser(fmt.Sprintf("user-%04d", i))
	}
}

func TestAnExpiredKeyOfTheRunsOwnIsCalledThat(t *testing.T) {
	for name, test := range map[string]struct {
		later time.Duration
		says  string
	}{
		"one that has ended, and no other can be had": {20 * time.Minute, "the run's own key ends at"},
		"one that the cloud has ended early":          {0, "the key that is refused is the run's own"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, _, account, at := longRun(t, 1)
			for _, key := range account.Keys() {
				account.DeleteKey(key.ID)
			}
			cloud.take = func(context.Context) (clouds.Client, time.Time, error) {
				return nil, time.Time{}, fmt.Errorf("the role is gone")
			}
			at.now = at.now.Add(test.later)
			_, err := cloud.ListKeys(t.Context(), "user-0000")
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "the role is gone") != (test.later > 0) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func TestWhatACloudCanDoIsKept(t *testing.T) {
	cloud, _, _, _ := longRun(t, 1)
	if _, writes := cloud.asCloud().(provider.PolicyWriter); !writes {
		t.Error("OUTSCALE's policy can no longer be written")
	}
	if _, tells := cloud.asCloud().(sweep.Usage); tells {
		t.Error("OUTSCALE tells when keys were last used")
	}
}
