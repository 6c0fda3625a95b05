// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestKeepKey(t *testing.T) {
	t.Parallel()
	setUp := func(v *testVault) string {
		v.t.Helper()
		v.write("config/default", v.accountFields()...)
		v.write("static-roles/db", "user_name=app", "rotation_period=24h")
		return v.read("static-creds/db")["access_key"].(string)
	}
	leaveRotationBegun := func(v *testVault) {
		v.t.Helper()
		v.failWrites(ledger.Prefix, 2)
		v.write("rotate-role/db")
		v.storage.before = nil
		if len(v.begun()) != 1 {
			v.t.Fatal("no entry is begun: the test proves nothing")
		}
	}
	// handOver deletes the role with keep_key and returns the warnings.
	handOver := func(v *testVault) string {
		v.t.Helper()
		resp, err := v.try(logical.DeleteOperation, "static-roles/db", "keep_key=true")
		v.mustSucceed("delete", resp, err)
		if resp == nil {
			v.t.Fatal("no warnings")
		}
		return strings.Join(resp.Warnings, "\n")
	}
	mustLive := func(v *testVault, ids ...string) {
		v.t.Helper()
		for _, id := range ids {
			if key, _ := v.account.Key(id); !key.Live(time.Now()) {
				v.t.Errorf("access key %s does not work", id)
			}
		}
	}
	mustBeGone := func(v *testVault) {
		v.t.Helper()
		for _, path := range []string{"static-roles/db", "static-creds/db"} {
			if entry, err := v.storage.Get(v.t.Context(), path); entry != nil || err != nil {
				v.t.Errorf("%s is still there, %v", path, err)
			}
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"the keys stay, work, and are nobody's orphans": func(t *testing.T, v *testVault) {
			first := setUp(v)
			v.write("rotate-role/db")
			second := v.read("static-creds/db")["access_key"].(string)
			before, _ := v.account.Key(second)
			mustHold(t, handOver(v), first, second, `of user "app" is yours now`, showTime(before.Expires))
			mustBeGone(v)
			v.write("roles/app", "user_names=app", "ttl=10m") // so that the user is looked at
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_found", "")
			v.settle(day + reconcilePeriod/2)
			mustLive(v, first, second)
			after, _ := v.account.Key(second)
			if !after.Expires.Equal(before.Expires) || after.Tag != "handed-over-"+before.Tag {
				t.Errorf("before %+v, after %+v", before, after)
			}
			if entry, err := v.backend.findKey(t.Context(), v.storage, second); entry != nil || err != nil {
				t.Errorf("still in the ledger: %v, %v", entry, err)
			}
			v.mustRefuse(logical.DeleteOperation, "keys/"+second, nil, "not in this mount's ledger")
		},
		"a tidy that listed the key just before does not delete it": func(t *testing.T, v *testVault) {
			id := setUp(v)
			v.restart()
			handed, listed := false, false
			v.sim.OnAnswer(func(c cloudsim.Call) {
				listed = listed || c.Op == "ReadAccessKeys" && strings.Contains(string(c.Body), `"app"`)
			})
			v.storage.before = func(op, key string) error {
				if op == "list" && key == ledger.Prefix && listed && !handed {
					handed = true // the tidy has its list, and asks the ledger next
					handOver(v)
				}
				return nil
			}
			v.tidy()
			v.storage.before = nil
			if !handed {
				t.Fatal("the tidy did not look the key up: the test proves nothing")
			}
			v.mustTidied(tidyDone, nil, "orphans_found", "")
			mustLive(v, id)
		},
		"of a user that is gone nothing is left to hand over": func(t *testing.T, v *testVault) {
			id := setUp(v)
			v.settleNew()
			v.account.DeleteKey(id)
			v.deleteUser("app")
			mustHold(t, handOver(v), id, "does not work any more")
			mustBeGone(v)
			v.mustHaveLedger(0)
		},
		"without keep_key they are deleted": func(t *testing.T, v *testVault) {
			id := setUp(v)
			resp, err := v.try(logical.DeleteOperation, "static-roles/db")
			v.mustSucceed("delete", resp, err)
			mustBeGone(v)
			if _, there := v.account.Key(id); there {
				t.Error("it is still there")
			}
		},
		"a key that does not work any more is not handed over": func(t *testing.T, v *testVault) {
			id := setUp(v)
			v.settleNew()
			v.account.DeleteKey(id)
			mustHold(t, handOver(v), id, "does not work any more")
			mustBeGone(v)
			v.mustHaveLedger(0)
		},
		"nor is one that has ended": func(t *testing.T, v *testVault) {
			id := setUp(v)
			<-time.After(5 * day) // while no node is active
			mustHold(t, handOver(v), id, "does not work any more")
			mustBeGone(v)
			v.mustHaveLedger(0)
		},
		"where the cloud refuses, the role stays and goes on": func(t *testing.T, v *testVault) {
			id := setUp(v)
			cancel := v.sim.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 401, Code: "4"})
			v.mustRefuse(logical.DeleteOperation, "static-roles/db", []string{"keep_key=true"}, "handing access key "+id, "permission")
			cancel()
			v.settle(day + 2*rollbackPeriod)
			if now := v.read("static-creds/db")["access_key"]; now == id {
				t.Error("it is not rotated")
			}
		},
		"an entry that its rotation has left begun does not end a key that was handed over": func(t *testing.T, v *testVault) {
			setUp(v)
			leaveRotationBegun(v)
			id := v.read("static-creds/db")["access_key"].(string)
			handOver(v)
			v.settle(begunAge + 2*rollbackPeriod)
			mustLive(v, id)
			v.mustHaveNothingBegun()
		},
		"nor does a rollback that is about to settle the entry": func(t *testing.T, v *testVault) {
			setUp(v)
			leaveRotationBegun(v)
			id := v.read("static-creds/db")["access_key"].(string)
			<-time.After(begunAge + time.Second)
			handed := make(chan error, 1)
			began := false
			v.storage.around = func(op, key string, do func() error) error {
				if op == "put" && strings.HasPrefix(key, ledger.Prefix) && !began { // the rollback settles the entry
					began = true
					go func() {
						resp, err := v.try(logical.DeleteOperation, "static-roles/db", "keep_key=true")
						handed <- failure(resp, err)
					}()
					<-time.After(time.Second) // the hand-over gets as far as it can
				}
				return do()
			}
			if err := v.tick(); err != nil {
				t.Fatal(err)
			}
			if !began {
				t.Fatal("the rollback settled nothing: the test proves nothing")
			}
			if err := <-handed; err != nil {
				t.Fatal(err)
			}
			mustLive(v, id)
			v.mustHaveNothingBegun()
		},
		"what a deleted role has left in storage keeps no key alive": func(t *testing.T, v *testVault) {
			setUp(v)
			leaveRotationBegun(v)
			id := v.read("static-creds/db")["access_key"].(string)
			if err := remove(t.Context(), v.storage, "static-roles/db"); err != nil {
				t.Fatal(err)
			}
			v.settle(begunAge + 2*rollbackPeriod)
			if key, there := v.account.Key(id); there {
				t.Errorf("%+v lives on", key)
			}
			v.mustHaveNothingBegun()
		},
		"a death at any step leaves the role, or the keys in the operator's hands": func(t *testing.T, v *testVault) {
			steps := 0
			for ; ; steps++ {
				id := setUp(v)
				if !v.dieAt(steps, func(context.Context) { _, _ = v.try(logical.DeleteOperation, "static-roles/db", "keep_key=true") }) {
					break
				}
				v.restart()
				v.settle(begunAge + 2*rollbackPeriod)
				mustLive(v, id)
				if resp, err := v.try(logical.ReadOperation, "static-roles/db"); err != nil {
					t.Fatal(err)
				} else if resp != nil {
					handOver(v)
				}
				mustBeGone(v)
				v.tidy()
				v.mustTidied(tidyDone, nil, "orphans_found", "")
				mustLive(v, id)
				v.mustHaveLedger(0)
				for _, key := range v.account.Keys() {
					if key.User == "app" {
						v.account.DeleteKey(key.ID)
					}
				}
				if t.Failed() {
					t.Fatalf("step %d", steps)
				}
			}
			if steps < 8 {
				t.Errorf("only %d steps", steps)
			}
		},
		"a rotation beside it leaves no key": func(t *testing.T, v *testVault) {
			setUp(v)
			rotated := make(chan error, 1)
			v.storage.before = func(op, key string) error {
				if op == "delete" && key == "static-creds/db" { // its keys are gone, its role is not
					v.storage.before = nil
					go func() {
						resp, err := v.try(logical.UpdateOperation, "rotate-role/db")
						rotated <- failure(resp, err)
					}()
					<-time.After(time.Second)
				}
				return nil
			}
			resp, err := v.try(logical.DeleteOperation, "static-roles/db")
			v.mustSucceed("delete", resp, err)
			if err := <-rotated; err == nil {
				t.Error("rotated a role that was being deleted")
			}
			v.mustHaveLive(0)
			mustBeGone(v)
		},
		"a death after the hand-over does not stop the role from rotating": func(t *testing.T, v *testVault) {
			id := setUp(v)
			v.storage.before = func(op, key string) error {
				if op == "delete" && key == "static-creds/db" {
					return errInjected
				}
				return nil
			}
			if resp, err := v.try(logical.DeleteOperation, "static-roles/db", "keep_key=true"); failure(resp, err) == nil {
				t.Fatal("deleted")
			}
			v.storage.before = nil
			v.settle(day + 2*rollbackPeriod + time.Hour)
			if now := v.read("static-creds/db")["access_key"]; now == id {
				t.Error("not rotated")
			}
			if _, there := v.account.Key(id); there {
				t.Error("the replaced key is still there")
			}
			resp, err := v.try(logical.DeleteOperation, "static-roles/db")
			v.mustSucceed("delete", resp, err)
			v.mustHaveLive(0)
		},
	})
}

// TestADeleteSecondsAfterTheKeyWasMade is begun by a new process, while no list need show the key yet.
func TestADeleteSecondsAfterTheKeyWasMade(t *testing.T) {
	t.Parallel()
	setUp := func(v *testVault) {
		v.configure()
		v.addUser("db")
		v.write("static-roles/db", "user_name=db", "rotation_period=24h")
		v.settle(time.Hour)
		v.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
		v.sim.SetHuaweiRules(cloudsim.HuaweiRules{KeyDelay: 8 * time.Second})
	}
	mustEnd := func(v *testVault) {
		v.t.Helper()
		v.restart()
		for end := time.Now().Add(time.Minute); ; <-time.After(time.Second) {
			resp, err := v.try(logical.DeleteOperation, "static-roles/db")
			if err = failure(resp, err); err == nil {
				break
			}
			if time.Now().After(end) {
				v.t.Fatal(err)
			}
		}
		v.mustHaveLive(0)
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"a key that the cloud does not know yet is not taken for gone": func(_ *testing.T, v *testVault) {
			setUp(v)
			v.write("rotate-role/db")
			mustEnd(v)
		},
		"nor is one whose rotation's last write was lost": func(_ *testing.T, v *testVault) {
			setUp(v)
			v.failWrites(ledger.Prefix, 2)
			v.write("rotate-role/db")
			v.storage.before = nil
			if len(v.begun()) != 1 {
				v.t.Fatal("no entry is begun: the test proves nothing")
			}
			mustEnd(v)
		},
	})
}

// TestADeleteThatDidNotEnd has left a key switched off, which is nobody else's doing.
func TestADeleteThatDidNotEnd(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"it is called that, until the role has another key": func(t *testing.T, v *testVault) {
			v.configure()
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=24h")
			half := v.read("static-creds/db")["access_key"].(string)
			works := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "8"})
			if resp, err := v.try(logical.DeleteOperation, "static-roles/db"); failure(resp, err) == nil {
				t.Fatal("it has ended")
			}
			works()
			v.mustFind(v.read("check/default"), "error: a delete of static role \"db\" has not ended, and left its access key "+half+
				" switched off", "delete it again (vault delete static-roles/db)", "rotate-role/db")
			v.forgetEvents()
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_keys_switched_off", "a delete of static role")
			v.mustAnnounce(eventStaticOff, 0)
			v.write("rotate-role/db")
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_keys_switched_off", "")
			id := v.read("static-creds/db")["access_key"].(string)
			v.switchKey(id, false)
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_keys_switched_off", "somebody has switched off access key "+id)
			if resp, err := v.try(logical.DeleteOperation, "static-roles/db"); failure(resp, err) != nil {
				t.Errorf("delete again: %v, %v", resp, err)
			}
			v.mustHaveLive(0)
		},
	})
}
