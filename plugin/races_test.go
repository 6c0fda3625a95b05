// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestEverythingAtOnce runs all operations side by side on one identity, under the race
// detector in make test-unit. At the end only what configuration and static role name is left.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(v *testVault){
		"on a good day": func(*testVault) {},
		"while the cloud loses answers and throttles": func(v *testVault) {
			for _, fault := range []cloudsim.Fault{
				{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer, Skip: 5, Times: 5},
				{Op: "DeleteAccessKey", Kind: cloudsim.RefuseAfter, Skip: 7, Times: 5},
				{Op: "UpdateAccessKey", Kind: cloudsim.DropRequest, Skip: 9, Times: 5},
				{Op: "ReadAccessKeys", Kind: cloudsim.RubbishAnswer, Skip: 11, Times: 5},
				{Kind: cloudsim.Throttle, Rate: 20},
			} {
				v.sim.Order(fault)
			}
		},
	} {
		inBubble(t, map[string]func(t *testing.T, v *testVault){name: func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=6")
			v.write("static-roles/db", "user_name=app", "rotation_period=24h", "rotation_grace_period=2m")
			trouble(v)
			end := time.Now().Add(6 * time.Minute)
			var group sync.WaitGroup
			side := func(seed uint64, pause time.Duration, do func(v *testVault, random *rand.Rand)) {
				own := *v // with leases of its own
				group.Go(func() {
					random := rand.New(rand.NewPCG(7, seed))
					for time.Now().Before(end) {
						do(&own, random)
						<-time.After(time.Duration(random.Int64N(int64(pause))))
					}
					for _, l := range slices.Clone(own.leases) {
						own.persistently(l)
					}
				})
			}
			for worker := range uint64(5) {
				side(worker, time.Minute, leaseAndRevoke)
			}
			side(10, 4*time.Minute, func(v *testVault, _ *rand.Rand) { _, _ = v.try(logical.UpdateOperation, "rotate-root/default") })
			side(11, 2*time.Minute, func(v *testVault, _ *rand.Rand) { _, _ = v.try(logical.UpdateOperation, "rotate-role/db") })
			side(12, time.Minute, func(v *testVault, random *rand.Rand) {
				_, _ = v.try(logical.UpdateOperation, "config/default", fmt.Sprintf("max_ttl=%dh", 1+random.IntN(9)))
				_, _ = v.try(logical.ReadOperation, "check/default")
			})
			side(13, time.Minute, func(v *testVault, _ *rand.Rand) {
				_, _ = v.try(logical.UpdateOperation, "tidy")
				_, _ = v.try(logical.ReadOperation, "tidy-status")
				_, _ = v.try(logical.ListOperation, "keys/")
			})
			group.Go(func() {
				for time.Now().Before(end) {
					<-time.After(rollbackPeriod)
					_ = v.tick()
				}
			})
			group.Wait()
			v.settle(15 * time.Minute)
			v.mustRevoke(v.lease("app"))
			v.mustHaveNothingBegun()
			named := map[string]bool{v.accountConfig().AccessKey: true, v.read("static-creds/db")["access_key"].(string): true}
			for _, key := range v.liveKeys() {
				if !named[key.ID] {
					t.Errorf("access key %s (%s) of %q is left", key.ID, key.Tag, key.User)
				}
			}
			if v.account.Locked() {
				t.Error("the account is locked")
			}
		}})
	}
}

// leaseAndRevoke is a client that asks, renews, and gives back one lease or another.
func leaseAndRevoke(v *testVault, random *rand.Rand) {
	if l, err := v.tryLease(v.t.Context(), "app"); err == nil {
		<-time.After(time.Duration(random.Int64N(int64(time.Minute))))
		_ = v.renew(l, 0)
	}
	if len(v.leases) > 0 && random.IntN(3) > 0 {
		v.persistently(v.leases[random.IntN(len(v.leases))])
	}
}
