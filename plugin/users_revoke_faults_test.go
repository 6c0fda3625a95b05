// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestUserRevokeFaults fails each call of a removal: the revoke is an error, and Vault's
// next attempt ends it.
func TestUserRevokeFaults(t *testing.T) {
	tests := failedUserRevokes(userRemovals)
	inHuawei(t, failedUserRevokes(huaweiUserRemovals))
	tests["with the engine's own key dead no revoke reports success"] = func(t *testing.T, v *testVault) {
		v.configureUsers()
		l := v.lease("job")
		v.deleteKey(v.root.AccessKey)
		for range 8 {
			if err := v.revoke(l); err == nil {
				t.Fatal("reported as revoked")
			}
			<-time.After(time.Minute)
		}
		if v.locked() {
			t.Error("the account is locked")
		}
		v.mustHaveUsers(1)
	}
	tests["a user that was moved to another path is left alone, and the revoke says so"] = func(t *testing.T, v *testVault) {
		v.configureUsers()
		l := v.lease("job")
		v.account.MoveUser(v.leasedUser(l).Name, "/people/")
		err := v.revoke(l)
		if err == nil {
			t.Fatal("reported as revoked")
		}
		mustHold(t, err.Error(), "/people/", "label", "by hand")
		v.mustHaveLive(0)
		v.settleNew()
		v.deleteUser(l.Data["user_name"].(string))
		v.mustRevoke(l)
	}
	tests["a lease damaged in storage is refused in a sentence or revoked, never a panic and never another's user"] = func(t *testing.T,
		v *testVault,
	) {
		v.configureUsers()
		bystander := v.lease("job")
		for _, field := range []string{
			"account", "account_id", "user_name", "access_key", "label", "role", "role_ttl", "role_max_ttl",
			"issued", "expires",
		} {
			for _, value := range []any{nil, 7.0, "", "x", bystander.Secret.InternalData[field]} {
				l := v.lease("job")
				l.Secret.InternalData[field] = value
				_ = v.renew(l, 0)
				_ = v.revoke(l)
				v.leases = []*testLease{bystander}
				if field != "access_key" {
					v.leasedUser(bystander)
				}
				v.invariant()
			}
			if field == "access_key" {
				bystander = v.lease("job") // it was named, and revoked, as its lease said
			}
		}
		v.advance(30 * time.Minute)
		v.mustBeClean()
	}
	tests["an outage of hours leaves nothing behind once it is over"] = func(t *testing.T, v *testVault) {
		v.configureUsers()
		for range 3 {
			v.lease("job")
		}
		cancel := v.order(cloudsim.Fault{Kind: cloudsim.Outage})
		v.advance(3 * time.Hour)
		cancel()
		v.advance(2 * time.Hour)
		v.mustBeClean()
		for _, l := range v.leases {
			if l.Irrevocable {
				t.Error("a lease became irrevocable")
			}
		}
	}
	inBubble(t, tests)
}

// TestAnAccountWhoseLeasesHaveLeftUsers has a key end while the user that was made for it cannot be deleted.
func TestAnAccountWhoseLeasesHaveLeftUsers(t *testing.T) {
	t.Parallel()
	// begin has the cloud refuse that for longer than the lease lasts.
	begin := func(v *testVault) (goOn func()) {
		v.configureUsers("ttl=10m")
		v.lease("job")
		v.leases = nil
		cancel := v.order(cloudsim.Fault{Op: "DeleteUser", Kind: cloudsim.Refuse, Status: 500})
		v.settle(2 * time.Hour)
		if users := v.ourUsers(); len(users) != 1 {
			v.t.Fatalf("%v are left", users)
		}
		return cancel
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"it is not deleted before they are": func(_ *testing.T, v *testVault) {
			goOn := begin(v)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use", "1 ")
			goOn()
			v.settle(3 * time.Hour)
			v.mustHaveUsers(0)
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete config", resp, err)
		},
		"nor is its name given to another cloud account": func(_ *testing.T, v *testVault) {
			goOn := begin(v)
			own := v.root
			if v.domain == nil {
				v.root = v.sim.AddAccount("210987654321").RootKey()
			} else {
				v.root = v.sim.AddDomain("other").RootKey()
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", v.accountFields(), "in use", "1 ")
			v.root = own
			goOn()
			v.settle(3 * time.Hour)
			v.mustBeClean()
		},
	})
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"it is said that they are meant": func(_ *testing.T, v *testVault) {
			begin(v)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "1 users of expired iam_user leases", "Fix what keys/<id> says of them first")
		},
	})
}

func failedUserRevokes(removals []string) map[string]func(t *testing.T, v *testVault) {
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, op := range removals {
		for _, kind := range []cloudsim.FaultKind{cloudsim.Refuse, cloudsim.RefuseAfter, cloudsim.DropAnswer, cloudsim.DropRequest} {
			tests[fmt.Sprintf("%s fails (%s)", op, kind)] = func(t *testing.T, v *testVault) {
				v.configureUsers()
				l := v.lease("job")
				v.settleNew()
				v.addKey(l.Data["user_name"].(string), "", time.Time{}) // so that no list is empty
				v.order(cloudsim.Fault{Op: op, Kind: kind, Times: 1})
				if err := v.revoke(l); err == nil {
					t.Error("reported as revoked")
				}
				v.invariant()
				v.mustRevoke(l)
				v.mustBeClean()
			}
		}
	}
	return tests
}
