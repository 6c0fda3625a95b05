// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestStaticRole(t *testing.T) {
	setUp := func(v *testVault, fields ...string) map[string]any {
		v.t.Helper()
		v.write("config/default", v.accountFields()...)
		v.write("static-roles/db", append([]string{"user_name=app"}, fields...)...)
		return v.read("static-creds/db")
	}
	gone := func(v *testVault, id any) bool {
		_, there := v.key(id.(string))
		return !there
	}
	tests := map[string]func(t *testing.T, v *testVault){
		"the first write takes the user on, without touching its other keys": func(t *testing.T, v *testVault) {
			foreign := v.addKey("app", "", time.Time{})
			creds := setUp(v, "rotation_period=24h")
			if creds["user_name"] != "app" || creds["ttl"] != int64(86400) || creds["rotation_period"] != int64(86400) ||
				creds["last_vault_rotation"] == "" {
				t.Errorf("%v", creds)
			}
			v.settle(3 * day)
			if gone(v, foreign.AccessKey) {
				t.Error("the foreign key is gone")
			}
		},
		"the key is rotated on time, and the old one works through the grace and is gone after it": func(t *testing.T, v *testVault) {
			first := setUp(v, "rotation_period=24h", "rotation_grace_period=30m")
			v.settle(day - 2*rollbackPeriod)
			if now := v.read("static-creds/db"); now["access_key"] != first["access_key"] {
				t.Fatal("rotated early")
			}
			v.settle(4 * rollbackPeriod)
			second := v.read("static-creds/db")
			if second["access_key"] == first["access_key"] {
				t.Fatal("not rotated")
			}
			if key, there := v.key(first["access_key"].(string)); !there || !v.live(key) {
				t.Error("the old key does not work during the grace")
			}
			v.settle(30 * time.Minute)
			if !gone(v, first["access_key"]) {
				t.Error("the old key is still there")
			}
			if kind := v.read("keys/" + second["access_key"].(string))["kind"]; kind != "static" {
				t.Errorf("the ledger calls it %v", kind)
			}
		},
		"a schedule is kept in UTC, within its window, over restarts": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_schedule=0 3 * * *", "rotation_window=1h")
			for range 4 {
				before := v.read("static-creds/db")["access_key"]
				next, err := time.Parse(time.RFC3339, v.read("static-roles/db")["next_vault_rotation"].(string))
				if err != nil || next.UTC().Hour() != 3 || next.Minute() != 0 {
					t.Fatalf("next rotation at %s, %v", next, err)
				}
				v.restart()
				v.settle(time.Until(next) + 2*rollbackPeriod)
				if v.read("static-creds/db")["access_key"] == before {
					t.Fatal("not rotated")
				}
			}
		},
		"a rotation that missed its window waits for the next one": func(t *testing.T, v *testVault) {
			first := setUp(v, "rotation_schedule=0 3 * * *", "rotation_window=1h")
			<-time.After(30 * time.Hour) // Vault was down over the window
			v.settle(2 * rollbackPeriod)
			if v.read("static-creds/db")["access_key"] != first["access_key"] {
				t.Error("rotated outside the window")
			}
			v.settle(day)
			if v.read("static-creds/db")["access_key"] == first["access_key"] {
				t.Error("not rotated in the next window")
			}
		},
		"rotating by hand starts a new period": func(t *testing.T, v *testVault) {
			first := setUp(v, "rotation_period=24h")
			v.settle(12 * time.Hour)
			v.write("rotate-role/db")
			second := v.read("static-creds/db")
			if second["access_key"] == first["access_key"] || second["ttl"] != int64(86400) {
				t.Errorf("%v", second)
			}
		},
		"rotating twice in a row orphans nothing": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h")
			for range 5 {
				v.write("rotate-role/db")
			}
			v.settle(2 * time.Hour)
			v.mustHaveLive(1)
		},
		"at the quota its own previous key makes room": func(t *testing.T, v *testVault) {
			for range 8 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			setUp(v, "rotation_period=24h")
			v.write("rotate-role/db")
			v.write("rotate-role/db")
			if n := len(v.keys()); n != 8+2+1 {
				t.Errorf("%d keys", n)
			}
		},
		"E31: at the quota the oldest of its previous keys makes room, one at a time": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h", "rotation_grace_period=6h")
			quota, made := v.backend.openedAccount("default").cloud.KeyQuota(), []string{v.read("static-creds/db")["access_key"].(string)}
			for range 13 {
				<-time.After(time.Second)
				v.write("rotate-role/db")
				made = append(made, v.read("static-creds/db")["access_key"].(string))
				for i, id := range made {
					if _, there := v.key(id); there != (i >= len(made)-quota) {
						t.Errorf("after %d keys: the one of place %d is there: %v", len(made), i, there)
					}
				}
			}
		},
		"a quota full of foreign keys is refused with the counts": func(_ *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h")
			for range 9 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			v.mustRefuse(logical.UpdateOperation, "rotate-role/db", nil, "cannot be rotated", "1 of 10 issued by this mount, 9 others")
		},
		"under a policy the key is replaced before its date": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600})
			v.rootKeyWithDate(time.Hour)
			v.deleteKey(v.account.RootKey().AccessKey)
			setUp(v, "rotation_period=30m")
			for range 48 {
				v.settle(30 * time.Minute)
				creds := v.read("static-creds/db")
				if key, there := v.key(creds["access_key"].(string)); !there || !key.Live(time.Now()) {
					t.Fatal("the current key is dead")
				}
			}
		},
		"a rotation that the policy leaves no time for is refused with the arithmetic": func(_ *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600})
			v.rootKeyWithDate(time.Hour)
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "static-roles/db", []string{"user_name=app", "rotation_period=1h"}, "1h0m0s at most",
				"1h15m5s", "MaxAccessKeyExpirationSeconds")
		},
		"deleting the role deletes its keys": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h")
			v.write("rotate-role/db")
			resp, err := v.try(logical.DeleteOperation, "static-roles/db")
			v.mustSucceed("delete", resp, err)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
			v.mustRefuse(logical.ReadOperation, "static-creds/db", nil, `static role "db" does not exist`)
		},
		"an account with static roles cannot be deleted": func(_ *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use (1 static roles)")
		},
		"a death at any step of a rotation leaves the role with one working key": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h", "rotation_grace_period=5m")
			steps := 0
			for ; v.dieAt(steps, func(context.Context) { _, _ = v.try(logical.UpdateOperation, "rotate-role/db") }); steps++ {
				v.restart()
				v.mustHaveStatic(fmt.Sprintf("after a death at step %d", steps))
			}
			if steps < 10 {
				t.Errorf("only %d steps", steps)
			}
		},
		"a failure of any storage write does so too": func(_ *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h", "rotation_grace_period=5m")
			for write := 0; v.failWrite(write, func() { _, _ = v.try(logical.UpdateOperation, "rotate-role/db") }); write++ {
				v.mustHaveStatic(fmt.Sprintf("after a failure of write %d", write))
			}
		},
		"a ledger entry that storage took, and could not be asked to drop again, goes with the rollback": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h", "rotation_grace_period=5m")
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, ledger.Prefix) {
					v.storage.before = func(string, string) error { return errInjected }
					return errInjected
				}
				return nil
			}
			if resp, err := v.try(logical.UpdateOperation, "rotate-role/db"); failure(resp, err) == nil {
				t.Error("reported as a success")
			}
			v.storage.before, v.storage.after = nil, nil
			v.mustHaveStatic("after storage was down")
		},
		"a write that fails and is stored all the same keeps its key": func(_ *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h", "rotation_grace_period=5m")
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, staticCredsPrefix) {
					return errInjected
				}
				return nil
			}
			_, _ = v.try(logical.UpdateOperation, "rotate-role/db")
			v.storage.after = nil
			v.mustHaveStatic("after a write with a lost answer")
		},
		"so does that of a new role, which is kept with the key": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, staticCredsPrefix) {
					return errInjected
				}
				return nil
			}
			if resp, err := v.try(logical.UpdateOperation, "static-roles/db", "user_name=app", "rotation_period=24h"); failure(resp, err) == nil {
				v.t.Error("reported as a success")
			}
			v.storage.after = nil
			v.mustHaveStatic("after a first write with a lost answer")
		},
		"null in a patch is the default grace again": func(t *testing.T, v *testVault) {
			setUp(v, "rotation_period=24h", "rotation_grace_period=10m")
			v.patch("static-roles/db", map[string]any{"rotation_grace_period": nil})
			if grace := v.read("static-roles/db")["rotation_grace_period"]; grace != int64(3600) {
				t.Errorf("%v", grace)
			}
		},
		"a policy that leaves less than the role needs does not rotate it at every tick": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(90 * time.Hour)
			setUp(v, "rotation_period=24h")
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 1800})
			v.write("rotate-role/db")
			seen := map[any]bool{}
			for range 40 {
				v.settle(rollbackPeriod)
				seen[v.read("static-creds/db")["access_key"]] = true
			}
			if len(seen) > 4 {
				t.Errorf("%d keys in 40 minutes", len(seen))
			}
		},
		"a death between the role and its first key is made up for by the next tick": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			role := staticRole{Account: "default", UserName: "app", RotationPeriod: day, Grace: time.Hour}
			if err := save(t.Context(), v.storage, staticRolePrefix+"db", role); err != nil {
				t.Fatal(err)
			}
			v.mustRefuse(logical.ReadOperation, "static-creds/db", nil, "no key yet")
			v.settle(2 * rollbackPeriod)
			v.read("static-creds/db")
		},
		"an account that is down does not keep the others' roles from rotating": func(t *testing.T, v *testVault) {
			first := setUp(v, "rotation_period=24h")
			v.write("config/second", v.accountFields()...)
			v.addUser("other")
			v.write("static-roles/a-first-in-order", "account=second", "user_name=other", "rotation_period=24h")
			v.replaceConfig(func(*accountConfig) {})
			v.order(cloudsim.Fault{Op: "CreateAccessKey", User: "other", Kind: cloudsim.Refuse, Status: 500})
			v.settle(day + 4*rollbackPeriod)
			if v.read("static-creds/db")["access_key"] == first["access_key"] {
				t.Error("not rotated")
			}
		},
	}
	inBubble(t, tests)
	inHuawei(t, without(t, tests,
		"at the quota its own previous key makes room",
		"a quota full of foreign keys is refused with the counts",
		"under a policy the key is replaced before its date",
		"a rotation that the policy leaves no time for is refused with the arithmetic",
		"a policy that leaves less than the role needs does not rotate it at every tick",
	))
}

func TestStaticRoleInput(t *testing.T) {
	tests := map[string]struct {
		fields []string
		says   []string
	}{
		"no user":          {[]string{"rotation_period=1h"}, []string{"user_name"}},
		"a malformed user": {[]string{"user_name=a/b", "rotation_period=1h"}, []string{`"a/b"`}},
		"a user that does not exist": {
			[]string{"user_name=ghost", "rotation_period=1h"},
			[]string{`"ghost"`, "does not exist"},
		},
		"neither period nor schedule": {[]string{"user_name=app"}, []string{"either rotation_period or rotation_schedule"}},
		"period and schedule": {[]string{
			"user_name=app", "rotation_period=1h",
			"rotation_schedule=0 3 * * *",
		}, []string{"either"}},
		"a period too short":      {[]string{"user_name=app", "rotation_period=1m"}, []string{"5m0s is the least"}},
		"a schedule that is none": {[]string{"user_name=app", "rotation_schedule=banana"}, []string{`"banana"`, "cron"}},
		"E2: a zone, which the parser would panic over": {
			[]string{"user_name=app", "rotation_schedule=TZ=UTC"},
			[]string{"TZ=UTC", "five fields"},
		},
		"E2: a zone that is no part of a schedule": {
			[]string{"user_name=app", "rotation_schedule=CRON_TZ=Asia/Tokyo 0 2 * * *"},
			[]string{"five fields"},
		},
		"E33: a schedule below the least period": {
			[]string{"user_name=app", "rotation_schedule=* * * * *"},
			[]string{"5m0s is the least"},
		},
		"E33: 171 years, twice which overflows": {[]string{"user_name=app", "rotation_period=1500000h"}, []string{"ten years"}},
		"a schedule that never comes":           {[]string{"user_name=app", "rotation_schedule=0 0 30 2 *"}, []string{"never comes"}},
		"a window without a schedule": {
			[]string{"user_name=app", "rotation_period=3h", "rotation_window=1h"},
			[]string{"rotation_window goes with rotation_schedule"},
		},
		"a window too short": {[]string{
			"user_name=app", "rotation_schedule=0 3 * * *",
			"rotation_window=5m",
		}, []string{"1h0m0s"}},
		"a grace longer than a round": {
			[]string{"user_name=app", "rotation_period=1h", "rotation_grace_period=2h"},
			[]string{"rotation_grace_period (2h0m0s)"},
		},
		"an unknown account": {
			[]string{"user_name=app", "rotation_period=1h", "account=nope"},
			[]string{`account "nope" is not configured`},
		},
		"the engine's own user": {
			[]string{"user_name=vault", "rotation_period=1h"},
			[]string{"owns the engine's own access key"},
		},
		"the engine's own, by another name of the account": {
			[]string{"account=blind", "user_name=vault", "rotation_period=1h"},
			[]string{"owns the engine's own access key"},
		},
		"a user of another role": {
			[]string{"user_name=taken", "rotation_period=1h"},
			[]string{`belongs to static role "other"`},
		},
	}
	for name, test := range tests {
		inBubble(t, map[string]func(t *testing.T, v *testVault){name: func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.account.AddUser("taken")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/other", "user_name=taken", "rotation_period=1h")
			// An engine that may not list users does not know whose its key is.
			v.order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 401, Code: "7"})
			v.write("config/blind", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "static-roles/db", test.fields, test.says...)
			if resp, _ := v.try(logical.ReadOperation, "static-roles/db"); resp != nil {
				t.Error("it was stored all the same")
			}
			v.mustHaveLive(1)
		}})
	}
}
