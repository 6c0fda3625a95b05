// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestTheLastTick is the one that the server sends before it disables or moves a mount: an ordinary
// rollback, with the mount tainted.
func TestTheLastTick(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"right after a create whose answer was lost, the key is gone": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			v.mustHaveLive(1)
			v.system.taint(true)
			_ = v.tick()
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
		"also where a new process knows nothing of it, and the ledger is long": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			v.leaveBegun()
			for range 2000 {
				e := &ledger.Entry{State: ledger.Made, Kind: keylabel.KindLease, Account: "default", AccountID: "1", Expires: time.Now().Add(day)}
				e.Label = keylabel.New(v.read("info")["instance_id"].(string), e.Kind).String()
				if err := save(t.Context(), v.storage, ledger.Path(e.Account, e.Label), e); err != nil {
					t.Fatal(err)
				}
			}
			v.restart()
			v.system.taint(true)
			_ = v.tick()
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
		"also where its clean-up was put off, since the cloud did not answer about it": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			stop := v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: time.Hour})
			_ = v.tick()
			stop()
			if left := v.backend.ledger.Unfinished("default", time.Now(), false); len(left) != 0 {
				t.Fatalf("it is not put off: the test proves nothing (%v)", left)
			}
			v.system.taint(true)
			_ = v.tick()
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
		"a create that may still be under way in the cloud keeps its entry, which moves with the mount": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			defer v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropRequest})()
			if _, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatal("leased")
			}
			v.system.taint(true)
			_ = v.tick()
			if len(v.begun()) == 0 {
				t.Error("it is gone")
			}
		},
	})
}

// TestARequestThatRuns is E22: none that the rollback takes up, whatever the clock says.
func TestARequestThatRuns(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, tainted := range map[string]bool{"in a tick": false, "in the last tick": true} {
		tests["its entry grows old by a step of the clock, "+name] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			live := v.base
			ticked := false
			v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := live.RoundTrip(req)
				if v.countCalls("CreateAccessKey") == 2 && !ticked {
					ticked = true
					for _, e := range v.begun() {
						e.Issued = e.Issued.Add(-10 * time.Minute)
						if err := save(t.Context(), v.storage.Storage, ledger.Path(e.Account, e.Label), e); err != nil {
							t.Error(err)
						}
					}
					v.system.taint(tainted)
					if err := v.tick(); err != nil {
						t.Error(err)
					}
				}
				return resp, err
			})
			v.restart()
			l := v.lease("app")
			if !ticked {
				t.Fatal("no tick came: the test proves nothing")
			}
			if _, there := v.key(l.AccessKey()); !there {
				t.Error("the key that was handed out is gone")
			}
		}
	}
	inBothClouds(t, tests)
}

// TestALeaseWithoutItsAccount is E21: what the ledger does not know is gone, and needs no account.
func TestALeaseWithoutItsAccount(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"it is revoked after its key was killed and the account deleted": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.kill(l)
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete", resp, err)
			v.mustRevoke(l)
		},
		"so it is where the account is another cloud account now": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.kill(l)
			v.root = v.sim.AddAccount("999999999999").RootKey()
			v.write("config/default", v.accountFields()...)
			v.restart()
			v.mustRevoke(l)
		},
		"where the account is there, the cloud is asked once more": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			if err := remove(v.t.Context(), v.storage, v.entryPath(l.AccessKey())); err != nil {
				v.t.Fatal(err)
			}
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"a key that the ledger knows is not believed gone without its account": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			if err := remove(t.Context(), v.storage, "config/default"); err != nil {
				t.Fatal(err)
			}
			v.engine.InvalidateKey(t.Context(), "config/default")
			if err := v.revoke(l); err == nil {
				t.Error("revoked")
			}
			v.mustHaveLedger(1)
		},
		"nor is one whose lease is damaged: its access key finds the entry": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l, other := v.lease("app"), v.lease("app")
			for name, label := range map[string]string{
				"no label": "x", "another key's": other.Secret.InternalData["label"].(string),
				"of no entry": v.label(),
			} {
				l.Secret.InternalData["label"] = label
				if err := v.renew(l, 0); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				l.Secret.InternalData["label"] = label
			}
			v.mustRevoke(l)
			v.mustHaveLedger(1)
			v.mustFit(other, time.Minute)
			v.mustRevoke(other)
			v.mustHaveLive(0)
		},
		"a damaged lease whose own entry is gone takes no other key's": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l, other := v.lease("app"), v.lease("app")
			v.kill(l)
			l.Secret.InternalData["label"] = other.Secret.InternalData["label"]
			if err := v.renew(l, 0); err == nil {
				t.Error("renewed")
			}
			v.mustRevoke(l)
			v.mustHaveLedger(1)
			if err := v.renew(other, 0); err != nil {
				t.Error(err)
			}
		},
	})
}

// TestTheListOfAUsersKeys is E34.
func TestTheListOfAUsersKeys(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"beside a thousand leases with users of their own it reads none of their entries": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			v.write("roles/job", "credential_type=iam_user", "ttl=10h")
			for range 1000 {
				if _, err := v.tryLease(t.Context(), "job"); err != nil {
					t.Fatal(err)
				}
			}
			v.restart()
			v.advance(3 * rollbackPeriod)
			reads := v.countLedgerReads()
			for _, user := range []string{"app", "nobody", v.leases[0].Data["user_name"].(string)} {
				resp, err := v.try(logical.ListOperation, "keys/", "user="+user)
				v.mustSucceed("list", resp, err)
			}
			if n := reads(); n != 1 { // that of the one key that there is
				t.Errorf("%d reads", n)
			}
		},
	})
}

// TestAnotherIdentity points the engine at a user who could not delete what the one before has made.
func TestAnotherIdentity(t *testing.T) {
	t.Parallel()
	begin := func(v *testVault) *testLease {
		v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
		v.write("roles/own", "ttl=1h", "own_identity=true")
		l := v.lease("own")
		v.account.AddUser("vault", "api:*")
		v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
		return l
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"it is refused while keys of its own identity are leased": func(_ *testing.T, v *testVault) {
			l := begin(v)
			v.mustRefuse(logical.UpdateOperation, "config/default", v.accountFields(), "in use", "1 leased access key", "own identity",
				`user "vault"`)
			v.mustRevoke(l)
			v.mustHaveLive(0)
			v.write("config/default", v.accountFields()...)
		},
		"so it is with a login": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "ttl=1h", "own_identity=true")
			l := v.lease("own")
			v.mustRefuse(logical.UpdateOperation, "config/default", v.signInFields()[1:], "in use", "own identity")
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"another key of the same identity is taken": func(_ *testing.T, v *testVault) {
			l := begin(v)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"leases of other users do not keep it from being written": func(_ *testing.T, v *testVault) {
			l := begin(v)
			v.mustRevoke(l)
			v.write("roles/app", "user_names=app", "ttl=1h")
			l = v.lease("app")
			v.write("config/default", v.accountFields()...)
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"a request that the change overtakes makes no key that nobody can delete": func(t *testing.T, v *testVault) {
			l := begin(v)
			v.mustRevoke(l)
			config := v.accountFields()
			done := false
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, ledger.Prefix) && !done {
					done = true
					resp, err := v.try(logical.UpdateOperation, "config/default", config...)
					if failure(resp, err) == nil {
						t.Error("written beside a request that makes a key of the own identity")
					}
				}
				return nil
			}
			l = v.lease("own")
			v.storage.after = nil
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"a secondary whose primary was pointed elsewhere does not take the key for gone": func(t *testing.T, v *testVault) {
			l := begin(v)
			v.replaceConfig(func(c *accountConfig) {
				c.AccessKey, c.SecretKey = v.root.AccessKey, v.root.SecretKey
				c.Identity.Kind, c.Identity.User = "user", "vault"
			})
			if err := v.revoke(l); err == nil {
				v.mustHaveLive(0)
			}
			if len(v.liveKeys()) > 0 {
				v.mustHaveLedger(1)
			}
		},
	})
}

// TestRenamedUsers is E3: it takes keys away whose owner goes by another name.
func TestRenamedUsers(t *testing.T) {
	t.Parallel()
	rename := map[string]func(v *testVault){
		"its user was renamed": func(v *testVault) { v.renameUser("app", "app2") },
		"its user was renamed, and another has the name": func(v *testVault) {
			v.renameUser("app", "app2")
			v.addUser("app")
		},
	}
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, change := range rename {
		tests["a revoke ends the key: "+name] = func(_ *testing.T, v *testVault) {
			v.configure("ttl=8h")
			l := v.lease("app")
			change(v)
			v.settleNew()
			v.persistently(l)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		}
		tests["a delete of keys/<id> ends it: "+name] = func(_ *testing.T, v *testVault) {
			v.configure("ttl=8h")
			l := v.lease("app")
			change(v)
			v.settleNew()
			for range 3 {
				_, _ = v.try(logical.DeleteOperation, "keys/"+l.AccessKey())
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		}
		tests["the delete of a static role ends its key: "+name] = func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			change(v)
			v.settleNew()
			for range 3 {
				_, _ = v.try(logical.DeleteOperation, "static-roles/db")
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		}
		tests["the clean-up of an unfinished request ends it: "+name] = func(_ *testing.T, v *testVault) {
			v.configure("ttl=8h")
			v.leaveBegun()
			v.mustHaveLive(1)
			change(v)
			v.settle(begunAge + 5*rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		}
		tests["a renewal moves it: "+name] = func(t *testing.T, v *testVault) {
			v.configure("ttl=8h")
			l := v.lease("app")
			change(v)
			v.advance(time.Minute)
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			v.mustFit(l, time.Minute)
		}
	}
	inBothClouds(t, tests)
}

// TestNamesOfOthers is E39: a role by name does not follow whoever bears it.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	takeOver := func(v *testVault) {
		v.renameUser("app", "app2")
		v.addUser("app")
		v.settle(10 * time.Minute)
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"a role is refused where the name is another user now, until it is written again": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			takeOver(v)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "app"`, "is another user since", "roles/app")
			v.restart()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "is another user since")
			v.write("roles/app", "user_names=app")
			v.lease("app")
		},
		"a pool goes on with its other users": func(t *testing.T, v *testVault) {
			v.addUser("other")
			v.configure("user_names=app,other", "ttl=10m")
			takeOver(v)
			for range 2 {
				if user := v.lease("app").Data["user_name"]; user != "other" {
					t.Errorf("leased of %v", user)
				}
			}
		},
		"a static role is not rotated onto it": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			before := v.read("static-creds/db")["access_key"]
			takeOver(v)
			v.mustRefuse(logical.UpdateOperation, "rotate-role/db", nil, `user "app"`, "is another user since", "static-roles/db")
			if now := v.read("static-creds/db")["access_key"]; now != before {
				t.Error("rotated")
			}
			v.write("static-roles/db", "rotation_period=24h")
			v.write("rotate-role/db")
		},
		"a write that takes the other user says so": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			takeOver(v)
			mustHold(t, strings.Join(v.write("roles/app", "ttl=5m"), "\n"), `user "app" is another user than when this was last written`)
			if warnings := strings.Join(v.write("roles/app", "ttl=6m"), "\n"); strings.Contains(warnings, "another user") {
				t.Errorf("said again: %s", warnings)
			}
		},
		"so does one that names a user who is not there": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			mustHold(t, strings.Join(v.write("roles/app", "user_names=app,later"), "\n"), `the account has no user "later"`, "write this again")
		},
		"a write while the name is free keeps it from whoever takes it next": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.renameUser("app", "app2")
			v.write("roles/app", "ttl=5m")
			v.addUser("app")
			v.settle(10 * time.Minute)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "app"`, "is another user since", "roles/app")
		},
		"nor does one of a static role let it go": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=24h")
			v.renameUser("app", "app2")
			v.write("static-roles/db", "rotation_period=25h")
			v.addUser("app")
			v.settle(10 * time.Minute)
			v.mustRefuse(logical.UpdateOperation, "rotate-role/db", nil, `user "app"`, "is another user since", "static-roles/db")
		},
		"a user who has come back under the name is the same": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.renameUser("app", "app2")
			v.settle(10 * time.Minute)
			v.renameUser("app2", "app")
			v.settle(10 * time.Minute)
			v.lease("app")
		},
	})
}

// TestOwnSlotsAreNotOversold is E5: requests come together for the slots of the engine's own identity.
func TestOwnSlotsAreNotOversold(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E5: twelve at once get as many keys as one after the other, and the engine's key is rotated": func(t *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/app", "ttl=55m", "own_identity=true")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: time.Second, Times: 12})
			if given, refused := v.storm(12); given != 8 || refused != 4 {
				t.Errorf("%d given, %d refused", given, refused)
			}
			v.rotate()
		},
	})
}
