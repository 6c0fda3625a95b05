// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){
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
			if _, there := v.key(l.AccessKey()); there {
				t.Error("the key is still there")
			}
			v.mustHaveLedger(0)
		},
		"revoking twice is a success": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.mustRevoke(l)
			v.settleNew()
			v.mustRevoke(l)
		},
		"a key that somebody deleted is a success": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.deleteKey(l.AccessKey())
			v.settleNew()
			v.mustRevoke(l)
			v.mustHaveLedger(0)
		},
		"a key that somebody deleted seconds after its issue is one by the server's second or third attempt": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.deleteKey(l.AccessKey())
			if err := v.revoke(l); err == nil {
				t.Error("what no list need show yet counts as gone")
			} else {
				mustHold(t, err.Error(), "made seconds ago", "try again")
			}
			l.Expires = time.Now()
			v.advance(time.Minute)
			if len(v.leases) > 0 {
				t.Errorf("the server still tries: %+v", l)
			}
			v.mustHaveLedger(0)
		},
		"a key whose user is renamed before any list shows it is none until it is dead": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{KeyDelay: 8 * time.Second})
			l := v.lease("app")
			v.renameUser("app", "renamed")
			if err := v.revoke(l); err == nil {
				t.Error("reported as revoked")
			}
			l.Expires = time.Now()
			v.advance(time.Minute)
			if len(v.leases) > 0 {
				t.Errorf("the server still tries: %+v", l)
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"a key whose user somebody deleted is a success": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.deleteUser("app")
			v.settleNew()
			v.mustRevoke(l)
			v.mustHaveLedger(0)
		},
		"with the engine's own key dead no revoke reports success, and the account does not get locked": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			var leases []*testLease
			for range min(5, v.quota()) {
				leases = append(leases, v.lease("app"))
			}
			v.deleteKey(v.root.AccessKey)
			for range 4 {
				for _, l := range leases {
					if err := v.revoke(l); err == nil {
						t.Fatal("reported as revoked")
					} else {
						v.mustHideSecrets(err.Error())
					}
				}
			}
			if v.locked() {
				t.Error("the account is locked")
			}
			v.mustHaveLive(len(leases))
			v.mustHaveLedger(len(leases))
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
			if n := len(v.keys()); n != 1 {
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
			if n := len(v.keys()); n != 1 {
				t.Errorf("%d keys in the cloud, want the root key alone", n)
			}
		},
		"a key that cannot be removed shows its reason and is tried ever more rarely": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.leases = nil
			cancel := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6003"})
			v.advance(6 * time.Hour)
			mustHold(t, v.read("keys/" + l.AccessKey())["problem"].(string), "DeleteAccessKey", "6003")
			if n := v.countCalls("DeleteAccessKey"); n > 2*15 { // each attempt deletes twice, see outscale's remove
				t.Errorf("%d attempts in 6 hours", n)
			}
			cancel()
			v.advance(2 * time.Hour)
			v.mustHaveLedger(0)
		},
		"an outage of hours leaves nothing behind once it is over": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range min(5, v.quota()) {
				v.lease("app")
			}
			cancel := v.order(cloudsim.Fault{Kind: cloudsim.Outage})
			v.advance(3 * time.Hour)
			cancel()
			v.advance(2 * time.Hour)
			v.mustHaveLedger(0)
			if n := len(v.keys()); n != 1 {
				t.Errorf("%d keys in the cloud, want the root key alone", n)
			}
			for _, l := range v.leases {
				// On Huawei Cloud the key works until it is deleted: no revoke may claim that it was.
				if l.Irrevocable && v.domain == nil {
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
						_, _ = v.engine.HandleRequest(t.Context(), &logical.Request{Operation: op, Storage: v.storage, Secret: damaged})
					}
				}
			}
			_, err := v.engine.HandleRequest(t.Context(), &logical.Request{
				Operation: logical.RevokeOperation, Storage: v.storage,
				Secret: &logical.Secret{InternalData: map[string]any{"secret_type": secretAccessKeyType, "access_key": 7}},
			})
			if err == nil {
				t.Fatal("revoked")
			}
			mustHold(t, err.Error(), "lease's data cannot be read")
		},
	}
	inBubble(t, tests)
	inHuawei(t, without(t, tests,
		"revoking deletes the key in two calls, its date sent along",
		"a key past its own date needs no cloud call, and the reaper removes it",
		"a key that cannot be removed shows its reason and is tried ever more rarely",
	))
}
