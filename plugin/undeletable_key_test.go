// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAReplacedKeyThatNobodyCanDelete is the engine's own former key, once an operator has written a key that
// has no right to it.
func TestAReplacedKeyThatNobodyCanDelete(t *testing.T) {
	t.Parallel()
	// made is a key of the root user that the engine has made for itself.
	made := func(v *testVault) (id string) {
		v.configure()
		id = v.rotate()["access_key"].(string)
		v.settle(time.Hour)
		return id
	}
	leastPrivilege := func(v *testVault) {
		v.account.AddUser("vault", "api:*")
		v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
		v.write("config/default", v.accountFields()...)
		v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
	}
	elsewhere := func(v *testVault) {
		v.root = v.sim.AddAccount("999999999999").RootKey()
		v.write("config/default", append(v.accountFields(), "verify=false")...)
	}
	// deadEnd has a key of a user without ReadUsers take the place of another user's, who goes with its key or stays.
	deadEnd := func(v *testVault, gone bool) (id string) {
		v.account.AddUser("former", "api:*")
		v.root = v.account.AddKey(cloudsim.KeySpec{User: "former"})
		v.write("config/default", append(v.accountFields(), "rotation_period=24h")...)
		id = v.rotate()["access_key"].(string)
		v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
		v.account.AddUser("vault", "api:ReadAccounts", "api:CreateAccessKey", "api:ReadAccessKeys", "api:UpdateAccessKey",
			"api:DeleteAccessKey", "api:ReadApiAccessPolicy")
		former := v.root.AccessKey
		v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
		v.write("config/default", v.accountFields()...)
		if gone {
			v.account.DeleteKey(id)
			v.account.DeleteKey(former)
			v.account.DeleteUser("former")
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
		}
		return id
	}
	// deny has the cloud refuse all that is asked of the former user's key, whose time comes.
	deny := func(v *testVault) (stop func()) {
		stopUpdates := v.sim.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "4"})
		stopDeletes := v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "4"})
		v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
		return func() { stopUpdates(); stopDeletes() }
	}
	del := func(v *testVault, path string, fields ...string) string {
		v.t.Helper()
		return strings.Join(v.delete(path, fields...), "\n")
	}
	mustBeForgotten := func(v *testVault, id string) {
		v.t.Helper()
		if ids := v.read("config/default")["previous_access_keys"].([]string); slices.Contains(ids, id) {
			v.t.Errorf("previous_access_keys: %v", ids)
		}
		if e, err := v.backend.findKey(v.t.Context(), v.storage, id); e != nil || err != nil {
			v.t.Errorf("the ledger has %+v, %v", e, err)
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"of another identity: the account is deleted, and the answer names the key": func(_ *testing.T, v *testVault) {
			id := made(v)
			leastPrivilege(v)
			mustHold(v.t, del(v, "config/default"), id, "still in the cloud")
			v.mustHaveLedger(0)
		},
		"so it is after the operator has deleted the key in the cloud": func(_ *testing.T, v *testVault) {
			id := made(v)
			leastPrivilege(v)
			v.account.DeleteKey(id)
			v.settle(2 * day)
			mustHold(v.t, del(v, "config/default"), id)
			v.mustHaveLedger(0)
		},
		"of another cloud account, which the cloud is asked for where nobody has yet": func(t *testing.T, v *testVault) {
			id := made(v)
			elsewhere(v)
			mustHold(t, del(v, "config/default"), id, "still in the cloud")
			if _, there := v.account.Key(id); !there {
				t.Error("it is gone: the test proves nothing")
			}
			v.mustHaveLedger(0)
		},
		"a key that nobody has tried may be of the same identity: the cloud is asked, and the replaced key deleted": func(_ *testing.T, v *testVault) {
			made(v)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			if warnings := del(v, "config/default"); warnings != "" {
				v.t.Error(warnings)
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"an abandoned one is not taken for gone where nobody knows whose the present key is": func(_ *testing.T, v *testVault) {
			id := made(v)
			v.switchKey(id, false)
			mustHold(v.t, del(v, "config/default", "force=true"), id, "abandoned")
			v.switchKey(id, true)
			v.account.AddUser("vault", "api:ReadAccounts", "api:CreateAccessKey", "api:ReadAccessKeys", "api:UpdateAccessKey",
				"api:DeleteAccessKey", "api:ReadApiAccessPolicy") // and may not list users
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, "nothing here can delete it", "force=true")
			v.mustBeLive(true, id)
			mustHold(v.t, del(v, "config/default"), id)
			v.mustHaveLedger(1)
			del(v, "keys/"+id, "force=true")
			v.mustHaveLedger(0)
		},
		"an abandoned one is not forgotten because another configuration cannot be read": func(t *testing.T, v *testVault) {
			id := made(v)
			v.switchKey(id, false)
			mustHold(t, del(v, "config/default", "force=true"), id, "abandoned")
			v.switchKey(id, true)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
			mustPut(v, configPrefix+"z", "{")
			if resp, err := v.try(logical.DeleteOperation, "config/default"); failure(resp, err) == nil {
				t.Error("the account is deleted")
			}
			v.mustHaveLedger(1)
		},
		"where the cloud does not say whose the new key is, the account stays until it does": func(_ *testing.T, v *testVault) {
			made(v)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.Outage})
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays", "force=true")
			cancel()
			del(v, "config/default")
			v.mustHaveLive(0)
		},
		"keys/<id> says what to do, and with force drops the record while the account stays": func(_ *testing.T, v *testVault) {
			id := made(v)
			leastPrivilege(v)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, id, "delete it in the cloud", "force=true")
			v.account.DeleteKey(id)
			del(v, "keys/"+id, "force=true")
			mustBeForgotten(v, id)
			v.settle(time.Hour)
			v.mustRevoke(v.lease("app"))
			if warnings := del(v, "config/default"); warnings != "" {
				v.t.Error(warnings)
			}
		},
		"so it does where the key is another cloud account's": func(_ *testing.T, v *testVault) {
			id := made(v)
			elsewhere(v)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, id, "delete it in the cloud", "force=true")
			del(v, "keys/"+id, "force=true")
			mustBeForgotten(v, id)
		},
		"so it does with a key that an operator gave, of which the ledger has no record": func(_ *testing.T, v *testVault) {
			v.configure()
			first := v.root.AccessKey
			v.rotate()
			leastPrivilege(v)
			del(v, "keys/"+first, "force=true")
			if ids := v.read("config/default")["previous_access_keys"].([]string); len(ids) != 1 || ids[0] == first {
				v.t.Errorf("previous_access_keys: %v", ids)
			}
		},
		"a replaced key that the account can delete is not forced": func(_ *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.rotate()
			for _, fields := range [][]string{nil, {"force=true"}} {
				v.mustRefuse(logical.DeleteOperation, "keys/"+id, fields, id, "was replaced", "deletes it by itself")
			}
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"nor on a performance primary, whose secondaries sign with it for longer": func(_ *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.becomePrimary()
			v.rotate()
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, []string{"force=true"}, id, "was replaced", "deletes it by itself")
			v.mustBeLive(true, id)
			v.settle(lifetime.PrimaryOverlap + 2*rollbackPeriod)
			v.mustBeLive(false, id)
		},
		"of a user who is gone: force drops it, since the present key may not look where it could be": func(t *testing.T, v *testVault) {
			id := deadEnd(v, true)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, id, "delete it in the cloud", "force=true")
			del(v, "keys/"+id, "force=true")
			mustBeForgotten(v, id)
			if warnings := del(v, "config/default"); warnings != "" {
				t.Error(warnings)
			}
		},
		"so does the account's delete, which names it": func(_ *testing.T, v *testVault) {
			id := deadEnd(v, true)
			mustHold(v.t, del(v, "config/default"), id, "still in the cloud")
			v.mustHaveLedger(0)
		},
		"so it goes by itself once its date has passed": func(_ *testing.T, v *testVault) {
			id := deadEnd(v, true)
			v.settle(3 * day)
			mustBeForgotten(v, id)
		},
		"of a user whose keys the cloud denies to the present key: force drops it": func(_ *testing.T, v *testVault) {
			id := deadEnd(v, false)
			stop := deny(v)
			v.mustBeLive(true, id)
			del(v, "keys/"+id, "force=true")
			mustBeForgotten(v, id)
			stop()
		},
		"so does the account's delete": func(_ *testing.T, v *testVault) {
			id := deadEnd(v, false)
			deny(v)
			mustHold(v.t, del(v, "config/default"), id, "still in the cloud")
			v.mustHaveLedger(0)
		},
		"so it goes once its date has passed": func(_ *testing.T, v *testVault) {
			id := deadEnd(v, false)
			deny(v)
			v.settle(3 * day)
			mustBeForgotten(v, id)
		},
		"while the cloud does not answer, neither force nor the account's delete gives it up": func(_ *testing.T, v *testVault) {
			id := deadEnd(v, true)
			cancel := v.sim.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Outage})
			for path, fields := range map[string][]string{"keys/" + id: {"force=true"}, "config/default": nil} {
				if resp, err := v.try(logical.DeleteOperation, path, fields...); failure(resp, err) == nil {
					v.t.Errorf("%s is deleted", path)
				}
			}
			cancel()
			if ids := v.read("config/default")["previous_access_keys"].([]string); len(ids) != 1 {
				v.t.Errorf("previous_access_keys: %v", ids)
			}
		},
		"while the cloud says \"not found\" of everything, as to a deleted key, force does not give it up": func(t *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.rotate()
			cancel := []func(){v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 500})}
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			cancel[0]()
			for _, op := range []string{"UpdateAccessKey", "DeleteAccessKey", "ReadAccessKeys", "ReadAccounts"} {
				cancel = append(cancel, v.sim.Order(cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 400, Code: "4000"}))
			}
			if resp, err := v.try(logical.DeleteOperation, "keys/"+id, "force=true"); failure(resp, err) == nil {
				t.Error("it is dropped")
			}
			if e, err := v.backend.findKey(t.Context(), v.storage, id); e == nil || err != nil {
				t.Errorf("the ledger has %+v, %v", e, err)
			}
			for _, stop := range cancel {
				stop()
			}
			v.settle(afterHold)
			mustBeForgotten(v, id)
			v.mustBeLive(false, id)
		},
		"of a user who is gone, where the search for it cannot end now: force does not drop it, and it goes once it is proven gone": func(
			t *testing.T, v *testVault,
		) {
			id := deadEnd(v, true)
			v.account.AddUser("other", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "other"})
			v.write("config/default", v.accountFields()...)
			cancel := func() {}
			for _, fault := range []cloudsim.Fault{
				{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 500},
				{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 429, Code: "24"},
				{Op: "ReadUsers", Kind: cloudsim.DelayAnswer, Delay: time.Hour},
			} {
				former := cancel
				cancel = v.sim.Order(fault)
				former()
				v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
				if resp, err := v.try(logical.DeleteOperation, "keys/"+id, "force=true"); failure(resp, err) == nil {
					t.Errorf("%+v: it is dropped", fault)
				}
			}
			if ids := v.read("config/default")["previous_access_keys"].([]string); !slices.Contains(ids, id) {
				t.Errorf("previous_access_keys: %v", ids)
			}
			cancel()
			v.settle(afterHold)
			mustBeForgotten(v, id)
		},
		"a crash between ledger and configuration is ended by doing it again": func(_ *testing.T, v *testVault) {
			id := made(v)
			leastPrivilege(v)
			v.failStorage("put", configPrefix)
			if resp, err := v.try(logical.DeleteOperation, "keys/"+id, "force=true"); failure(resp, err) == nil {
				v.t.Fatal("deleted")
			}
			v.storage.before = nil
			del(v, "keys/"+id, "force=true")
			mustBeForgotten(v, id)
		},
		"before the cloud has said whose the account's key is, a key of another cloud account is not called its": func(_ *testing.T, v *testVault) {
			made(v)
			elsewhere(v)
			a, err := v.backend.account(v.t.Context(), v.storage, "default")
			if err != nil {
				v.t.Fatal(err)
			}
			mustHold(v.t, a.mustBe(testAccountID, "AK").Error(), testAccountID, `account "default" is not identified yet`)
		},
	})
}

// mustPut writes to storage past the engine.
func mustPut(v *testVault, path, text string) {
	v.t.Helper()
	if err := v.storage.Put(v.t.Context(), &logical.StorageEntry{Key: path, Value: []byte(text)}); err != nil {
		v.t.Fatal(err)
	}
}
