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
