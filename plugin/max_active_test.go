// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestMaxActiveKeys(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a role gives as many keys as it may, and refuses the next with the count": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=3")
			for range 3 {
				v.lease("app")
			}
			v.sim.ResetCalls()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `role "app"`, "3 of its keys", "max_active_keys is 3", "roles/app")
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d cloud calls for a refusal", n)
			}
			v.mustHaveNothingBegun()
			v.mustRevoke(v.leases[0])
			v.lease("app")
			v.mustHaveLive(3)
		},
		"64 requests at once never exceed it": func(t *testing.T, v *testVault) {
			v.configure(v.pool(7), "ttl=10m", "max_active_keys=5")
			given, refused := v.storm(64)
			if given != 5 || refused != 59 {
				t.Errorf("%d given, %d refused", given, refused)
			}
			v.mustHaveLive(5)
		},
		"not even where the cloud is slow and loses answers": func(t *testing.T, v *testVault) {
			v.configure(v.pool(7), "ttl=10m", "max_active_keys=5")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer, Skip: 2, Times: 20, Delay: time.Second})
			v.sim.OnAnswer(func(cloudsim.Call) {
				if n := len(v.liveKeys()); n > 5 {
					t.Errorf("%d live keys", n)
				}
			})
			v.storm(64)
		},
		"a crash loop of the process never exceeds it": func(t *testing.T, v *testVault) {
			v.configure(v.pool(3), "ttl=10m", "max_active_keys=4")
			for step := range 40 {
				v.dieAt(step%12, func(ctx context.Context) { _, _ = v.tryLease(ctx, "app") })
				v.leases = nil
				v.restart()
				if n := len(v.liveKeys()); n > 4 {
					t.Fatalf("%d live keys after %d crashes", n, step+1)
				}
			}
			v.advance(20 * time.Minute)
			for range 4 {
				v.lease("app")
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "4 of its keys")
		},
		"a restart counts what the process before has given": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=2")
			v.lease("app")
			v.lease("app")
			v.restart()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "2 of its keys")
			v.mustRevoke(v.leases[0])
			v.lease("app")
		},
		"a cap set later counts the keys that are out": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 3 {
				v.lease("app")
			}
			v.write("roles/app", "max_active_keys=3")
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "3 of its keys")
			v.write("roles/app", "max_active_keys=0")
			v.lease("app")
		},
		"each role has its own count": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			v.write("roles/other", "user_names=app", "ttl=10m", "max_active_keys=1")
			v.lease("app")
			v.lease("other")
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "1 of its keys")
			v.mustRefuse(logical.ReadOperation, "creds/other", nil, "1 of its keys")
		},
		"a create whose fate is unknown counts until the rollback has settled it": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			v.leaveBegun()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "1 of its keys", "created or deleted")
			v.restart()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "1 of its keys")
			v.advance(begunAge + 3*rollbackPeriod)
			v.mustHaveNothingBegun()
			v.lease("app")
			v.mustHaveLive(1)
		},
		"a create that surely made nothing does not count": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			cancel := v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.RefuseConnection})
			if _, err := v.tryLease(v.t.Context(), "app"); err == nil {
				v.t.Fatal("leased")
			}
			cancel()
			v.lease("app")
		},
		"a key that a failed request takes back does not count": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			v.failWrites(ledger.Prefix, 2)
			if _, err := v.tryLease(v.t.Context(), "app"); err == nil {
				v.t.Fatal("leased")
			}
			v.storage.before = nil
			v.lease("app")
		},
		"an entry that cannot be written makes no key and does not count": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			v.failStorage("put", ledger.Prefix)
			if _, err := v.tryLease(v.t.Context(), "app"); err == nil {
				v.t.Fatal("leased")
			}
			v.storage.before = nil
			v.lease("app")
		},
		"a key that comes too late to be leased does not count": func(_ *testing.T, v *testVault) {
			v.configure("max_active_keys=1")
			cancel := v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 12 * time.Second})
			if _, err := v.tryLease(v.t.Context(), "app", "ttl=5s"); err == nil {
				v.t.Fatal("leased")
			}
			cancel()
			v.lease("app")
		},
		"a reaped key does not count": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			v.lease("app")
			v.leases = nil
			v.advance(15 * time.Minute)
			v.lease("app")
		},
		"a ledger that cannot be read refuses to guess": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			v.lease("app")
			v.restart()
			v.failStorage("list", ledger.Prefix)
			if _, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatal("leased")
			}
			v.storage.before = nil
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "1 of its keys")
		},
		"a key revoked while the ledger is walked is not counted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			l := v.lease("app")
			v.restart()
			walked := false
			v.storage.before = func(op, key string) error {
				if op == "get" && strings.HasPrefix(key, ledger.Prefix) && !walked {
					walked = true // the walk has listed this entry, and is about to read it
					v.backend.ledger.Drop("default", l.Secret.InternalData["label"].(string))
				}
				return nil
			}
			if _, err := v.tryLease(t.Context(), "app"); err != nil {
				t.Error(err)
			}
		},
		"a negative cap is refused": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/app", []string{"max_active_keys=-1"}, "max_active_keys is -1")
		},
	})
}

func TestFullUsers(t *testing.T) {
	fill := func(v *testVault, user string) string {
		v.t.Helper()
		var last string
		for range 10 {
			last = v.account.AddKey(cloudsim.KeySpec{User: user}).AccessKey
		}
		return last
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a crash loop on a full user costs one create and one list in half a minute": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			fill(v, "app")
			v.sim.ResetCalls()
			for range 100 {
				v.mustRefuse(logical.ReadOperation, "creds/app", nil, "0 of 10 issued by this mount", "10 others", "30s")
				<-time.After(fullFor / 200)
			}
			if n := len(v.sim.Calls()); n != 2 {
				t.Errorf("%d cloud calls", n)
			}
			<-time.After(fullFor)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "10 others")
			if n := len(v.sim.Calls()); n != 4 {
				t.Errorf("%d cloud calls", n)
			}
		},
		"a pool passes a full user by without asking": func(t *testing.T, v *testVault) {
			v.account.AddUser("app2")
			v.configure("user_names=app,app2", "ttl=10m")
			fill(v, "app")
			v.lease("app")
			v.sim.ResetCalls()
			v.lease("app")
			if n := len(v.sim.Calls()); n != 1 {
				t.Errorf("%d cloud calls", n)
			}
		},
		"a slot freed by hand is seen after half a minute": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			last := fill(v, "app")
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "10 others")
			v.account.DeleteKey(last)
			<-time.After(fullFor)
			v.lease("app")
		},
		"a key that is revoked while its user is listed is not taken for another's": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=20") // for which the whole index is read
			for range 10 {
				v.lease("app")
			}
			first := v.leases[0]
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second, Times: 1})
			var refused sync.WaitGroup
			refused.Go(func() { _, _ = v.try(logical.ReadOperation, "creds/app") })
			<-time.After(time.Second)
			v.mustRevoke(first)
			refused.Wait()
			if n, known := v.backend.slots.foreignKeys("default", "app"); n != 0 || !known {
				t.Errorf("%d keys of others, %v", n, known)
			}
		},
		"a slot freed by a revoke is used at once": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 10 {
				v.lease("app")
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "10 of 10 issued by this mount")
			v.mustRevoke(v.leases[0])
			v.lease("app")
		},
	})
}
