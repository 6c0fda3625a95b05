// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestHuaweiRotation replaces keys where an identity has two slots.
func TestHuaweiRotation(t *testing.T) {
	t.Parallel()
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"the next rotation waits for the slot of the key before": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.rotate()
			v.sim.ResetCalls()
			v.mustRefuse(logical.UpdateOperation, "rotate-root/default", nil, "cannot be rotated yet", v.root.AccessKey, "works until")
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d calls", n)
			}
			<-time.After(lifetime.RotationOverlap) // no tick has come since
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"a foreign key in the second slot is named by the refusal and by check": func(t *testing.T, v *testVault) {
			v.configure()
			foreign := v.addKey("", "", time.Time{}).AccessKey
			v.mustRefuse(logical.UpdateOperation, "rotate-root/default", nil, "cannot be rotated", "0 of 2 issued by this mount, 2 others",
				"("+foreign+")")
			check := v.read("check/default")
			v.mustFind(check, "warning", "engine key cannot be rotated", foreign, "delete one that nobody uses")
			v.deleteKey(foreign)
			v.rotate()
		},
		"by rotation_period it goes on for weeks": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.write("config/default", "rotation_period=24h")
			first := v.root.AccessKey
			v.settle(15*day + day/2)
			config := v.read("config/default")
			if config["access_key"] == first || config["key_expiration"] != "" || config["next_rotation"] == "" {
				t.Errorf("%v", config)
			}
			v.mustRevoke(v.lease("app"))
			v.mustHaveOwnKeys(1)
		},
		"no expiration date stands on the engine's own key and a static role's": func(t *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "rotation_period=24h")...)
			v.rotate()
			v.write("static-roles/app", "user_name=app", "rotation_period=24h")
			made := 0
			for _, key := range v.domain.Keys() {
				if !strings.HasPrefix(key.Description, "cloudkeys-") {
					continue
				}
				made++
				if strings.Contains(key.Description, "until") {
					t.Errorf("access key %s of %s: %q", key.ID, key.User, key.Description)
				}
			}
			if made != 2 {
				t.Errorf("%d keys", made)
			}
		},
		"a new key that is refused for seconds takes over all the same": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for _, delay := range []time.Duration{2 * time.Second, 10 * time.Second} {
				v.sim.SetHuaweiRules(cloudsim.HuaweiRules{ActivationDelay: delay})
				v.rotate()
				v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
				v.mustRevoke(v.lease("app"))
				v.mustHaveOwnKeys(1)
			}
		},
		"so it does by itself, within a tick": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{ActivationDelay: 10 * time.Second})
			v.configure("ttl=10m")
			v.write("config/default", "rotation_period=1h")
			v.settle(6 * time.Hour)
			if v.read("config/default")["access_key"] == v.root.AccessKey {
				t.Error("not rotated")
			}
			v.mustHaveOwnKeys(1)
		},
		"a new key that is not found for seconds takes over all the same": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{KeyDelay: 8 * time.Second})
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"a replaced key of another user takes no slot of the present one's": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.rotate()
			v.domain.AddUser("vault-2", cloudsim.SecurityAdministrator)
			v.root = v.domain.AddKey(cloudsim.IAMKeySpec{User: "vault-2"})
			v.write("config/default", v.accountFields()...)
			v.rotate()
		},
		"one that stays refused is deleted unlocked, and the old key goes on": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{ActivationDelay: time.Hour})
			refused := map[string]int{}
			v.sim.OnAnswer(func(c cloudsim.Call) {
				if c.Status == 401 {
					refused[c.AccessKey]++
				}
			})
			if resp, err := v.try(logical.UpdateOperation, "rotate-root/default"); failure(resp, err) == nil {
				t.Error("rotated")
			} else {
				mustHold(t, failure(resp, err).Error(), "the new key does not work, and the old one stays")
			}
			for id, n := range refused {
				if n >= 5 || v.domain.Locked(id) {
					t.Errorf("%s was refused %d times", id, n)
				}
			}
			if len(refused) != 1 || v.locked() {
				t.Errorf("%v", refused)
			}
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{})
			v.mustWork("afterwards")
		},
		"a static role lives within its user's two slots": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h", "rotation_grace_period=6h")
			creds := v.read("static-creds/db")
			if creds["expiration"] != "" || creds["ttl"] != int64(86400) {
				t.Errorf("%v %v", creds["expiration"], creds["ttl"])
			}
			for range 5 {
				v.write("rotate-role/db")
				if n := len(v.liveKeys()); n > 2 {
					t.Errorf("%d keys", n)
				}
				stored, err := load[staticCreds](t.Context(), v.storage, staticCredsPrefix+"db")
				if err != nil || len(stored.Previous) != 1 {
					t.Errorf("%d replaced keys are stored, want the one that is left, %v", len(stored.Previous), err)
				}
			}
			v.settle(30*day + day/2)
			v.mustHaveStatic("after a month")
		},
		"a foreign key in a static role's second slot is named by the refusal and by check": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			foreign := v.addKey("app", "", time.Time{}).AccessKey
			v.mustRefuse(logical.UpdateOperation, "rotate-role/db", nil, "cannot be rotated", "1 of 2 issued by this mount, 1 others",
				"("+foreign+")")
			v.mustFind(v.read("check/default"), "error", `static role "db" cannot be rotated`, foreign)
		},
		"a static role's key can be handed over": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			resp, err := v.try(logical.DeleteOperation, "static-roles/db", "keep_key=true")
			v.mustSucceed("delete", resp, err)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
			if n := len(v.keys()); n != 2 {
				t.Errorf("%d keys", n)
			}
		},
	})
}

func TestHuaweiCheck(t *testing.T) {
	t.Parallel()
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"a healthy account with a full pool has nothing to say": func(t *testing.T, v *testVault) {
			v.domain.AddUser("app-2")
			v.write("config/default", append(v.accountFields(), "max_ttl=24h", "rotation_period=720h")...)
			v.write("roles/app", "user_names=app,app-2", "ttl=1h")
			for range 3 {
				v.lease("app")
			}
			check := v.read("check/default")
			if check["healthy"] != true || len(check["findings"].([]string)) != 0 {
				t.Errorf("%v", check["findings"])
			}
			if check["policy_known"] != true || check["limited_by"] != "account, policy none" {
				t.Errorf("%v", check)
			}
			v.rotate()
			if check := v.read("check/default"); len(check["findings"].([]string)) != 0 {
				t.Errorf("after a rotation: %v", check["findings"])
			}
			v.lease("app")
			v.mustFind(v.read("check/default"), "error", `role "app" cannot lease`, "no user of it has a free slot")
		},
		"a foreign key on a pool's user is a slot lost, and no blocker": func(t *testing.T, v *testVault) {
			v.configure()
			foreign := v.addKey("app", "", time.Time{}).AccessKey
			check := v.read("check/default")
			v.mustFind(check, "warning", `user "app"`, "1 of 2", foreign, "take slots from its leases")
			if check["healthy"] != true || len(check["keys_without_expiration"].([]string)) != 0 {
				t.Errorf("%v", check)
			}
		},
		"roles of sessions and of new users need no slot of the engine's own identity": func(t *testing.T, v *testVault) {
			v.configureSessions("ttl=1h")
			v.write("config/default", "max_ttl=24h", "rotation_period=720h")
			v.domain.AddGroup("builders")
			v.write("roles/maker", "credential_type=iam_user", "groups=builders")
			if check := v.read("check/default"); check["healthy"] != true || len(check["findings"].([]string)) != 0 {
				t.Errorf("%v", check["findings"])
			}
		},
		"an expired key that nobody has tried to remove yet is nothing to fix": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil
			<-time.After(time.Hour) // while no node is active
			if check := v.read("check/default"); check["healthy"] != true {
				t.Errorf("%v", check["findings"])
			}
		},
		"without bounds it says where to set them": func(_ *testing.T, v *testVault) {
			v.configure()
			check := v.read("check/default")
			v.mustFind(check, "warning", "sets no limit to the life of access keys", "set max_ttl in config/default")
			v.mustFind(check, "warning", "has no end, and is never replaced by itself", "set rotation_period in config/default")
		},
		"a user that does not exist, and a key that may not": func(_ *testing.T, v *testVault) {
			v.configure()
			v.write("roles/ghost", "user_names=ghost")
			v.mustFind(v.read("check/default"), "error", `user "ghost"`, "does not exist")
			v.write("roles/job", "credential_type=iam_user", "groups=readers")
			v.domain.AddUser("vault")
			v.mustFind(v.read("check/default"), "error", "permission missing", "KeystoneListGroups")
			v.mustFind(v.read("check/default"), "error", "permission missing", "Security Administrator")
		},
	})
}
