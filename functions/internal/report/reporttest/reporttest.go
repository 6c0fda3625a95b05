// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package reporttest makes results of runs for the tests of reports.
package reporttest

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Script is the name of a user that must never run.
const Script = `<script>document.title='hacked'</script>`

const instance = "INSTANCEAAAAAAAA"

// account is a cloud that a cloud's own rules would not let be: its users have any name.
type account struct {
	fleet.Cloud
	users []string
	keys  map[string][]provider.Key
}

func (a account) WhoAmI(context.Context) (provider.Whoami, error) {
	return provider.Whoami{
		AccountID: "123456789012", Key: provider.Key{ID: "OWNAAAAAAAAAAAAAAAAA"},
		Identity: provider.Identity{Kind: provider.IdentityUser, User: "companion"},
	}, nil
}

func (a account) AccessPolicy(context.Context) (provider.AccessPolicy, error) {
	return provider.AccessPolicy{MaxKeyLifetime: time.Hour}, nil
}

func (a account) ExpiresKeys() bool { return true }

func (a account) ListKeys(_ context.Context, user string) ([]provider.Key, error) {
	return a.keys[user], nil
}

func (a account) ListUsers(context.Context) iter.Seq2[provider.User, error] {
	return func(yield func(provider.User, error) bool) {
		for _, name := range a.users {
			if !yield(provider.User{Name: name}, nil) {
				return
			}
		}
	}
}

func (a account) DeactivateKey(context.Context, provider.KeyRef) error { return nil }

func (a account) DeleteKey(_ context.Context, ref provider.KeyRef) error {
	if ref.ID == "EXPIREDAAAAAAAAAAAA2" {
		return &provider.Error{Kind: provider.KindConflict, Op: "DeleteAccessKey", Status: 409, Code: "6007", Details: "state of " + ref.ID}
	}
	return nil
}

// Keys is the ledger: it has the one lease.
func (a account) Keys(context.Context, string, string) ([]fleet.LedgerKey, error) {
	return []fleet.LedgerKey{{AccessKey: "LEASEDAAAAAAAAAAAAA1", Kind: "lease", Role: "deploy"}}, nil
}

// Key is the same record by its id.
func (a account) Key(context.Context, string) (*fleet.LedgerKey, error) { return nil, nil }

// Empty tells that the ledger has a key.
func (a account) Empty(context.Context, string) (bool, error) { return false, nil }

// IDs are the whole ids of the keys, which no report may show.
func IDs() []string {
	var ids []string
	for _, keys := range cloud().keys {
		for _, key := range keys {
			ids = append(ids, key.ID)
		}
	}
	return ids
}

func cloud() account {
	const day = 24 * time.Hour
	label := func(kind keylabel.Kind) string { return keylabel.New(instance, kind).String() }
	key := func(id, user, label string, age, left time.Duration, active bool) provider.Key {
		k := provider.Key{
			ID: id, User: user, Label: label, Active: active, Created: time.Now().Add(-age).UTC(),
			Changed: time.Now().Add(-age).UTC(),
		}
		if left != 0 {
			k.Expires = time.Now().Add(left).UTC()
		}
		return k
	}
	a := account{users: []string{"companion", "deploy", Script, "ci-runner", "backup", "vault-engine"}}
	a.keys = map[string][]provider.Key{
		"companion": {key("OWNAAAAAAAAAAAAAAAAA", "companion", "", 10*time.Minute, time.Hour, true)},
		"deploy": {
			key("LEASEDAAAAAAAAAAAAA1", "deploy", label(keylabel.KindLease), 3*time.Hour, day, true),
			key("ORPHANAAAAAAAAAAAAA1", "deploy", label(keylabel.KindLease), 4*day, 6*day, true),
			key("ORPHANAAAAAAAAAAAAA2", "deploy", label(keylabel.KindLease), 12*day, 6*day, false),
			key("EXPIREDAAAAAAAAAAAA1", "deploy", label(keylabel.KindLease), 40*day, -3*day, true),
		},
		Script:      {key("SCRIPTAAAAAAAAAAAAA1", Script, label(keylabel.KindLease), 6*day, 6*day, true)},
		"ci-runner": {key("FOREIGNAAAAAAAAAAAA1", "ci-runner", "vault-keep-until=2999-01-01", 400*day, 0, true)},
		"backup": {
			key("FOREIGNAAAAAAAAAAAA2", "backup", "", 140*day, 0, true),
			key("FOREIGNAAAAAAAAAAAA3", "backup", "", 30*day, 0, true),
			key("FOREIGNAAAAAAAAAAAA4", "backup", "", 20*day, 9*day, true),
			key("EXPIREDAAAAAAAAAAAA2", "backup", label(keylabel.KindLease), 200*day, -100*day, true),
		},
		"vault-engine": {key("ENGINEAAAAAAAAAAAAA1", "vault-engine", "", 22*day, 9*day, true)},
	}
	return a
}

// Result is a run over that account, in a mode.
func Result(t testing.TB, mode string) sweep.Result {
	t.Helper()
	a := cloud()
	result, err := sweep.Run(t.Context(), sweep.Job{
		Settings: settings.Sweep{
			Run: settings.Run{Mode: mode, Workers: 2}, MinAge: time.Hour, Grace: time.Hour, Quarantine: 7 * 24 * time.Hour,
			MaxAge:  90 * 24 * time.Hour,
			Foreign: settings.Report, MaxKeys: 10, MaxPercent: 80,
		},
		Accounts: []fleet.Account{{
			Name: "production", Config: provider.Config{Provider: "outscale"}, Instance: instance,
			EngineKeys: []string{"ENGINEAAAAAAAAAAAAA1"},
		}},
		Connect: func(context.Context, fleet.Account) (fleet.Cloud, func(), error) { return a, func() {}, nil },
		Ledger:  a, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = result.Close() })
	return result
}
