// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestTheFunctionsPoliciesAreEnoughToSweepAndNoMore sweeps with the rights of
// docs/examples/policies and no others, then without each of those that a sweep needs.
func TestTheFunctionsPoliciesAreEnoughToSweepAndNoMore(t *testing.T) {
	for file, test := range map[string]struct {
		sweeper func(t *testing.T, rights []string) (sweep func() error, removed func() bool)
		ofSync  []string // what the policy sync needs, and a sweep does not
	}{
		"outscale-functions.json": {sweptAsEIMUser, []string{"api:UpdateApiAccessPolicy"}},
		"huawei-functions.json":   {sweptAsIAMUser, nil},
	} {
		rights := rightsOf(t, file)
		t.Run(file+" is enough", func(t *testing.T) {
			sweep, removed := test.sweeper(t, rights)
			if err := sweep(); err != nil || !removed() {
				t.Errorf("the orphan is gone: %v, error %v", removed(), err)
			}
		})
		for _, right := range rights {
			t.Run(file+" without "+right, func(t *testing.T) {
				sweep, removed := test.sweeper(t, slices.DeleteFunc(slices.Clone(rights), func(other string) bool { return other == right }))
				err := sweep()
				if works, wanted := err == nil && removed(), slices.Contains(test.ofSync, right); works != wanted {
					t.Errorf("it works: %v, want %v; error %v", works, wanted, err)
				}
			})
		}
	}
}

func rightsOf(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile("../../../docs/examples/policies/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal(raw, &policy); err != nil {
		t.Fatal(err)
	}
	var rights []string
	for _, statement := range policy.Statement {
		rights = append(rights, statement.Action...)
	}
	return rights
}

// sweptAsEIMUser has an orphan, and a sweep that signs with a user's key.
func sweptAsEIMUser(t *testing.T, rights []string) (sweep func() error, removed func() bool) {
	t.Helper()
	w := newWorld(t)
	w.account.AddUser("functions", rights...)
	key := w.account.AddKey(cloudsim.KeySpec{User: "functions", Expires: ahead(time.Hour)})
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Outscale, AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "eu-west-2",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, PerSecond: 1e6, Base: w.cloud.Transport(),
	})
	return w.sweptWith(t, client, err, w.orphan("deploy", ahead(dayLong)), func(id string) bool {
		_, there := w.account.Key(id)
		return !there
	})
}

// sweptAsIAMUser is the same on Huawei Cloud.
func sweptAsIAMUser(t *testing.T, rights []string) (sweep func() error, removed func() bool) {
	t.Helper()
	w := newWorld(t)
	domain := w.cloud.AddDomain("acme")
	domain.AddUser("functions", rights...)
	key := domain.AddKey(cloudsim.IAMKeySpec{User: "functions"})
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Huawei, AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "ap-southeast-1",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, PerSecond: 1e6, Base: w.cloud.Transport(),
	})
	w.job.Accounts[0].Provider, w.job.Accounts[0].AccountID = clouds.Huawei, domain.ID()
	w.job.Settings.UsedWithin, w.job.Settings.Foreign = dayLong, settings.Enforce
	created := time.Now().Add(-100 * dayLong)
	leased := domain.AddKey(cloudsim.IAMKeySpec{User: "leaseholder", Description: ours(keylabel.KindLease), Created: created}).AccessKey
	w.ledger.entries = []fleet.LedgerKey{{AccessKey: leased, Kind: "lease", User: "leaseholder", Role: "deploy"}}
	until := "/until/" + ahead(dayLong).Format(time.RFC3339) // without a date of its own no use would save it, and none be asked for
	orphan := domain.AddKey(cloudsim.IAMKeySpec{User: "deploy", Description: ours(keylabel.KindLease) + until, Created: created}).AccessKey
	return w.sweptWith(t, client, err, orphan, func(id string) bool {
		_, there := domain.Key(id)
		return !there
	})
}

// sweptWith sweeps until a key that was switched off may be deleted.
func (w *world) sweptWith(t *testing.T, client clouds.Client, err error, orphan string,
	gone func(id string) bool,
) (sweep func() error, removed func() bool) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.job.Settings.Quarantine = 0
	w.job.Connect = func(context.Context, fleet.Account) (fleet.Cloud, func(), error) { return client, func() {}, nil }
	sweep = func() error {
		for range 2 {
			if _, _, err := w.run(t); err != nil {
				return err
			}
		}
		return nil
	}
	return sweep, func() bool { return gone(orphan) }
}
