// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAccountsSideBySide holds what happens to one account of a mount against the others.
func TestAccountsSideBySide(t *testing.T) {
	// hang lets every call that a key signs wait for ever.
	hang := func(v *testVault, key cloudsim.Credentials) (start func()) {
		live, hangs := v.base, false
		v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
			if hangs && strings.Contains(req.Header.Get("Authorization"), key.AccessKey) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			return live.RoundTrip(req)
		})
		v.restart()
		return func() { hangs = true }
	}
	for name, fields := range map[string][]string{
		"an account that hangs does not keep another's key from being rotated":                   {"config/adead", "rotation_period=10m"},
		"nor does a static role of one, whatever the names":                                      {"config/zdead"},
		"nor one of which nothing is due, and whose policy is asked for in vain at each refresh": {"config/aidle"},
	} {
		inBubble(t, map[string]func(t *testing.T, v *testVault){name: func(t *testing.T, v *testVault) {
			dead := v.account.AddKey(cloudsim.KeySpec{})
			start := hang(v, dead)
			v.rootKeyWithDate(time.Hour)
			v.configure("ttl=1m")
			v.root = dead
			v.write(fields[0], append(v.accountFields(), fields[1:]...)...)
			v.write("static-roles/s", "account="+strings.TrimPrefix(fields[0], configPrefix), "user_name=app", "rotation_period=10m")
			start()
			v.settle(75 * time.Minute)
			v.mustRevoke(v.lease("app"))
		}})
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a key that two accounts share is not rotated under the other": func(_ *testing.T, v *testVault) {
			v.configure("ttl=1m")
			v.write("config/second", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "rotate-root/default", nil, `account "second" has the same one`)
		},
		"an account that moves to another cloud account names the keys that it leaves behind": func(t *testing.T, v *testVault) {
			v.configure("ttl=1m")
			made := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.root = v.sim.AddAccount("999999999999").RootKey()
			mustHold(t, strings.Join(v.write("config/default", v.accountFields()...), "\n"), made, "delete them in the cloud")
			v.mustHaveLedger(0)
		},
		"one that moves forgets whose the names of users were": func(_ *testing.T, v *testVault) {
			v.addUser("ops")
			v.configure("ttl=10m")
			v.write("roles/ops", "user_names=ops", "ttl=10m")
			elsewhere := v.sim.AddAccount("999999999999")
			elsewhere.AddUser("app")
			elsewhere.AddUser("ops", "api:*")
			v.root = elsewhere.AddKey(cloudsim.KeySpec{User: "ops"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "app"`, "another user since the role was written")
			v.mustRefuse(logical.ReadOperation, "creds/ops", nil, `user "ops" owns the engine's own access key`)
			v.mustRefuse(logical.UpdateOperation, "roles/ops", nil, `user "ops" owns the engine's own access key`)
		},
		"one that is deleted names the keys that stay, and tidy goes on without it": func(t *testing.T, v *testVault) {
			v.configure("ttl=1m")
			first := v.root.AccessKey
			made := v.rotate()["access_key"].(string)
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete", resp, err)
			mustHold(t, strings.Join(resp.Warnings, "\n"), first)
			if _, there := v.account.Key(made); there || strings.Contains(strings.Join(resp.Warnings, "\n"), made) {
				t.Errorf("the key that the engine has made is there, or named: %q", resp.Warnings)
			}
			v.tidy()
			v.mustTidied(tidyDone, nil)
		},
		"a request that an account's deletion overtakes makes no key": func(_ *testing.T, v *testVault) {
			v.configure("ttl=1m")
			v.mustRevoke(v.lease("app"))
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, ledger.Prefix) {
					_ = v.backend.storeAccount(v.t.Context(), v.storage.Storage, "default", nil)
				}
				return nil
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "was changed while the request ran")
			v.storage.after = nil
			v.mustHaveNothingBegun()
			v.mustHaveLive(0)
		},
		"a user's keys are found, also where the user was made for the lease": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			v.lease("job")
			resp, err := v.try(logical.ListOperation, "keys/", "user="+l.Data["user_name"].(string))
			v.mustSucceed("list", resp, err)
			if ids, _ := resp.Data["keys"].([]string); len(ids) != 1 || ids[0] != l.AccessKey() {
				t.Errorf("%v", ids)
			}
		},
	})
}
