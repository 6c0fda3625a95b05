// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestTheFunctionsPolicyIsEnoughToSyncAndNoMore lowers an access policy with the rights of
// docs/examples/policies and no others, then without each of those that it needs. Those are
// tried for a sweep as well, in TestTheFunctionsPoliciesAreEnoughToSweepAndNoMore.
func TestTheFunctionsPolicyIsEnoughToSyncAndNoMore(t *testing.T) {
	const ofSweep = "api:DeleteAccessKey"
	raw, err := os.ReadFile("../../../docs/examples/policies/outscale-functions.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal(raw, &policy); err != nil {
		t.Fatal(err)
	}
	rights := policy.Statement[0].Action
	t.Run("it is enough", func(t *testing.T) {
		if !newWorld(t).syncedWith(t, rights) {
			t.Error("the policy is not lowered")
		}
	})
	for _, right := range rights {
		t.Run("without "+right, func(t *testing.T) {
			left := slices.DeleteFunc(slices.Clone(rights), func(other string) bool { return other == right })
			if synced := newWorld(t).syncedWith(t, left); synced != (right == ofSweep) {
				t.Errorf("the policy is lowered: %v", synced)
			}
		})
	}
}

// syncedWith tells whether a user with these rights lowers the policy, for which a key of the
// engine must be shortened.
func (w *world) syncedWith(t *testing.T, rights []string) bool {
	t.Helper()
	w.account.AddUser("functions", rights...)
	key := w.account.AddKey(cloudsim.KeySpec{User: "functions", Expires: ahead(30 * time.Minute)})
	w.account.DeleteKey(w.own)
	label := keylabel.New(testInstance, keylabel.KindLease).String()
	long := w.account.AddKey(cloudsim.KeySpec{User: "deploy", Tag: label, Expires: ahead(9 * day)}).AccessKey
	w.vault.entries = []fleet.LedgerKey{{AccessKey: long, Kind: "lease", User: "deploy", Expires: time.Now().Add(time.Hour)}}
	w.policy(10 * day)
	w.job.Settings.Shorten, w.job.Settings.Ratchet = true, false
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Outscale, AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "eu-west-2",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, PerSecond: 1e6, Base: w.cloud.Transport(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.job.Connect = func(context.Context, fleet.Account) (fleet.Cloud, func(), error) { return client, func() {}, nil }
	if _, err := Run(t.Context(), w.job); err != nil {
		t.Logf("run: %v", err)
	}
	return time.Duration(w.account.Policy().MaxAccessKeyExpirationSeconds)*time.Second == day
}

func TestASyncWithAUsersKeySaysThatRootsAreNotSeen(t *testing.T) {
	for _, others := range []int{0, 60} { // so many are more than the client asks whose its key is
		t.Run(fmt.Sprintf("who stands behind %d", others), func(t *testing.T) {
			w := newWorld(t)
			for i := range others {
				w.account.AddKey(cloudsim.KeySpec{User: fmt.Sprintf("a-%02d", i), Expires: ahead(time.Hour)})
			}
			w.account.AddUser("functions", "api:*")
			w.connect(t, w.account.AddKey(cloudsim.KeySpec{User: "functions", Expires: ahead(time.Hour)}), w.cloud.Transport())
			if r := w.mustRun(t); !strings.Contains(r.Reason, "cannot be listed with a user's key") {
				t.Errorf("got %q", r.Reason)
			}
		})
	}
}
