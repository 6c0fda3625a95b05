// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAnAbandonedEngineKey is E15 for the engine's own key: an account of the same cloud account that is configured later takes
// its record up again.
func TestAnAbandonedEngineKey(t *testing.T) {
	t.Parallel()
	del := func(v *testVault, path string, fields ...string) string {
		v.t.Helper()
		return strings.Join(v.delete(path, fields...), "\n")
	}
	// abandoned is a key that the engine had made for itself, and that somebody had switched off until its account was
	// deleted with force.
	abandoned := func(v *testVault) (id string) {
		v.write("config/default", v.accountFields()...)
		id = v.rotate()["access_key"].(string)
		v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
		v.switchKey(id, false)
		mustHold(v.t, del(v, "config/default", "force=true"), id, "abandoned")
		v.switchKey(id, true)
		return id
	}
	again := func(v *testVault, account string) {
		v.root = v.addKey(v.ownUser(), "", time.Time{})
		v.settleNew()
		v.write("config/"+account, v.accountFields()...)
	}
	mustBeGone := func(v *testVault, id string) {
		v.t.Helper()
		v.mustBeLive(false, id)
		v.mustHaveLedger(0)
	}
	tests := map[string]func(t *testing.T, v *testVault){
		"the daily comparison deletes it": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "default")
			v.settle(2 * reconcilePeriod)
			mustBeGone(v, id)
		},
		"so it does where the account has another name now": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "second")
			v.settle(2 * reconcilePeriod)
			mustBeGone(v, id)
		},
		"tidy deletes it": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "default")
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_removed", id)
			mustBeGone(v, id)
		},
		"a delete of keys/<id> deletes it": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "default")
			del(v, "keys/"+id)
			mustBeGone(v, id)
		},
		"a delete of the account names it, and waits until it is deleted": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "default")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use", id, "Delete each with keys/<id>, or run tidy, first")
			v.mustBeLive(true, id)
			v.mustHaveLedger(1)
			del(v, "keys/"+id)
			del(v, "config/default")
			mustBeGone(v, id)
		},
		"so does a write that points the account elsewhere": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "default")
			other := v.otherAccount()
			v.mustRefuse(logical.UpdateOperation, "config/default", other, "in use", id)
			del(v, "keys/"+id)
			v.write("config/default", other...)
			mustBeGone(v, id)
		},
		"neither the new engine key nor those that it replaces are taken for abandoned ones": func(_ *testing.T, v *testVault) {
			id := abandoned(v)
			again(v, "default")
			del(v, "keys/"+id)
			now := v.rotate()["access_key"].(string)
			v.mustRefuse(logical.DeleteOperation, "keys/"+now, nil, "the engine's own", "rotate-root/default")
			v.settle(2 * reconcilePeriod)
			v.mustBeLive(true, now)
			v.mustHaveOwnKeys(1)
		},
		"in a cloud account that is another one it stays abandoned, beside the account and after it": func(t *testing.T, v *testVault) {
			id := abandoned(v)
			other := v.otherAccount()
			v.write("config/default", other...)
			v.settle(2 * reconcilePeriod)
			v.mustBeLive(true, id)
			mustHold(t, del(v, "config/default"), id)
			v.mustHaveLedger(1)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, "abandoned", "force=true")
			del(v, "keys/"+id, "force=true")
			v.mustHaveLedger(0)
		},
		"there its record goes with force while the account stays": func(t *testing.T, v *testVault) {
			id := abandoned(v)
			v.write("config/default", v.otherAccount()...)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, id, "delete it in the cloud", "force=true")
			v.mustHaveLedger(1)
			del(v, "keys/"+id, "force=true")
			v.mustHaveLedger(0)
		},
		"a record that storage does not name, and nobody has abandoned, is not called the engine's own: its key is deleted": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			id := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			path := v.entryPath(id)
			e, err := load[ledger.Entry](t.Context(), v.storage.Storage, path)
			if err != nil {
				t.Fatal(err)
			}
			now := v.rotate()["access_key"].(string)
			v.replaceConfig(func(c *accountConfig) { c.Previous = nil })
			if err := save(t.Context(), v.storage.Storage, path, e); err != nil {
				t.Fatal(err)
			}
			v.settle(reconcilePeriod)
			v.mustBeLive(true, id) // it is not abandoned: no clean-up takes it
			del(v, "keys/"+id)
			v.mustBeLive(false, id)
			v.mustBeLive(true, now)
		},
	}
	inBothClouds(t, tests)
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"an engine key that has no right to it does not keep the account, nor the record its key for ever": func(t *testing.T, v *testVault) {
			id := abandoned(v)
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, id, "delete it in the cloud", "force=true")
			mustHold(t, del(v, "config/default"), id)
			v.mustHaveLedger(1)
			del(v, "keys/"+id, "force=true")
			v.mustHaveLedger(0)
		},
		"one of a user is deleted although the engine key is the root user's now": func(_ *testing.T, v *testVault) {
			root := v.root
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			id := abandoned(v)
			v.root = root
			v.write("config/default", v.accountFields()...)
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_removed", id)
			mustBeGone(v, id)
		},
		"a key whose date has passed does not keep the account": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "rotation_period=1h")...)
			id := v.rotate()["access_key"].(string)
			v.switchKey(id, false)
			del(v, "config/default", "force=true")
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
			v.settle(3 * time.Hour)
			del(v, "config/default")
			v.settle(time.Hour)
			v.mustHaveLedger(0)
		},
	})
}

// otherAccount are the fields of an account in another cloud account.
func (v *testVault) otherAccount() []string {
	root := v.root
	defer func() { v.root = root }()
	if v.domain == nil {
		v.root = v.sim.AddAccount("999999999999").RootKey()
	} else {
		v.root = v.sim.AddDomain("other").RootKey()
	}
	return v.accountFields()
}
