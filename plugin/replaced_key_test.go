// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAReplacedKeyOfAnotherAccount keeps a rotation from taking the key that another account signs with.
func TestAReplacedKeyOfAnotherAccount(t *testing.T) {
	t.Parallel()
	const until = lifetime.RotationOverlap + 2*rollbackPeriod
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"a key that another account has replaced is refused, since that account deletes it": func(_ *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			for _, verify := range []string{"verify=true", "verify=false"} {
				v.mustRefuse(logical.UpdateOperation, "config/second", append(v.accountFields(), verify), v.root.AccessKey,
					`was replaced in account "default"`, "a key of its own")
			}
		},
		"so it is once the key is deleted, without a call that the cloud would refuse": func(t *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.settle(until)
			before := len(v.sim.Calls())
			v.mustRefuse(logical.UpdateOperation, "config/second", v.accountFields(), v.root.AccessKey, `was replaced in account "default"`)
			if calls := len(v.sim.Calls()) - before; calls != 0 {
				t.Errorf("%d calls", calls)
			}
		},
		"one of a static role is deleted although another configuration cannot be read": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h", "rotation_grace_period=5m")
			former := v.read("static-creds/db")["access_key"].(string)
			v.settleNew()
			v.write("rotate-role/db")
			mustPut(v, configPrefix+"z", "{")
			for range 20 {
				<-time.After(tickPeriod)
				_ = v.tick() // which tells of the other configuration
			}
			v.mustBeLive(false, former)
		},
		"another key of the same cloud account is taken": func(_ *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.settle(until)
			v.settleNew()
			given := v.addKey(v.ownUser(), "", cloudsim.Key{}.Expires)
			v.settleNew()
			v.root = given
			v.write("config/second", v.accountFields()...)
		},
		"a replaced key that another account has all the same is forgotten, and not deleted": func(t *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			config := v.accountConfig()
			config.AccessKey, config.SecretKey = v.root.AccessKey, v.root.SecretKey
			config.KeyLabel, config.Previous, config.Retired, config.Given = "", nil, nil, nil
			if err := save(t.Context(), v.storage, "config/second", config); err != nil {
				t.Fatal(err)
			}
			v.settle(until)
			if _, there := v.key(v.root.AccessKey); !there {
				t.Error("it is deleted")
			}
			if ids := v.read("config/default")["previous_access_keys"].([]string); len(ids) != 0 {
				t.Errorf("previous_access_keys: %v", ids)
			}
			v.write("roles/second", "account=second", "user_names=app")
			v.mustRevoke(v.lease("second"))
		},
	})
}
