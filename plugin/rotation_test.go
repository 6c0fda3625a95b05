// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestRotateRoot(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){
		"the new key takes over, and the old one is deleted once no request can use it": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			l := v.lease("app")
			answer := v.rotate()
			if answer["previous_access_key"] != v.root.AccessKey || answer["access_key"] == v.root.AccessKey {
				t.Errorf("%v", answer)
			}
			if _, there := v.key(v.root.AccessKey); !there {
				t.Error("the old key is gone at once, under requests that use it")
			}
			v.lease("app")
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			if _, there := v.key(v.root.AccessKey); there {
				t.Error("the old key is still there")
			}
			if err := v.renew(l, 0); err != nil {
				t.Error(err)
			}
			v.mustRevoke(l)
			config := v.read("config/default")
			if config["access_key"] != answer["access_key"] || len(config["previous_access_keys"].([]string)) != 0 {
				t.Errorf("%v", config)
			}
			if kind := v.read("keys/" + answer["access_key"].(string))["kind"]; kind != "root" {
				t.Errorf("the ledger calls it %v", kind)
			}
		},
		"it does so as well where the cloud's lists show it seconds later": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.write("config/default", "rotation_period=24h")
			v.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{KeyDelay: 8 * time.Second})
			id := v.rotate()["access_key"].(string)
			if config := v.read("config/default"); config["access_key"] != id || v.domain == nil && config["key_expiration"] == "" {
				t.Errorf("%v", config)
			}
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"it survives a restart and the next day's search for orphans": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.rotate()
			v.restart()
			v.settle(3 * day)
			v.mustRevoke(v.lease("app"))
			v.mustHaveOwnKeys(1)
		},
		"a request under way ends with the key that it began with": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.order(cloudsim.Fault{Op: "CreateAccessKey", User: "", Times: 1, Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})
			leased := make(chan error)
			go func() {
				_, err := v.tryLease(t.Context(), "app")
				leased <- err
			}()
			<-time.After(time.Second)
			v.rotate()
			if err := <-leased; err != nil {
				t.Error(err)
			}
		},
		"an EIM user's key rotates as well": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure("ttl=10m")
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			if _, there := v.key(v.root.AccessKey); there {
				t.Error("the old key is still there")
			}
			v.mustRevoke(v.lease("app"))
		},
		"a death at any step leaves one working configuration and no stray key": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			steps := 0
			for ; v.dieAt(steps, func(context.Context) { _, _ = v.try(logical.UpdateOperation, "rotate-root/default") }); steps++ {
				v.restart()
				v.mustWork(fmt.Sprintf("after a death at step %d", steps))
			}
			if steps < 9 {
				t.Errorf("only %d steps", steps)
			}
		},
		"a failure of any storage write leaves one working configuration": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for write := 0; v.failWrite(write, func() { _, _ = v.try(logical.UpdateOperation, "rotate-root/default") }); write++ {
				v.mustWork(fmt.Sprintf("after a failure of write %d", write))
			}
		},
		"a write that fails and is stored all the same does not lock the engine out": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.storage.after = func(op, key string) error {
				if op == "put" && key == "config/default" {
					return errInjected
				}
				return nil
			}
			if resp, err := v.try(logical.UpdateOperation, "rotate-root/default"); failure(resp, err) == nil {
				t.Error("reported as a success")
			}
			v.storage.after = nil
			v.mustWork("after a write with a lost answer")
		},
		"an account that may not rotate says what it needs": func(t *testing.T, v *testVault) {
			v.configure()
			for range 9 {
				v.account.AddKey(cloudsim.KeySpec{})
			}
			v.mustRefuse(logical.UpdateOperation, "rotate-root/default", nil, "cannot be rotated", "0 of 10 issued by this mount, 10 others")
			v.mustRefuse(logical.UpdateOperation, "rotate-root/nope", nil, `account "nope" is not configured`)
		},
		"a key that rotation has replaced is not taken back, and the other fields are stored": func(t *testing.T, v *testVault) {
			v.configure()
			first := v.root
			answer := v.rotate()
			for range 2 {
				warnings := v.write("config/default", append(v.accountFields(), "max_ttl=2h")...)
				mustHold(t, strings.Join(warnings, " "), first.AccessKey, "replaced by rotation", answer["access_key"].(string))
				v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			}
			config := v.read("config/default")
			if config["access_key"] != answer["access_key"] || config["max_ttl"] != int64(7200) {
				t.Errorf("%v", config)
			}
			v.mustRevoke(v.lease("app"))
		},
		"a key that the engine made is deleted when an operator replaces it": func(t *testing.T, v *testVault) {
			v.configure()
			made := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.root = v.addKey("", "", time.Time{})
			v.write("config/default", v.accountFields()...)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			if _, there := v.key(made); there {
				t.Error("it is still there")
			}
			if _, there := v.key(v.root.AccessKey); !there {
				t.Error("the operator's key is gone")
			}
			v.mustRevoke(v.lease("app"))
		},
		"its entry leaves the ledger also where storage fails at first": func(_ *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.rotate()
			v.storage.before = func(op, key string) error {
				if op == "delete" && strings.HasPrefix(key, ledger.Prefix) {
					return errInjected
				}
				return nil
			}
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
			v.mustHaveLedger(2)
			v.storage.before = nil
			v.settle(2 * rollbackPeriod)
			v.mustHaveLedger(1)
		},
		"so it is when the new key belongs to another user": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			made := v.rotate()["access_key"].(string)
			v.root = v.account.RootKey()
			v.write("config/default", v.accountFields()...)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			if _, there := v.key(made); there {
				t.Error("it is still there")
			}
		},
		"a write that comes while a rotation runs is not lost": func(t *testing.T, v *testVault) {
			v.configure()
			v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second, Times: 1})
			rotated := make(chan map[string]any)
			go func() { rotated <- v.rotate() }()
			<-time.After(time.Second)
			v.write("config/default", "max_ttl=2h")
			answer := <-rotated
			config := v.read("config/default")
			if config["access_key"] != answer["access_key"] || config["max_ttl"] != int64(7200) {
				t.Errorf("%v", config)
			}
		},
		"leases leave room for the rotation": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "allow_root_identity=true")
			v.write("roles/self", "ttl=10h", "own_identity=true")
			for range 8 {
				v.lease("self")
			}
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.rotate()
		},
	}
	inBubble(t, tests)
	inHuawei(t, without(t, tests,
		"an EIM user's key rotates as well",
		"an account that may not rotate says what it needs",
		"so it is when the new key belongs to another user",
		"leases leave room for the rotation",
	))
}

func TestAutomaticRotation(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"under a policy of 900 s the engine lives for a week without one failed lease": func(t *testing.T, v *testVault) {
			v.surviveUnder(900, 7*day, 30*time.Minute)
		},
		"under a policy of 120 s it lives for hours": func(t *testing.T, v *testVault) {
			v.surviveUnder(120, 6*time.Hour, 5*time.Minute)
		},
		"a rotation_period rotates a key that never expires, and the new one has an expiration date in case Vault does not " +
			"return": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "rotation_period=24h")
			seen := map[any]bool{}
			for range 5 {
				v.settle(day + 2*rollbackPeriod)
				seen[v.read("config/default")["access_key"]] = true
			}
			if len(seen) != 5 {
				t.Errorf("%d keys in five days", len(seen))
			}
			key, _ := v.key(v.read("config/default")["access_key"].(string))
			if left := time.Until(key.Expires); left < day || left > 2*day {
				t.Errorf("the key has %s left", left)
			}
			v.mustHaveOwnKeys(1)
		},
		"without policy and period nothing rotates": func(t *testing.T, v *testVault) {
			v.configure()
			v.settle(3 * day)
			if id := v.read("config/default")["access_key"]; id != v.root.AccessKey {
				t.Errorf("rotated to %v", id)
			}
		},
		"a cloud that is down for a while is no harm": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600})
			v.rootKeyWithDate(59 * time.Minute)
			v.deleteKey(v.account.RootKey().AccessKey)
			v.configure("ttl=10m")
			for range 10 {
				cancel := v.order(cloudsim.Fault{Kind: cloudsim.Outage})
				v.settle(15 * time.Minute)
				cancel()
				v.settle(5 * time.Minute)
				v.mustRevoke(v.lease("app"))
			}
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"a performance primary keeps the replaced key until its secondaries have the new one": func(_ *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
			v.becomePrimary()
			v.rotate()
			v.settle(lifetime.PrimaryOverlap - rollbackPeriod)
			v.mustHaveOwnKeys(2)
			v.settle(3 * rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"OpenBao's active node, which calls itself a performance primary, keeps it no longer than others": func(_ *testing.T, v *testVault) {
			v.configure()
			v.system.become(consts.ReplicationPerformancePrimary | consts.ReplicationDRDisabled)
			v.system.PluginEnvironment = &logical.PluginEnvironment{VaultVersion: "2.7.2"}
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"a performance secondary leaves the rotation to the primary": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Hour)
			v.configure()
			v.system.become(consts.ReplicationPerformanceSecondary)
			v.settle(50 * time.Minute)
			if id := v.read("config/default")["access_key"]; id != v.root.AccessKey {
				t.Errorf("rotated to %v", id)
			}
		},
	})
}
