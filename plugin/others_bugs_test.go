// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestBugsOfOtherEngines holds this engine against what went wrong in others and has no
// test elsewhere. Each name ends with where it was seen.
func TestBugsOfOtherEngines(t *testing.T) {
	t.Parallel()
	static := func(v *testVault, fields ...string) string {
		v.t.Helper()
		v.write("config/default", v.accountFields()...)
		v.write("static-roles/db", append([]string{"user_name=app"}, fields...)...)
		return v.read("static-creds/db")["access_key"].(string)
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a rollback deletes the key of its request, and no other key of the user (vault-plugin-secrets-gcp " +
			"rollback.go)": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			foreign := v.account.AddKey(cloudsim.KeySpec{User: "app"})
			other := v.account.AddKey(cloudsim.KeySpec{User: "app", Tag: keylabel.New(keylabel.NewID(), keylabel.KindLease).String()})
			l := v.lease("app")
			v.leaveBegun()
			v.settle(begunAge + 2*rollbackPeriod)
			v.mustHaveNothingBegun()
			for _, id := range []string{foreign.AccessKey, other.AccessKey, l.AccessKey()} {
				if _, there := v.account.Key(id); !there {
					t.Errorf("%s is gone", id)
				}
			}
			if keys := v.account.Keys(); len(keys) != 4 { // and the engine's own
				t.Errorf("%d keys", len(keys))
			}
		},
		"a rollback without its account waits, and is not lost (vault-plugin-secrets-mongodbatlas)": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			config, err := load[accountConfig](t.Context(), v.storage, "config/default")
			if err != nil {
				t.Fatal(err)
			}
			if err := remove(t.Context(), v.storage, "config/default"); err != nil {
				t.Fatal(err)
			}
			v.engine.InvalidateKey(t.Context(), "config/default")
			v.settle(10 * time.Minute)
			if pending := v.begun(); len(pending) != 1 {
				t.Fatalf("%d entries are begun", len(pending))
			}
			if err := save(t.Context(), v.storage, "config/default", config); err != nil {
				t.Fatal(err)
			}
			v.settle(2 * rollbackPeriod)
			v.mustHaveNothingBegun()
			v.mustHaveLive(0)
		},
		"one entry that cannot be read does not hold the others up (vault-plugin-secrets-azure 286)": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=5")
			bad := keylabel.New(keylabel.NewID(), keylabel.KindLease).String()
			if err := save(t.Context(), v.storage, ledger.Path("default", bad), "rubbish"); err != nil {
				t.Fatal(err)
			}
			v.leaveBegun()
			id := v.orphan("app")
			v.restart() // the keys of roles are counted anew
			v.mustRevoke(v.lease("app"))
			v.settle(begunAge + 2*rollbackPeriod)
			left, err := v.storage.List(t.Context(), ledger.Prefix+"default/")
			if err != nil || len(left) != 1 || left[0] != bad {
				t.Errorf("%v, %v: the bad entry alone must be left", left, err)
			}
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_removed", id, "stuck", bad)
		},
		"entries that rotations have left begun do not rotate again (vault-plugin-secrets-openldap 28)": func(t *testing.T, v *testVault) {
			static(v, "rotation_period=24h")
			v.failWrites(ledger.Prefix, 2)
			v.write("rotate-role/db")
			v.failWrites(ledger.Prefix, 2)
			v.write("rotate-role/db")
			if n := len(v.begun()); n != 2 {
				t.Fatalf("%d entries are begun: the test proves nothing", n)
			}
			v.storage.before = nil
			before := v.read("static-creds/db")["access_key"]
			v.settle(20 * time.Hour)
			if now := v.read("static-creds/db")["access_key"]; now != before {
				t.Error("rotated")
			}
			v.mustHaveNothingBegun()
			v.mustHaveLive(1)
		},
		"a period that is changed counts at once (vault 21967)": func(t *testing.T, v *testVault) {
			before := static(v, "rotation_period=240h")
			v.write("static-roles/db", "rotation_period=2h")
			v.settle(2*time.Hour + 2*rollbackPeriod)
			if now := v.read("static-creds/db")["access_key"]; now == before {
				t.Error("not rotated")
			}
		},
		"a period goes on after a failover (vault 21935)": func(t *testing.T, v *testVault) {
			before := static(v, "rotation_period=24h")
			v.settle(23 * time.Hour)
			v.restart()
			if ttl := v.read("static-creds/db")["ttl"].(int64); ttl > 3600 {
				t.Errorf("%d s are left", ttl)
			}
			v.settle(time.Hour + 2*rollbackPeriod)
			if now := v.read("static-creds/db")["access_key"]; now == before {
				t.Error("not rotated")
			}
		},
		"rotating by hand does not move a schedule (Vault 2.x, LDAP)": func(t *testing.T, v *testVault) {
			static(v, "rotation_schedule=0 3 * * *")
			before := v.read("static-roles/db")["next_vault_rotation"]
			v.write("rotate-role/db")
			if now := v.read("static-roles/db")["next_vault_rotation"]; now != before {
				t.Errorf("from %v to %v", before, now)
			}
		},
		"a create that fails keeps the old key, also at the quota (vault-plugin aws rotation.go)": func(t *testing.T, v *testVault) {
			before := static(v, "rotation_period=24h")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 500})
			if resp, err := v.try(logical.UpdateOperation, "rotate-role/db"); failure(resp, err) == nil {
				t.Fatal("rotated")
			}
			v.settle(begunAge + 2*rollbackPeriod)
			if key, _ := v.account.Key(before); !key.Live(time.Now()) || v.read("static-creds/db")["access_key"] != before {
				t.Error("the old key is gone")
			}
		},
		"a static role whose user has come to own the engine's key is not rotated (Vault 2.x, Azure)": func(t *testing.T, v *testVault) {
			static(v, "rotation_period=24h")
			v.account.AddUser("app", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "app"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "rotate-role/db", nil, `user "app" owns the engine's own access key`)
		},
		"rotating the engine's key leaves the other keys of its identity alone (vault-plugin-secrets-azure)": func(t *testing.T, v *testVault) {
			v.configure()
			foreign := v.account.AddKey(cloudsim.KeySpec{})
			v.rotate()
			v.settle(2 * day)
			if _, there := v.account.Key(foreign.AccessKey); !there {
				t.Error("it is gone")
			}
		},
		"a write keeps the template that it does not name (vault aws config/root)": func(t *testing.T, v *testVault) {
			v.configure()
			const template = "ci-{{random 20 | lowercase}}"
			v.write("config/default", "username_template="+template)
			v.write("config/default", "max_ttl=2h")
			if now := v.read("config/default")["username_template"]; now != template {
				t.Errorf("it is %v", now)
			}
		},
		"a rotation changes no limit of the account (vault aws path_static_roles.go)": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "max_ttl=2h", "expiry_grace=30s", "rotation_period=24h")
			before := v.read("config/default")
			v.rotate()
			after := v.read("config/default")
			for _, changed := range []string{"access_key", "key_expiration", "next_rotation", "previous_access_keys"} {
				delete(before, changed)
				delete(after, changed)
			}
			for field := range before {
				if before[field] != after[field] {
					t.Errorf("%s: from %v to %v", field, before[field], after[field])
				}
			}
		},
		"a lease whose user and role are gone ends by itself, and the mount can be disabled (vault 29392)": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.account.DeleteUser("app")
			resp, err := v.try(logical.DeleteOperation, "roles/app")
			v.mustSucceed("delete", resp, err)
			v.advance(11 * time.Minute)
			if len(v.leases) != 0 || l.Irrevocable {
				t.Error("the lease is stuck")
			}
			v.mustHaveLedger(0)
		},
	})
}

// TestNamesThatMustNotChange: a lease whose secret type is renamed can never be revoked
// again, and an entry of a renamed state never settled (gitlab 74).
func TestNamesThatMustNotChange(t *testing.T) {
	b := newBackend(Build{}, nil)
	for _, name := range []string{"cloudkeys_access_key", "cloudkeys_iam_user"} {
		if b.Secret(name) == nil {
			t.Errorf("no secret of type %s", name)
		}
	}
	if ledger.Begun != "begun" || ledger.Made != "made" || ledger.Prefix != "ledger/" {
		t.Errorf("entries of state %q and %q under %q", ledger.Begun, ledger.Made, ledger.Prefix)
	}
}

// TestRollbackIsPatient: an entry that is dropped before a create has surely ended would leave the
// key to nobody.
func TestRollbackIsPatient(t *testing.T) {
	if longest := issueBudget + cleanupBudget; begunAge <= longest {
		t.Errorf("entries without a key are dropped after %s, and a request with its clean-up may take %s", begunAge, longest)
	}
}
