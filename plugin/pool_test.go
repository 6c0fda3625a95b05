// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestPoolsKnowForeignKeys(t *testing.T) {
	t.Parallel()
	// setUp makes a pool of three users with so many foreign keys each.
	setUp := func(v *testVault, foreign ...int) {
		v.t.Helper()
		for i, user := range []string{"app", "app2", "app3"} {
			v.account.AddUser(user)
			for range foreign[i] {
				v.account.AddKey(cloudsim.KeySpec{User: user})
			}
		}
		v.configure("user_names=app,app2,app3", "ttl=10m")
		v.sim.ResetCalls()
	}
	leaseMany := func(v *testVault, leases int) map[string]int {
		v.t.Helper()
		count := map[string]int{}
		for range leases {
			count[v.lease("app").Data["user_name"].(string)]++
		}
		return count
	}
	mustCall := func(v *testVault, lists, creates int) {
		v.t.Helper()
		if l, c := v.sim.CountCalls("ReadAccessKeys"), v.sim.CountCalls("CreateAccessKey"); l != lists || c != creates {
			v.t.Errorf("%d lists and %d creates, want %d and %d", l, c, lists, creates)
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"keys go where the most slots are free, whoever takes the others": func(t *testing.T, v *testVault) {
			setUp(v, 8, 5, 2)
			count := leaseMany(v, 12) // one slot is left to each
			if count["app"] != 1 || count["app2"] != 4 || count["app3"] != 7 {
				t.Errorf("%v", count)
			}
		},
		"so they do where another account of the mount has taken them, or the ledger has lost them": func(t *testing.T, v *testVault) {
			setUp(v, 0, 0, 0)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/second", v.accountFields()...)
			v.write("roles/second", "account=second", "user_names=app", "ttl=10m")
			for range 5 {
				v.lease("second")
				v.orphan("app2")
			}
			if count := leaseMany(v, 5); count["app3"] != 5 {
				t.Errorf("%v", count)
			}
		},
		"requests that come together fill the pool without one refusal": func(t *testing.T, v *testVault) {
			setUp(v, 0, 3, 7)
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Delay, Delay: time.Second, Times: 40})
			if given, refused := v.storm(20); given != 20 || refused != 0 {
				t.Errorf("%d given, %d refused", given, refused)
			}
			mustCall(v, 3, 20)
		},
		"a user is listed once, and then no more": func(t *testing.T, v *testVault) {
			setUp(v, 8, 5, 2)
			leaseMany(v, 9)
			mustCall(v, 3, 9)
			v.sim.ResetCalls()
			leaseMany(v, 3)
			mustCall(v, 0, 3)
		},
		"a user that is full of foreign keys is not tried": func(t *testing.T, v *testVault) {
			setUp(v, 10, 10, 0)
			if count := leaseMany(v, 3); count["app3"] != 3 {
				t.Errorf("%v", count)
			}
			mustCall(v, 3, 3)
		},
		"where all are full, nothing is tried, and the counts are told": func(t *testing.T, v *testVault) {
			setUp(v, 10, 10, 10)
			_, err := v.tryLease(t.Context(), "app")
			if err == nil {
				t.Fatal("leased")
			}
			mustHold(t, err.Error(), `user "app" has no free slot`, `user "app3" has no free slot`, "0 of 10 issued by this mount, 10 others")
			mustCall(v, 3, 0)
		},
		"a check tells what an issue then need not ask": func(_ *testing.T, v *testVault) {
			setUp(v, 8, 5, 2)
			v.read("check/default")
			v.sim.ResetCalls()
			leaseMany(v, 3)
			mustCall(v, 0, 3)
		},
		"requests that come together share one list of each user": func(_ *testing.T, v *testVault) {
			setUp(v, 0, 0, 0)
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.DelayAnswer, Delay: time.Second}) // so that they do come together
			var together sync.WaitGroup
			for range 9 {
				together.Go(func() { _, _ = v.request(v.t.Context(), "read", "creds/app") })
			}
			together.Wait()
			mustCall(v, 3, 9)
		},
		"a count that has proved wrong is dropped": func(t *testing.T, v *testVault) {
			setUp(v, 10, 10, 10)
			_, _ = v.tryLease(t.Context(), "app")
			for _, key := range v.account.Keys() {
				if key.User == "app" {
					v.account.DeleteKey(key.ID)
				}
			}
			v.advance(fullFor)
			v.sim.ResetCalls()
			defer mustCall(v, 1, 9)
			for range 9 {
				if user := v.lease("app").Data["user_name"]; user != "app" {
					t.Errorf("leased of %v", user)
				}
			}
		},
		"a refusal tells what the next issue then need not find out": func(_ *testing.T, v *testVault) {
			setUp(v, 0, 0, 0)
			leaseMany(v, 3)
			for range 9 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			leaseMany(v, 1) // app refuses
			v.advance(fullFor)
			v.sim.ResetCalls()
			leaseMany(v, 3)
			mustCall(v, 0, 3)
		},
		"a user that cannot be listed is tried all the same": func(t *testing.T, v *testVault) {
			setUp(v, 0, 0, 0)
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: 500})
			v.lease("app")
		},
		"a role with one user makes one call": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.ResetCalls()
			v.lease("app")
			mustCall(v, 0, 1)
		},
	})
}

// TestARotationWithoutASlotIsNoPool has nobody look for user_names where there are none.
func TestARotationWithoutASlotIsNoPool(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"neither a static role's nor the engine's own": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			for range 10 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			for range 9 {
				v.account.AddKey(cloudsim.KeySpec{})
			}
			for path, fields := range map[string][]string{
				"static-roles/db": {"user_name=app", "rotation_period=24h"}, "rotate-root/default": nil,
			} {
				err := failure(v.try(logical.UpdateOperation, path, fields...))
				if err == nil {
					t.Fatalf("%s was done", path)
				}
				mustHold(t, err.Error(), "no free slot", "10 others", "Delete a key that is not used")
				if strings.Contains(err.Error(), "user_names") || strings.Contains(err.Error(), "asked again") {
					t.Errorf("%s: %s", path, err)
				}
			}
		},
	})
}
