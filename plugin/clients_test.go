// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestClientsThatMisbehave plays those that Vault has, each against a cloud at the default
// pace of five calls a second.
func TestClientsThatMisbehave(t *testing.T) {
	t.Parallel()
	const pace = "max_requests_per_second=5"
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"one that hangs up, again and again, leaves no key behind and keeps no slot": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=3")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 500 * time.Millisecond, Times: 40})
			for i := range 40 {
				ctx, hangUp := context.WithTimeout(t.Context(), time.Duration(i)*25*time.Millisecond)
				_, _ = v.tryLease(ctx, "app")
				hangUp()
				v.invariant()
				for _, l := range slices.Clone(v.leases) {
					v.mustRevoke(l) // the answer came, and Vault cannot store a lease for who has gone
				}
			}
			v.pastRollback()
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
			for range 3 {
				v.lease("app")
			}
		},
		"one that repeats every 5xx three times makes no key more than it gets": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for _, kind := range []cloudsim.FaultKind{
				cloudsim.DropAnswer, cloudsim.RefuseAfter, cloudsim.EmptyAnswer, cloudsim.RubbishAnswer,
				cloudsim.DropRequest,
			} {
				v.sim.ResetCalls()
				cancel := v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: kind})
				for range 3 {
					if _, err := v.tryLease(t.Context(), "app"); err == nil {
						t.Fatalf("%s: leased", kind)
					}
					v.mustHaveLive(0)
				}
				if n := v.sim.CountCalls("CreateAccessKey"); n > 6 {
					t.Errorf("%s: %d creates for three requests", kind, n)
				}
				cancel()
				v.mustRevoke(v.lease("app"))
			}
			v.pastRollback()
			v.mustHaveNothingBegun()
		},
		"many that ask in a loop get what max_active_keys gives, and others are served meanwhile": func(t *testing.T, v *testVault) {
			v.configure(v.pool(3), "ttl=1h", "max_active_keys=10")
			v.serveBeside(pace, 20, time.Second)
			v.mustHaveLive(10)
		},
		"many that ask for users in a loop, without a cap, are one role among others": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.write("roles/app", "credential_type=iam_user", "ttl=1h", "policy_document="+testDocument)
			v.serveBeside(pace, 60, 2*time.Second)
		},
		"one whose keys are all taken costs the cloud next to nothing": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			v.write("config/default", pace)
			for range 10 {
				v.lease("app")
			}
			v.sim.ResetCalls()
			for range 600 {
				v.mustRefuse(logical.ReadOperation, "creds/app", nil, "10 of 10 issued by this mount")
				<-time.After(100 * time.Millisecond)
			}
			if n := len(v.sim.Calls()); n > 6 {
				t.Errorf("%d cloud calls in a minute", n)
			}
		},
		"a token that ends takes its leases along, and leases are issued meanwhile": func(t *testing.T, v *testVault) {
			v.account.AddUser("other")
			v.configure(v.pool(8), "ttl=1h")
			v.write("roles/other", "user_names=other", "ttl=10m")
			for range 80 {
				v.lease("app")
			}
			v.write("config/default", pace)
			leases := v.leases
			v.leases = nil
			var group sync.WaitGroup
			for _, l := range leases {
				own := *v // with leases of its own
				group.Go(func() {
					for attempt := range revokeAttempts {
						if own.revoke(l) == nil {
							return
						}
						<-time.After(retryBase << attempt)
					}
					t.Errorf("the lease of %s has become irrevocable", l.AccessKey())
				})
			}
			for range 5 {
				asked := time.Now()
				v.lease("other")
				if took := time.Since(asked); took > 5*time.Second {
					t.Errorf("a lease took %s beside the revokes", took)
				}
			}
			group.Wait()
			v.mustHaveLive(5)
		},
		"a lease that ends while Vault is sealed ends in the cloud, and the unsealed Vault clears up": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.configureUsers()
			leases := []*testLease{v.lease("app"), v.lease("job")}
			<-time.After(10*time.Minute + lifetime.DefaultExpiryGrace + time.Second)
			v.mustHaveLive(0)
			<-time.After(6 * time.Hour)
			v.restart()
			v.sim.ResetCalls()
			for _, l := range leases {
				v.mustRevoke(l)
			}
			if n := len(v.sim.Calls()); n != 2 { // of the first: its answers show the time by the cloud's clock
				t.Errorf("%d cloud calls for leases whose keys are dead", n)
			}
			v.settle(3 * rollbackPeriod)
			v.mustBeClean()
		},
		"a renewal after the unseal does not bring a dead lease back": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=24h")
			l := v.lease("app")
			<-time.After(10*time.Minute + lifetime.DefaultExpiryGrace + time.Second)
			v.restart()
			if err := v.renew(l, time.Hour); err == nil {
				t.Error("renewed")
			}
			v.mustHaveLive(0)
		},
	})
}
