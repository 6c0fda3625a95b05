// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestCaches(t *testing.T) {
	// reads counts the calls that read storage while something is done.
	reads := func(v *testVault, do func()) (n int) {
		v.storage.before = func(op, _ string) error {
			if op == "get" || op == "list" {
				n++
			}
			return nil
		}
		do()
		v.storage.before = nil
		return n
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a lease from a pool reads nothing that the one before has read": func(t *testing.T, v *testVault) {
			for _, user := range []string{"one", "two", "three"} {
				v.account.AddUser(user)
			}
			v.configure("ttl=10m", "user_names=one,two,three")
			for range 3 {
				v.lease("app")
			}
			if n := reads(v, func() { v.lease("app") }); n != 0 {
				t.Errorf("%d reads of storage", n)
			}
		},
		"a pool stays level over leases that come and go": func(t *testing.T, v *testVault) {
			v.account.AddUser("one")
			v.account.AddUser("two")
			v.configure("ttl=10m", "user_names=one,two")
			held := map[string]int{}
			for range 6 {
				held[v.lease("app").Data["user_name"].(string)]++
			}
			first := v.leases[0]
			v.mustRevoke(first)
			if again := v.lease("app"); again.Data["user_name"] != first.Data["user_name"] {
				t.Errorf("the free slot was not taken: %v", again.Data["user_name"])
			}
			if held["one"] != 3 || held["two"] != 3 {
				t.Errorf("%v", held)
			}
		},
		"a role counts as it was last written, or is gone when it was deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.write("roles/app", "ttl=5m")
			if l := v.lease("app"); l.Secret.TTL != 5*time.Minute {
				t.Errorf("a ttl of %s", l.Secret.TTL)
			}
			resp, err := v.try(logical.DeleteOperation, "roles/app")
			v.mustSucceed("delete", resp, err)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "does not exist")
		},
		"a role whose write failed, though it was stored, counts as stored": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, rolePrefix) {
					return errors.New("the answer is lost")
				}
				return nil
			}
			if _, err := v.try(logical.UpdateOperation, "roles/app", "ttl=5m"); err == nil {
				t.Fatal("no error")
			}
			v.storage.after = nil
			if l := v.lease("app"); l.Secret.TTL != 5*time.Minute {
				t.Errorf("a ttl of %s", l.Secret.TTL)
			}
		},
		"what another node writes counts": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			role := newRoleEntry()
			role.UserNames, role.TTL = []string{"app"}, 5*time.Minute
			if err := save(t.Context(), v.storage.Storage, rolePrefix+"app", role); err != nil {
				t.Fatal(err)
			}
			v.backend.InvalidateKey(t.Context(), rolePrefix+"app")
			if l := v.lease("app"); l.Secret.TTL != 5*time.Minute {
				t.Errorf("a ttl of %s", l.Secret.TTL)
			}
		},
		"a policy that was read anew counts at once": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 240})
			v.write("policy/default")
			if l := v.lease("app"); l.Secret.TTL > 240*time.Second {
				t.Errorf("a ttl of %s", l.Secret.TTL)
			}
		},
		"an entry that was changed while it was read is not kept": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			c := newCache[roleEntry]()
			v.storage.before = func(op, key string) error {
				if op == "get" {
					c.drop(key)
				}
				return nil
			}
			for range 2 {
				if role, err := c.load(t.Context(), v.storage, rolePrefix+"app"); err != nil || role == nil {
					t.Fatalf("%v, %v", role, err)
				}
			}
			if len(c.entries) != 0 {
				t.Errorf("%v", c.entries)
			}
		},
	})
}

// TestAMountWhoseStorageHasGone is moved to another namespace of OpenBao's: the plugin's process lives on, on a storage that is empty.
func TestAMountWhoseStorageHasGone(t *testing.T) {
	t.Parallel()
	// move is what the server does; elsewhere is where the storage is moved to.
	move := func(v *testVault, elsewhere logical.Storage) {
		v.system.taint(true)
		if err := v.tick(); err != nil {
			v.t.Error(err)
		}
		v.mustRevokeAll()
		v.storage.Storage = elsewhere
		v.system.taint(false)
	}
	// mustRefuseAll has nobody but the cloud be asked for anything.
	mustRefuseAll := func(v *testVault) {
		v.t.Helper()
		v.sim.ResetCalls()
		v.storage.writes = 0
		const sentence = "the storage of this mount is gone"
		v.mustRefuse(logical.ReadOperation, "creds/app", nil, sentence, "bao plugin reload")
		v.mustRefuse(logical.ReadOperation, "static-creds/db", nil, sentence)
		v.mustRefuse(logical.ReadOperation, "config/default", nil, sentence)
		v.mustRefuse(logical.UpdateOperation, "config/default", v.accountFields(), sentence)
		v.mustRefuse(logical.UpdateOperation, "roles/app", []string{"user_names=app"}, sentence)
		v.mustRefuse(logical.UpdateOperation, "rotate-root/default", nil, sentence)
		v.mustRefuse(logical.UpdateOperation, "tidy", nil, sentence)
		if err := v.tick(); err == nil || !strings.Contains(err.Error(), sentence) {
			v.t.Errorf("a tick: %v", err)
		}
		if calls := v.sim.Calls(); len(calls) != 0 || v.storage.writes != 0 {
			v.t.Errorf("%d writes of storage, and calls of the cloud: %v", v.storage.writes, calls)
		}
	}
	warm := func(v *testVault) {
		v.addUser("db")
		v.configure("ttl=10m")
		v.lease("app")
		v.write("static-roles/db", "user_name=db", "rotation_period=4h")
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"nothing is leased, rotated or written until the plugin is on it again": func(_ *testing.T, v *testVault) {
			warm(v)
			moved := v.storage.Storage
			move(v, &logical.InmemStorage{})
			mustRefuseAll(v)
			v.storage.Storage = moved
			v.restart()
			v.lease("app")
			v.rotate()
			v.mustSucceed("tick", nil, v.tick())
		},
		"so it is where the mount was moved before it had made a key": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.read("roles/app")
			move(v, &logical.InmemStorage{})
			mustRefuseAll(v)
		},
		"a tick finds it gone where no taint told of it": func(t *testing.T, v *testVault) {
			warm(v)
			v.leases = nil
			v.storage.Storage = &logical.InmemStorage{}
			if err := v.tick(); err == nil {
				t.Error("the tick has succeeded")
			}
			mustRefuseAll(v)
		},
		"a tick that ran when the move began tells of it": func(_ *testing.T, v *testVault) {
			warm(v)
			v.leases = nil
			v.storage.before = func(op, _ string) error { v.system.taint(true); return nil }
			v.mustSucceed("tick", nil, v.tick())
			v.storage.before, v.storage.Storage = nil, &logical.InmemStorage{}
			v.system.taint(false)
			mustRefuseAll(v)
		},
		"a lease is not taken for revoked whose key is there": func(t *testing.T, v *testVault) {
			warm(v)
			l := v.lease("app")
			v.system.taint(true)
			v.mustSucceed("tick", nil, v.tick())
			v.storage.Storage = &logical.InmemStorage{}
			v.system.taint(false)
			if err := v.revoke(l); err == nil {
				t.Error("revoked")
			}
			v.mustBeLive(true, l.AccessKey())
		},
		"a tidy that runs ends before the move": func(_ *testing.T, v *testVault) {
			warm(v)
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: time.Hour})
			v.write("tidy")
			<-time.After(time.Second)
			v.system.taint(true)
			_ = v.tick()
			v.system.taint(false)
			v.mustTidied(tidyFailed, nil, "errors", "ended with the engine")
		},
		"a move within its namespace costs one read": func(t *testing.T, v *testVault) {
			warm(v)
			move(v, v.storage.Storage)
			v.lease("app")
			v.storage.before = func(op, key string) error {
				if op == "get" || op == "list" {
					t.Errorf("%s of %s", op, key)
				}
				return nil
			}
			v.lease("app")
			v.storage.before = nil
			v.rotate()
		},
		"a mount without accounts is left in peace": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			v.delete("roles/app")
			v.delete("config/default")
			v.mustSucceed("tick", nil, v.tick())
			v.configure("ttl=10m")
			v.lease("app")
		},
	})
}
