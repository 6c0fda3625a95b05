// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/cloudsim"
)

func TestRevoke(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"revoking deletes the key in two calls, its date sent along": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.sim.ResetCalls()
			v.mustRevoke(l)
			calls := v.sim.Calls()
			if len(calls) != 2 || calls[0].Op != "UpdateAccessKey" || calls[1].Op != "DeleteAccessKey" {
				t.Fatalf("calls: %v", calls)
			}
			mustHold(t, string(calls[0].Body), `"State":"INACTIVE"`, `"ExpirationDate":"`)
			if _, there := v.account.Key(l.AccessKey()); there {
				t.Error("the key is still there")
			}
			v.mustHaveLedger(0)
		},
		"revoking twice is a success": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.mustRevoke(l)
			v.mustRevoke(l)
		},
		"a key that somebody deleted is a success": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.account.DeleteKey(l.AccessKey())
			v.mustRevoke(l)
			v.mustHaveLedger(0)
		},
		"a key whose user somebody deleted is a success": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.account.DeleteUser("app")
			v.mustRevoke(l)
			v.mustHaveLedger(0)
		},
		"with the engine's own key dead no revoke reports success, and the account does not get locked": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			var leases []*testLease
			for range 5 {
				leases = append(leases, v.lease("app"))
			}
			v.account.DeleteKey(v.root.AccessKey)
			for range 4 {
				for _, l := range leases {
					if err := v.revoke(l); err == nil {
						t.Fatal("reported as revoked")
					} else {
						v.mustHideSecrets(err.Error())
					}
				}
			}
			if v.account.Locked() {
				t.Error("the account is locked")
			}
			v.mustHaveLive(5)
			v.mustHaveLedger(5)
		},
		"a key past its own date needs no cloud call, and the reaper removes it": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			<-time.After(2 * time.Hour) // Vault was sealed
			v.sim.ResetCalls()
			v.mustRevoke(l)
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d calls", n)
			}
			v.advance(2 * rollbackPeriod)
			v.mustHaveLedger(0)
			if n := len(v.account.Keys()); n != 1 {
				t.Errorf("%d keys in the cloud, want the root key alone", n)
			}
		},
		"a lease that Vault forgot is reaped at its key's date": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil // revoke-force, or a crash before Vault stored the lease
			v.advance(10 * time.Minute)
			v.mustHaveLedger(1)
			v.advance(time.Minute + 2*rollbackPeriod)
			v.mustHaveLedger(0)
			if n := len(v.account.Keys()); n != 1 {
				t.Errorf("%d keys in the cloud, want the root key alone", n)
			}
		},
		"a key that cannot be removed shows its reason and is tried ever more rarely": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.leases = nil
			cancel := v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6003"})
			v.advance(6 * time.Hour)
			mustHold(t, v.read("keys/" + l.AccessKey())["problem"].(string), "DeleteAccessKey", "6003")
			if n := v.sim.CountCalls("DeleteAccessKey"); n > 15 {
				t.Errorf("%d attempts in 6 hours", n)
			}
			cancel()
			v.advance(2 * time.Hour)
			v.mustHaveLedger(0)
		},
		"an outage of hours leaves nothing behind once it is over": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 5 {
				v.lease("app")
			}
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.Outage})
			v.advance(3 * time.Hour)
			cancel()
			v.advance(2 * time.Hour)
			v.mustHaveLedger(0)
			if n := len(v.account.Keys()); n != 1 {
				t.Errorf("%d keys in the cloud, want the root key alone", n)
			}
			for _, l := range v.leases {
				if l.Irrevocable {
					t.Error("a lease became irrevocable")
				}
			}
		},
		"a lease damaged in storage is refused in a sentence, never a panic": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			for field := range l.Secret.InternalData {
				if field == "secret_type" {
					continue
				}
				for _, value := range []any{nil, 7.0, "", map[string]any{}, "2026-13-99", true} {
					damaged := roundTrip(t, l.Secret)
					damaged.InternalData[field] = value
					for _, op := range []logical.Operation{logical.RevokeOperation, logical.RenewOperation} {
						_, _ = v.backend.HandleRequest(t.Context(), &logical.Request{Operation: op, Storage: v.storage, Secret: damaged})
					}
				}
			}
			_, err := v.backend.HandleRequest(t.Context(), &logical.Request{
				Operation: logical.RevokeOperation, Storage: v.storage,
				Secret: &logical.Secret{InternalData: map[string]any{"secret_type": secretAccessKeyType, "access_key": 7}},
			})
			if err == nil {
				t.Fatal("revoked")
			}
			mustHold(t, err.Error(), "lease's data cannot be read")
		},
	})
}

func TestConfig(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a read shows what the cloud said of the key, and no secret": func(t *testing.T, v *testVault) {
			v.configure()
			config := v.read("config/default")
			if config["account_id"] != testAccountID || config["identity"] != "root" || config["access_key"] != v.root.AccessKey {
				t.Errorf("%v", config)
			}
			for field, value := range config {
				if value == v.root.SecretKey {
					t.Errorf("%s is the secret", field)
				}
			}
		},
		"fields that are not given keep their value": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "max_ttl=2h")
			v.write("config/default", "expiry_grace=30s")
			config := v.read("config/default")
			if config["max_ttl"] != int64(7200) || config["expiry_grace"] != int64(30) || config["region"] != testRegion {
				t.Errorf("%v", config)
			}
		},
		"an account can get a new key of the same cloud account while leases live": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", "access_key="+v.root.AccessKey, "secret_key="+v.root.SecretKey)
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"an account in use cannot be pointed at another cloud account, nor deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			other := v.sim.AddAccount("999999999999").RootKey()
			fields := []string{"access_key=" + other.AccessKey, "secret_key=" + other.SecretKey}
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, "in use (1 access keys in the ledger)", "999999999999", testAccountID)
			v.mustRefuse(logical.UpdateOperation, "config/default", append(fields, "verify=false"), "in use", "verify=false")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use", "cannot be revoked")
			if err := v.renew(l, 0); err != nil {
				t.Errorf("the lease is harmed: %v", err)
			}
			v.mustRevoke(l)
			v.write("config/default", fields...)
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete", resp, err)
		},
		"an account with unfinished requests is in use as well": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RefuseConnection})
			_, _ = v.tryLease(t.Context(), "app")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "still being cleaned up")
		},
		"accounts are listed and deleted": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/second", v.accountFields()...)
			resp, err := v.try(logical.ListOperation, "config/")
			v.mustSucceed("list", resp, err)
			if got := strings.Join(resp.Data["keys"].([]string), ","); got != "default,second" {
				t.Errorf("%s", got)
			}
			resp, err = v.try(logical.DeleteOperation, "config/second")
			v.mustSucceed("delete", resp, err)
			if resp, _ := v.try(logical.ReadOperation, "config/second"); resp != nil {
				t.Error("still there")
			}
		},
		"a change on another node is noticed": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			config, err := load[accountConfig](t.Context(), v.storage, "config/default")
			if err != nil {
				t.Fatal(err)
			}
			config.MaxTTL = time.Minute
			if err := save(t.Context(), v.storage, "config/default", config); err != nil {
				t.Fatal(err)
			}
			v.backend.InvalidateKey(t.Context(), "config/default")
			if l := v.lease("app"); l.Expires.Sub(l.IssueTime) != time.Minute {
				t.Errorf("a lease of %s", l.Expires.Sub(l.IssueTime))
			}
		},
		"what will surprise is said at once": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Hour)
			warnings := strings.Join(v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...), "\n")
			mustHold(t, warnings, "own access key expires at", "allow_root_identity")
			mustHold(t, strings.Join(v.write("roles/app", "user_names=app", "max_ttl=9000h"), "\n"), "cut to 768h0m0s", "mount")
		},
	})
}

func TestPolicy(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a policy changed in the cloud counts for the next lease once it is written": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Minute)
			v.configure()
			if role := v.read("roles/app"); role["limited_by"] != "mount" {
				t.Errorf("%v", role)
			}
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900, RequireTrustedEnv: true})
			v.write("policy/default")
			policy := v.read("policy/default")
			if policy["max_access_key_expiration_seconds"] != int64(900) || policy["require_trusted_env"] != true ||
				policy["effective_max_ttl"] != int64(835) || policy["limited_by"] != "policy" || policy["known"] != true {
				t.Errorf("%v", policy)
			}
			if l := v.lease("app"); l.Expires.Sub(l.IssueTime) != 835*time.Second {
				t.Errorf("a lease of %s", l.Expires.Sub(l.IssueTime))
			}
		},
		"it is noticed within minutes anyway": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Hour)
			v.configure()
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.advance(policyRefresh + 2*rollbackPeriod)
			if by := v.read("roles/app")["limited_by"]; by != "policy" {
				t.Errorf("limited by %v", by)
			}
		},
		"a policy that cannot be read is unknown, and not absent": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:ReadAccounts", "api:ReadAccessKeys", "api:CreateAccessKey", "api:UpdateAccessKey", "api:DeleteAccessKey")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			warnings := v.write("config/default", v.accountFields()...)
			mustHold(t, strings.Join(warnings, " "), "access policy is unknown", "ReadApiAccessPolicy")
			v.write("roles/app", "user_names=app", "ttl=10m")
			mustHold(t, v.read("roles/app")["limited_by"].(string), "unknown")
			policy := v.read("policy/default")
			if policy["known"] != false || policy["problem"] == "" {
				t.Errorf("%v", policy)
			}
			v.lease("app")
		},
		"a policy that can no longer be read keeps its last bound, and says so": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.rootKeyWithDate(10 * time.Minute)
			v.configure()
			v.sim.Order(cloudsim.Fault{Op: "ReadApiAccessPolicy", Kind: cloudsim.Refuse, Status: 500})
			v.write("policy/default")
			if by := v.read("roles/app")["limited_by"]; by != "policy, policy unknown" {
				t.Errorf("limited by %v", by)
			}
			v.mustFit(v.lease("app"), time.Minute)
		},
	})
}

func TestKeys(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"keys are listed page by page with who has them": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 5 {
				v.lease("app")
			}
			var all []string
			for after := ""; ; {
				resp, err := v.try(logical.ListOperation, "keys/", "after="+after, "limit=2")
				v.mustSucceed("list", resp, err)
				ids, _ := resp.Data["keys"].([]string)
				if len(ids) == 0 {
					break
				}
				for _, id := range ids {
					if info := resp.Data["key_info"].(map[string]any)[id].(map[string]any); info["role"] != "app" {
						t.Errorf("%v", info)
					}
				}
				all = append(all, ids...)
				after = ids[len(ids)-1]
			}
			if len(all) != 5 {
				t.Errorf("%v", all)
			}
			for _, l := range v.leases {
				v.read("keys/" + l.AccessKey())
			}
		},
		"a key that this mount did not make is not found": func(t *testing.T, v *testVault) {
			v.configure()
			if resp, err := v.try(logical.ReadOperation, "keys/ABCDEFGHIJKLMNOPQRST"); err != nil || resp != nil {
				t.Errorf("%v %v", resp, err)
			}
		},
	})
}
