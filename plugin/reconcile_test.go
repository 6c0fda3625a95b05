// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestReconcile(t *testing.T) {
	orphan := func(v *testVault, user string) string {
		v.t.Helper()
		label := keylabel.New(v.read("info")["instance_id"].(string), keylabel.KindLease)
		return v.account.AddKey(cloudsim.KeySpec{User: user, Tag: label.String(), Expires: time.Now().Add(30 * day)}).AccessKey
	}
	gone := func(v *testVault, id string) bool {
		_, there := v.account.Key(id)
		return !there
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"an orphan with our label is found and deleted within a day, by itself": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			id := orphan(v, "app")
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			if !gone(v, id) {
				t.Error("the orphan lives on")
			}
		},
		"so is one on the engine's own identity": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			id := orphan(v, "")
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			if !gone(v, id) {
				t.Error("the orphan lives on")
			}
			if _, there := v.account.Key(v.root.AccessKey); !there {
				t.Error("the engine's own key is gone")
			}
		},
		"it comes back every day": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			for range 3 {
				id := orphan(v, "app")
				v.settle(reconcilePeriod + 5*rollbackPeriod)
				if !gone(v, id) {
					t.Error("the orphan lives on")
				}
			}
		},
		"leased keys, foreign keys and other people's labels are never touched": func(t *testing.T, v *testVault) {
			v.configure("ttl=100h")
			l := v.lease("app")
			foreign := []string{
				v.account.AddKey(cloudsim.KeySpec{User: "app"}).AccessKey,
				v.account.AddKey(cloudsim.KeySpec{User: "app", Tag: "Group1"}).AccessKey,
				v.account.AddKey(cloudsim.KeySpec{User: "app", Tag: keylabel.New(keylabel.NewID(), keylabel.KindLease).String()}).AccessKey,
				v.account.AddKey(cloudsim.KeySpec{}).AccessKey,
			}
			v.settle(3 * day)
			for _, id := range append(foreign, l.AccessKey(), v.root.AccessKey) {
				if gone(v, id) {
					t.Errorf("%s was deleted", id)
				}
			}
		},
		"two Vaults on one account never touch each other's keys": func(t *testing.T, v *testVault) {
			other := newTestVaultOn(t, v.sim, v.account)
			for _, each := range []*testVault{v, other} {
				each.configure("ttl=100h")
				each.lease("app")
				defer each.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer, Times: 1})()
				each.lease("app") // with a lost answer on the way: its entry is rolled back below
			}
			for range 3 * 24 {
				v.settle(time.Hour / 2)
				other.settle(time.Hour / 2)
			}
			v.mustHaveLive(4)
			for _, each := range []*testVault{v, other} {
				for _, l := range each.leases {
					if gone(v, l.AccessKey()) {
						t.Errorf("%s was deleted", l.AccessKey())
					}
				}
			}
		},
		"two accounts of one mount that are the same cloud account do not take each other's keys for orphans": func(t *testing.T, v *testVault) {
			v.configure("ttl=100h")
			v.write("config/second", v.accountFields()...)
			v.write("roles/second", "account=second", "user_names=app", "ttl=100h")
			leases := []*testLease{v.lease("app"), v.lease("second")}
			v.write("static-roles/db", "account=second", "user_name=app", "rotation_period=100h")
			v.settle(3 * day)
			for _, l := range leases {
				if gone(v, l.AccessKey()) {
					t.Errorf("%s was deleted", l.AccessKey())
				}
			}
			if creds := v.read("static-creds/db"); gone(v, creds["access_key"].(string)) {
				t.Error("the static role's key was deleted")
			}
		},
		"nor are leased keys of the engine's own user, by whichever name a role calls it": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/named", "user_names=vault", "ttl=100h", "own_identity=true")
			v.write("roles/unnamed", "ttl=100h", "own_identity=true")
			leases := []*testLease{v.lease("named"), v.lease("unnamed")}
			v.settle(3 * day)
			for _, l := range leases {
				if gone(v, l.AccessKey()) {
					t.Errorf("%s was deleted", l.AccessKey())
				}
			}
		},
		"a key whose create is being answered is no orphan: its entry is begun": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})
			removed := v.compareIn(time.Second, "app")
			v.lease("app")
			if ids := <-removed; len(ids) != 0 {
				t.Errorf("removed %v", ids)
			}
			v.mustHaveLive(1)
		},
		"a key whose issue ends while the cloud is listed is no orphan: the ledger knows it": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})
			removed := v.compareIn(time.Second, "app")
			v.lease("app")
			if ids := <-removed; len(ids) != 0 {
				t.Errorf("removed %v", ids)
			}
			v.mustHaveLive(1)
		},
		"an account that is down delays nobody, and its round goes on later": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			id := orphan(v, "app")
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: time.Hour})
			started := time.Now()
			_ = v.tick()
			if took := time.Since(started); took > tickBudget+rollbackBudget {
				t.Errorf("a tick of %s", took)
			}
			cancel()
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			if !gone(v, id) {
				t.Error("the orphan lives on")
			}
		},
	})
}

func TestTick(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"with a cloud that hangs a tick ends in time, however many unfinished requests wait": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.RefuseAfter})
			for range 20 {
				_, _ = v.tryLease(t.Context(), "app")
			}
			cancel()
			<-time.After(2 * begunAge)
			v.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: time.Hour})
			started := time.Now()
			_ = v.tick()
			if took := time.Since(started); took > 20*time.Second {
				t.Errorf("a tick of %s holds a step-down up", took)
			}
		},
		"one that begins while another tends an account leaves it to that one": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			<-time.After(policyRefresh + time.Minute)
			var reads atomic.Int64
			release := make(chan struct{})
			v.storage.before = func(op, key string) error {
				if op == "get" && strings.HasPrefix(key, policyPrefix) && reads.Add(1) == 1 {
					<-release
				}
				return nil
			}
			var first sync.WaitGroup
			first.Go(func() { _ = v.tick() })
			synctest.Wait()
			if err := v.tick(); err != nil || reads.Load() != 1 {
				t.Errorf("the second tick has read the policy, too: %d reads, and %v", reads.Load(), err)
			}
			close(release)
			first.Wait()
			if err := v.tick(); err != nil {
				t.Error(err)
			}
		},
		"so it does with many expired keys": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 8 {
				v.lease("app")
			}
			v.leases = nil
			<-time.After(time.Hour)
			v.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 14 * time.Second})
			started := time.Now()
			_ = v.tick()
			if took := time.Since(started); took > tickBudget+time.Second {
				t.Errorf("a tick of %s holds a step-down up", took)
			}
		},
		"a standby and a DR secondary do nothing": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil
			for _, state := range []consts.ReplicationState{consts.ReplicationPerformanceStandby, consts.ReplicationDRSecondary} {
				v.system.become(state)
				v.sim.ResetCalls()
				<-time.After(day)
				if err := v.tick(); err != nil {
					t.Error(err)
				}
				if n := len(v.sim.Calls()); n != 0 {
					t.Errorf("%s: %d cloud calls", state.GetPerformanceString(), n)
				}
			}
		},
		"a performance secondary tends its own leases": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil
			v.system.become(consts.ReplicationPerformanceSecondary)
			v.advance(15 * time.Minute)
			v.mustHaveLedger(0)
		},
		"an entry of a newer version is kept, counts as in use, and is reported": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			future := ledger.Path("default", keylabel.New(keylabel.NewID(), keylabel.KindLease).String())
			if err := save(t.Context(), v.storage, future, map[string]any{"version": 7, "banana": "yes"}); err != nil {
				t.Fatal(err)
			}
			v.restart()
			v.settle(2 * day)
			if raw, err := v.storage.Get(t.Context(), future); err != nil || raw == nil {
				t.Error("it is gone")
			}
			v.mustFind(v.read("check/default"), "warning", future, "a newer version of the plugin")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use", "entries of the ledger that this version cannot read")
		},
	})
}
