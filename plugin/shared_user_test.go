// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestALeaseAndAStaticRoleOverOneUser is E32: both writes say so, and where a user has two slots the second is refused.
func TestALeaseAndAStaticRoleOverOneUser(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E32: the role is warned of the static role, and the other way round": func(t *testing.T, v *testVault) {
			v.configure()
			mustHold(t, strings.Join(v.write("static-roles/db", "user_name=app", "rotation_period=24h"), "\n"),
				`role "app" leases keys of user "app"`, "slots")
			mustHold(t, strings.Join(v.write("roles/other", "user_names=app"), "\n"), `user "app" belongs to static role "db"`, "slots")
			mustHold(t, strings.Join(v.write("static-roles/db", "rotation_period=48h"), "\n"), `role "app" leases`, `role "other" leases`)
			v.account.AddUser("free")
			if warnings := strings.Join(v.write("roles/other", "user_names=free"), "\n"); strings.Contains(warnings, "static role") {
				t.Errorf("%s", warnings)
			}
		},
		"E32: so it is by another account of the same cloud account, and under another name": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/second", v.accountFields()...)
			v.renameUser("app", "app2")
			mustHold(t, strings.Join(v.write("static-roles/db", "account=second", "user_name=app2", "rotation_period=24h"), "\n"),
				`role "app" leases`)
			v.account.AddUser("app") // somebody else
			if warnings := strings.Join(v.write("static-roles/db2", "user_name=app", "rotation_period=24h"), "\n"); strings.Contains(warnings,
				"leases keys") {
				t.Errorf("%s", warnings)
			}
		},
	})
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"E32: the second is refused": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "static-roles/db", []string{"user_name=app", "rotation_period=24h"},
				`role "app" leases keys of user "app"`, "2 access keys")
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=24h")
			v.mustRefuse(logical.UpdateOperation, "roles/other", []string{"user_names=app,db"}, `user "db" belongs to static role "db"`,
				"2 access keys")
			v.lease("app")
		},
	})
}

// TestAUserHasOneStaticRole holds for all accounts that are one in the cloud: on Huawei Cloud two roles would take both slots of
// their user, and neither could ever rotate.
func TestAUserHasOneStaticRole(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"also by another account of the same cloud account": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("config/second", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			v.mustRefuse(logical.UpdateOperation, "static-roles/again", []string{"account=second", "user_name=app", "rotation_period=24h"},
				`user "app" belongs to static role "db" already`)
			v.write("rotate-role/db")
		},
	})
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"whatever the user is called by now": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			v.renameUser("app", "app2")
			v.mustRefuse(logical.UpdateOperation, "static-roles/again", []string{"user_name=app2", "rotation_period=24h"},
				`user "app2" belongs to static role "db" already`)
			v.account.AddUser("app") // somebody else
			v.write("static-roles/new", "user_name=app", "rotation_period=24h")
		},
	})
}

// TestRolesThatAreWrittenTogetherDoNotShareAUser has the second write begin when the first one has looked and is about to be
// stored: it waits, and is refused.
func TestRolesThatAreWrittenTogetherDoNotShareAUser(t *testing.T) {
	t.Parallel()
	lease, static := []string{"roles/app", "user_names=db", "ttl=10m"}, []string{"static-roles/db", "user_name=db", "rotation_period=24h"}
	again := []string{"static-roles/again", "user_name=db", "rotation_period=24h"}
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, writes := range map[string][2][]string{
		"a static role while a role is written": {lease, static},
		"a role while a static role is written": {static, lease},
		"two static roles":                      {static, again},
	} {
		tests[name] = func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.addUser("db")
			first, second := writes[0], writes[1]
			var late sync.WaitGroup
			var refused error
			v.storage.before = func(op, key string) error {
				if op == "put" && key == first[0] {
					v.storage.before = nil
					late.Go(func() { refused = failure(v.try(logical.UpdateOperation, second[0], second[1:]...)) })
					synctest.Wait() // until it waits for the first, or has ended
				}
				return nil
			}
			v.write(first[0], first[1:]...)
			late.Wait()
			if refused == nil {
				t.Errorf("%s was written beside %s", second[0], first[0])
			}
			v.mustRefuse(logical.UpdateOperation, second[0], second[1:], "db")
			if entry, err := v.storage.Get(t.Context(), second[0]); entry != nil || err != nil {
				t.Errorf("%s is stored, or cannot be read: %v", second[0], err)
			}
		}
	}
	inHuawei(t, tests)
}

// TestAStaticRoleIsAbandonedWithForce is E15 for static-roles/.
func TestAStaticRoleIsAbandonedWithForce(t *testing.T) {
	t.Parallel()
	setUp := func(v *testVault) (first, second string) {
		v.t.Helper()
		v.write("config/default", v.accountFields()...)
		v.write("static-roles/db", "user_name=app", "rotation_period=24h", "rotation_grace_period=4h")
		v.settleNew()
		first = v.staticKey("db")
		v.write("rotate-role/db")
		v.settleNew()
		return first, v.staticKey("db")
	}
	closeCloud := func(v *testVault) (open func()) {
		return v.sim.Order(cloudsim.Fault{Kind: cloudsim.RefuseConnection})
	}
	force := func(v *testVault) string {
		v.t.Helper()
		resp, err := v.try(logical.DeleteOperation, "static-roles/db", "force=true")
		v.mustSucceed("delete", resp, err)
		if role, err := load[staticRole](v.t.Context(), v.storage, staticRolePrefix+"db"); role != nil || err != nil {
			v.t.Errorf("the role is still there, %v", err)
		}
		if resp == nil {
			return ""
		}
		return strings.Join(resp.Warnings, "\n")
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"E15: of a cloud that does not answer: its keys are named, and deleted once it does": func(t *testing.T, v *testVault) {
			first, second := setUp(v)
			open := closeCloud(v)
			if resp, err := v.try(logical.DeleteOperation, "static-roles/db"); failure(resp, err) == nil {
				t.Fatal("deleted without force")
			}
			mustHold(t, force(v), first, second, `user "app"`, "abandoned")
			v.mustHaveLedger(2)
			open()
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			v.mustBeLive(false, first, second)
			v.mustHaveLedger(0)
		},
		"E15: or by keys/, one by one": func(_ *testing.T, v *testVault) {
			first, second := setUp(v)
			open := closeCloud(v)
			force(v)
			open()
			<-time.After(time.Minute)
			for _, id := range []string{first, second} {
				resp, err := v.try(logical.DeleteOperation, "keys/"+id)
				v.mustSucceed("delete", resp, err)
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"E15: the account stays as long as they do": func(_ *testing.T, v *testVault) {
			setUp(v)
			open := closeCloud(v)
			force(v)
			open()
			<-time.After(time.Minute)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "2 access keys of static roles that were deleted with force", "Run tidy, which deletes them, first")
			v.tidy()
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete", resp, err)
			v.mustHaveLive(0)
		},
		"E15: while the cloud takes the engine key there is nothing to force": func(_ *testing.T, v *testVault) {
			_, second := setUp(v)
			stop := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "4"})
			v.mustRefuse(logical.DeleteOperation, "static-roles/db", []string{"force=true"}, "nothing is to be forced")
			v.read("static-roles/db")
			stop()
			if warnings := force(v); warnings != "" {
				v.t.Errorf("%s", warnings)
			}
			v.mustBeLive(false, second)
			v.mustHaveLedger(0)
		},
		"E15: after the account was deleted with force": func(t *testing.T, v *testVault) {
			_, second := setUp(v)
			defer closeCloud(v)()
			resp, err := v.try(logical.DeleteOperation, "config/default", "force=true")
			v.mustSucceed("delete config", resp, err)
			v.mustRefuse(logical.DeleteOperation, "static-roles/db", nil, "not configured")
			mustHold(t, force(v), second, "abandoned")
			v.mustHaveLedger(2)
			resp, err = v.try(logical.DeleteOperation, "keys/"+second, "force=true")
			v.mustSucceed("delete key", resp, err)
			v.mustHaveLedger(1)
		},
		"a role that is written again under its name is another": func(_ *testing.T, v *testVault) {
			first, second := setUp(v)
			open := closeCloud(v)
			force(v)
			open()
			<-time.After(2 * time.Minute)
			v.deleteKey(first) // which makes room where there are two slots
			v.write("static-roles/db", "user_name=app", "rotation_period=720h")
			v.settle(3 * reconcilePeriod)
			v.mustBeLive(false, second)
			v.mustBeLive(true, v.staticKey("db"))
			v.mustHaveLive(1)
		},
		"force and keep_key exclude each other": func(_ *testing.T, v *testVault) {
			setUp(v)
			v.mustRefuse(logical.DeleteOperation, "static-roles/db", []string{"force=true", "keep_key=true"}, "exclude each other")
		},
	})
}
