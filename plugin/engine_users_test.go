// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// addEngineUser makes a user who may do what an engine needs.
func (v *testVault) addEngineUser(name string) {
	if v.domain == nil {
		v.account.AddUser(name, "api:*")
		return
	}
	v.domain.AddUser(name, cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
}

// fieldsOf are those of an account of the same cloud account with a new key of a user.
func (v *testVault) fieldsOf(user string) []string {
	key := v.addKey(user, "", time.Time{})
	return append(v.accountFields(), "access_key="+key.AccessKey, "secret_key="+key.SecretKey)
}

// TestTheEnginesUserOfAnotherAccount has a mount with two accounts that are one in the cloud. The key of the second belongs to the
// user "vault-2". No role of either gets that user.
func TestTheEnginesUserOfAnotherAccount(t *testing.T) {
	t.Parallel()
	refusal := []string{`user "vault-2" owns the engine key of account "second"`, "Name another user"}
	// before has roles of the user stored before the second account is, which a write cannot refuse any more.
	before := func(v *testVault, writes ...[]string) (warnings string) {
		v.addEngineUser("vault-2")
		v.configure("ttl=10m")
		for _, write := range writes {
			v.write(write[0], write[1:]...)
		}
		return strings.Join(v.write("config/second", v.fieldsOf("vault-2")...), "\n")
	}
	role := []string{"roles/other", "user_names=vault-2", "ttl=10m"}
	static := []string{"static-roles/db", "user_name=vault-2", "rotation_period=24h"}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"a role that names it is refused": func(_ *testing.T, v *testVault) {
			before(v)
			v.mustRefuse(logical.UpdateOperation, "roles/other", []string{"user_names=app,vault-2"}, refusal...)
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, "does not exist")
		},
		"a role of the second account is refused as before": func(_ *testing.T, v *testVault) {
			before(v)
			v.mustRefuse(logical.UpdateOperation, "roles/other", []string{"account=second", "user_names=vault-2"},
				`user "vault-2" owns the engine's own access key:`)
		},
		"allow_root_identity of either account does not give it away": func(_ *testing.T, v *testVault) {
			before(v)
			v.write("config/default", "allow_root_identity=true")
			v.write("config/second", "allow_root_identity=true")
			v.mustRefuse(logical.UpdateOperation, "roles/other", []string{"user_names=vault-2"}, refusal...)
		},
		"a static role of it is refused": func(_ *testing.T, v *testVault) {
			before(v)
			v.mustRefuse(logical.UpdateOperation, "static-roles/db", static[1:], refusal...)
			v.mustRefuse(logical.ReadOperation, "static-creds/db", nil, "does not exist")
		},
		"a role that was there first leases nothing, and the second account keeps the slot of its next key": func(_ *testing.T, v *testVault) {
			mustHold(v.t, before(v, role), `role "other"`, `user "vault-2"`)
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, refusal...)
			v.lease("app")
			v.write("rotate-root/second")
		},
		"it leases nothing after a restart either": func(_ *testing.T, v *testVault) {
			before(v, role)
			v.restart()
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, refusal...)
		},
		"a static role that was there first keeps its key, and is not rotated": func(_ *testing.T, v *testVault) {
			mustHold(v.t, before(v, static), `static role "db"`, `user "vault-2"`)
			key := v.staticKey("db")
			v.mustRefuse(logical.UpdateOperation, "rotate-role/db", nil, refusal...)
			v.mustBeLive(true, key)
			if now := v.staticKey("db"); now != key {
				v.t.Errorf("the key is %s, and was %s", now, key)
			}
		},
		"a write of the second account names all roles that it blocks, and nothing else": func(t *testing.T, v *testVault) {
			mustHold(t, before(v, role), `role "other"`)
			if warnings := strings.Join(v.write("config/default", v.accountFields()...), "\n"); strings.Contains(warnings, "role ") {
				t.Errorf("%s", warnings)
			}
			v.write("roles/other", "user_names=app")
			if warnings := strings.Join(v.write("config/second"), "\n"); strings.Contains(warnings, "role ") {
				t.Errorf("%s", warnings)
			}
		},
		"a role leases again once the second account has a key of somebody else": func(_ *testing.T, v *testVault) {
			before(v, role)
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, refusal...)
			v.addEngineUser("vault-3")
			v.write("config/second", v.fieldsOf("vault-3")...)
			v.lease("other")
		},
		"or once the second account is deleted": func(_ *testing.T, v *testVault) {
			before(v, role)
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, refusal...)
			resp, err := v.try(logical.DeleteOperation, "config/second")
			v.mustSucceed("delete", resp, err)
			v.lease("other")
		},
		"what another node writes counts": func(t *testing.T, v *testVault) {
			before(v, role)
			config, err := load[accountConfig](t.Context(), v.storage, configPrefix+"second")
			if err != nil {
				t.Fatal(err)
			}
			for stored, change := range map[bool]func() error{
				false: func() error { return remove(t.Context(), v.storage.Storage, configPrefix+"second") },
				true:  func() error { return save(t.Context(), v.storage.Storage, configPrefix+"second", config) },
			} {
				if err := change(); err != nil {
					t.Fatal(err)
				}
				v.backend.InvalidateKey(t.Context(), configPrefix+"second")
				if _, err := v.tryLease(t.Context(), "other"); (err != nil) != stored {
					t.Errorf("with the account stored (%t): %v", stored, err)
				}
				v.mustRevokeAll()
			}
		},
		"an account that was written with verify=false counts from when its user is known": func(t *testing.T, v *testVault) {
			v.addEngineUser("vault-2")
			v.configure("ttl=10m")
			v.write("config/second", append(v.fieldsOf("vault-2"), "verify=false")...)
			v.write("roles/other", role[1:]...)
			v.write("roles/second", "account=second", "user_names=app", "ttl=10m")
			v.lease("second")
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, refusal...)
		},
		"a lease reads no configuration for it that the one before has read": func(t *testing.T, v *testVault) {
			before(v)
			v.restart()
			v.mustRevoke(v.lease("app"))
			reads := v.countStorage(configPrefix)
			v.lease("app")
			if n := reads(); n != 0 {
				t.Errorf("%d calls of storage", n)
			}
		},
		"a configuration that cannot be read keeps no other account from leasing": func(t *testing.T, v *testVault) {
			before(v)
			v.restart()
			v.failReads(configPrefix + "second")
			v.mustRevoke(v.lease("app"))
			reads := v.countStorage(configPrefix)
			v.mustRevoke(v.lease("app"))
			if n := reads(); n != 0 {
				t.Errorf("%d calls of storage", n)
			}
		},
		"and counts a minute after it can be read": func(_ *testing.T, v *testVault) {
			before(v, role)
			v.restart()
			v.failReads(configPrefix + "second")
			v.mustRevoke(v.lease("other"))
			v.storage.before = nil
			v.advance(time.Minute)
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, refusal...)
		},
		"it is the user whatever it is called by now, and whoever has its name is not": func(_ *testing.T, v *testVault) {
			before(v)
			v.renameUser("vault-2", "ops")
			v.addUser("vault-2")
			v.mustRefuse(logical.UpdateOperation, "roles/other", []string{"user_names=ops"}, `user "ops" owns`, `account "second"`)
			v.mustRefuse(logical.UpdateOperation, "static-roles/db", []string{"user_name=ops", "rotation_period=24h"}, `user "ops" owns`,
				`account "second"`)
			v.write("roles/other", "user_names=vault-2")
			v.lease("other")
		},
	})
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a user of that name in another cloud account is anybody": func(_ *testing.T, v *testVault) {
			elsewhere := v.sim.AddAccount("999999999999")
			elsewhere.AddUser("vault-2", "api:*")
			key := elsewhere.AddKey(cloudsim.KeySpec{User: "vault-2"})
			v.configure("ttl=10m")
			v.write("config/second", append(v.accountFields(), "access_key="+key.AccessKey, "secret_key="+key.SecretKey)...)
			v.addUser("vault-2")
			v.write("roles/other", "user_names=vault-2")
			v.lease("other")
		},
		"an account that allows its own identity leases it, also where another has a key of the same user": func(t *testing.T, v *testVault) {
			v.addEngineUser("vault-2")
			v.write("config/default", append(v.fieldsOf("vault-2"), "allow_root_identity=true")...)
			v.write("roles/own", "user_names=vault-2", "own_identity=true", "ttl=10m")
			warnings := v.write("config/second", v.fieldsOf("vault-2")...)
			if slices.ContainsFunc(warnings, func(warning string) bool { return strings.Contains(warning, `role "own"`) }) {
				t.Errorf("%q", warnings)
			}
			v.lease("own")
		},
		"one that allows it does not lease that of another": func(_ *testing.T, v *testVault) {
			before(v)
			v.write("config/default", "allow_root_identity=true")
			v.mustRefuse(logical.UpdateOperation, "roles/own", []string{"own_identity=true", "user_names=vault-2"}, refusal...)
		},
	})
}
