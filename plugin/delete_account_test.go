// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestDeletedAccounts are E16, what becomes of the engine's own keys, and E15, accounts that are closed.
func TestDeletedAccounts(t *testing.T) {
	t.Parallel()
	del := (*testVault).delete
	// closed is an account whose cloud takes no key of it any more, with a lease that is out.
	closed := func(v *testVault) *testLease {
		v.configure("ttl=1h")
		l := v.lease("app")
		v.account.DeleteKey(v.root.AccessKey)
		return l
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E16: a key that the engine has made with a login goes with the account": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.signInFields()...)
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.mustRevoke(v.lease("app"))
			if warnings := del(v, "config/default"); len(warnings) != 0 {
				v.t.Errorf("%q", warnings)
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"E16: so do replaced keys, and keys that operators gave stay": func(t *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.rotate()
			del(v, "config/default")
			v.mustHaveLive(0)
			if _, there := v.account.Key(v.root.AccessKey); !there {
				t.Error("the operator's key was deleted")
			}
		},
		"E16: a user's key that must be switched off first is, with a near date, and the warning names it": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			id := v.rotate()["access_key"].(string)
			warnings := strings.Join(del(v, "config/default"), "\n")
			if key, there := v.account.Key(id); there {
				mustHold(t, warnings, id, "switched off")
				if key.State != cloudsim.Inactive || time.Until(key.Expires) > 5*time.Minute {
					t.Errorf("%+v", key)
				}
			}
			v.mustHaveLive(0)
		},
		"an account that is gone is no error where what was kept of it stays: the other warnings would be lost": func(t *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.failStorage("delete", policyPrefix)
			warnings := strings.Join(del(v, "config/default"), "\n")
			mustHold(t, warnings, "could not be removed", policyPrefix+"default")
			if _, there := v.account.Key(id); there {
				mustHold(t, warnings, id, "switched off")
			}
			v.storage.before = func(string, string) error { return nil }
			v.mustHaveLive(0)
		},
		"a key that the cloud refuses before it was deleted may work again: the account stays": func(t *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.switchKey(id, false)
			for range 3 { // none of which has sent its delete
				v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays", "force=true")
			}
			v.switchKey(id, true)
			v.settle(afterHold)
			del(v, "config/default")
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"nor does a delete that the cloud has surely not carried out make a refused key a deleted one": func(t *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			cancel := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "7"})
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays", "force=true")
			cancel()
			v.switchKey(id, false)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays", "force=true")
			v.switchKey(id, true)
			v.settle(afterHold)
			del(v, "config/default")
			v.mustHaveLive(0)
		},
		"nor does a delete that the cloud refuses by mistake": func(t *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			cancel := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 401, Code: "1"})
			for range 3 {
				v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays", "force=true")
			}
			if _, there := v.account.Key(id); !there {
				t.Fatal("the key is gone")
			}
			cancel()
			v.settle(afterHold)
			del(v, "config/default")
			v.mustHaveLive(0)
		},
		"a key whose delete got no answer, and that is refused since, is named: nobody knows whether it is gone": func(_ *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			cancel := v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 500})
			cancelHuawei := v.sim.Order(cloudsim.Fault{Op: "DeletePermanentAccessKey", Kind: cloudsim.Refuse, Status: 500})
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays", "force=true")
			cancel()
			cancelHuawei()
			v.switchKey(id, false)
			mustHold(v.t, strings.Join(del(v, "config/default"), "\n"), id, "whose answer was lost")
		},
		"where storage does not tell whether another account has the key, the account stays": func(_ *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			marked := false
			v.storage.before = func(op, key string) error {
				marked = marked || op == "put" && strings.HasPrefix(key, configPrefix)
				if marked && op == "list" && key == configPrefix {
					return errInjected
				}
				return nil
			}
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "stays")
			v.storage.before = nil
			del(v, "config/default")
			v.mustHaveLive(0)
		},
		"E16: after a crash before the end, delete again goes on": func(t *testing.T, v *testVault) {
			v.write("config/default", v.signInFields()...)
			v.storage.before = func(op, key string) error {
				if op == "delete" && strings.HasPrefix(key, configPrefix) {
					return errInjected
				}
				return nil
			}
			if resp, err := v.try(logical.DeleteOperation, "config/default"); failure(resp, err) == nil {
				t.Fatal("deleted")
			}
			v.storage.before = nil
			v.mustHaveLive(0)
			v.restart()
			del(v, "config/default")
			if resp, _ := v.try(logical.ReadOperation, "config/default"); resp != nil {
				t.Error("it is there")
			}
		},
		"E16: a cloud that does not answer keeps the account, and a write ends the deletion": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.rotate()
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.Outage})
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, `account "default" stays`, "force=true")
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "is being deleted")
			cancel()
			v.write("config/default", "max_ttl=2h")
			v.lease("app")
		},
		"E15: a closed account is deleted with force, and the answer lists what could not be deleted": func(t *testing.T, v *testVault) {
			l := closed(v)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use")
			warnings := strings.Join(del(v, "config/default", "force=true"), "\n")
			mustHold(t, warnings, l.AccessKey(), `user "app"`, "abandoned", "may work until")
			v.mustRevoke(l)
			v.mustHaveLedger(1)
			v.settle(2 * time.Hour)
			v.mustHaveLedger(0)
		},
		"an abandoned record whose key this machine's clock alone finds past its date is kept": func(t *testing.T, v *testVault) {
			v.sim.SetClockSkew(-10 * time.Minute) // the cloud's, so that this machine's is ahead
			v.restart()
			id := closed(v).AccessKey()
			del(v, "config/default", "force=true")
			v.leases = nil
			key, _ := v.account.Key(id)
			v.settle(time.Until(key.Expires.Add(5 * time.Minute)))
			v.mustHaveLedger(1)
			v.settle(time.Hour)
			v.mustHaveLedger(0)
		},
		"E15: where the cloud answers and takes the engine key, nothing is forced": func(_ *testing.T, v *testVault) {
			v.configure("ttl=1h")
			l := v.lease("app")
			v.mustRefuse(logical.DeleteOperation, "config/default", []string{"force=true"}, "nothing is to be forced")
			v.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
			v.rotate() // to a key that no list shows yet
			v.mustRefuse(logical.DeleteOperation, "config/default", []string{"force=true"}, "nothing is to be forced")
			v.mustRevoke(l)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.mustHaveLive(1)
		},
		"E15: a key whose date has passed does not count as in use": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			v.lease("app")
			v.leases = nil
			v.sim.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 500})
			v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 500})
			<-time.After(2 * time.Hour)
			del(v, "config/default")
			v.mustHaveLedger(0)
		},
		"E15: an abandoned record is deleted with keys/<id> force=true": func(_ *testing.T, v *testVault) {
			l := closed(v)
			del(v, "config/default", "force=true")
			v.mustRefuse(logical.DeleteOperation, "keys/"+l.AccessKey(), nil, "force=true")
			del(v, "keys/"+l.AccessKey(), "force=true")
			v.mustHaveLedger(0)
		},
	})
}

// TestAccountsOfAPerformancePrimaryAreDeletedWithForce says so for the leases of its secondaries, which it does not see.
func TestAccountsOfAPerformancePrimaryAreDeletedWithForce(t *testing.T) {
	t.Parallel()
	force := []string{"force=true"}
	begin := func(v *testVault) {
		v.configure("ttl=1h")
		v.rotate()
		v.becomePrimary()
	}
	mustWarn := func(v *testVault, fields ...string) {
		v.t.Helper()
		warnings := strings.Join(v.delete("config/default", fields...), "\n")
		mustHold(v.t, warnings, "secondaries", `account "default"`)
		if strings.Contains(warnings, "abandoned") {
			v.t.Error(warnings)
		}
		v.mustHaveLive(0)
		v.mustHaveLedger(0)
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"without it the account stays, and works; with it its keys go along": func(_ *testing.T, v *testVault) {
			begin(v)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, `account "default"`, "each secondary", "force=true")
			v.mustRevoke(v.lease("app"))
			mustWarn(v, force...)
		},
		"a lease of this cluster refuses it all the same, and works": func(_ *testing.T, v *testVault) {
			begin(v)
			l := v.lease("app")
			for _, fields := range [][]string{nil, force} {
				v.mustRefuse(logical.DeleteOperation, "config/default", fields, "in use (1 leased access keys)")
			}
			if err := v.renew(l, 0); err != nil {
				v.t.Error(err)
			}
			v.mustRevoke(l)
			mustWarn(v, force...)
		},
		"where the cloud refuses the engine key, the leases of this cluster are abandoned": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			l := v.lease("app")
			v.becomePrimary()
			v.deleteKey(v.root.AccessKey)
			mustHold(t, strings.Join(v.delete("config/default", force...), "\n"), l.AccessKey(), "is abandoned", "secondaries")
			v.mustRevoke(l)
		},
		"where a call fails, nothing is abandoned, and the account works on": func(_ *testing.T, v *testVault) {
			begin(v)
			l := v.lease("app")
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.Outage})
			v.mustRefuse(logical.DeleteOperation, "config/default", force, `account "default" stays`, "Try again")
			cancel()
			v.settle(afterHold)
			v.mustRevoke(v.lease("app"))
			v.mustRefuse(logical.DeleteOperation, "config/default", force, "in use (1 leased access keys)")
			v.mustRevoke(l)
			mustWarn(v, force...)
		},
	})
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a delete that goes on was said so when it began": func(_ *testing.T, v *testVault) {
			begin(v)
			v.failStorage("delete", configPrefix)
			if resp, err := v.try(logical.DeleteOperation, "config/default", force...); failure(resp, err) == nil {
				v.t.Fatal("deleted")
			}
			v.storage.before = nil
			v.restart()
			mustWarn(v)
		},
	})
}

// TestAnAccountNameThatIsUsedAgain has a name stand for another cloud account, after the account was closed and deleted with force.
func TestAnAccountNameThatIsUsedAgain(t *testing.T) {
	t.Parallel()
	begin := func(v *testVault) *testLease {
		v.configure("ttl=1h")
		l := v.lease("app")
		v.deleteKey(v.root.AccessKey)
		resp, err := v.try(logical.DeleteOperation, "config/default", "force=true")
		v.mustSucceed("delete config", resp, err)
		if v.domain == nil {
			v.account = v.sim.AddAccount("210987654321")
			v.root = v.account.RootKey()
		} else {
			v.domain = v.sim.AddDomain("other")
			v.root = v.domain.RootKey()
		}
		v.write("config/default", v.accountFields()...)
		v.mustRevoke(l) // whoever gave the key up was told
		v.mustHaveLedger(1)
		return l
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"what was abandoned under it is deleted with keys/<id> force=true, and then the account as well": func(_ *testing.T, v *testVault) {
			l := begin(v)
			v.mustRefuse(logical.DeleteOperation, "keys/"+l.AccessKey(), nil, "was abandoned", "force=true")
			resp, err := v.try(logical.DeleteOperation, "keys/"+l.AccessKey(), "force=true")
			v.mustSucceed("delete key", resp, err)
			v.mustHaveLedger(0)
			resp, err = v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete config", resp, err)
		},
		"nor does what was abandoned take a slot of another user of that name, or count for its role": func(t *testing.T, v *testVault) {
			begin(v)
			v.addUser("app")
			v.addUser("app2")
			v.write("roles/app", "user_names=app,app2", "max_active_keys=1")
			if user := v.lease("app").Data["user_name"]; user != "app" { // the first of those with the most free slots
				t.Errorf("leased of %v", user)
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "1 of its keys")
		},
		"where it is the same one, what was abandoned counts as before": func(_ *testing.T, v *testVault) {
			v.configure("ttl=1h", "max_active_keys=1")
			v.lease("app")
			v.switchKey(v.root.AccessKey, false)
			v.delete("config/default", "force=true")
			v.switchKey(v.root.AccessKey, true)
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "1 of its keys")
		},
	})
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"leases of the former engine's own identity take no slots of the new one's": func(_ *testing.T, v *testVault) {
			own := func() {
				v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
				v.write("roles/own", "own_identity=true", "ttl=50m")
				for range 8 {
					v.lease("own")
				}
			}
			own()
			v.deleteKey(v.root.AccessKey)
			v.delete("config/default", "force=true")
			v.leases = nil
			v.root = v.sim.AddAccount("210987654321").RootKey()
			own()
			v.rotate()
		},
		"what was abandoned under it ends with its date, where the cloud ends keys": func(_ *testing.T, v *testVault) {
			begin(v)
			v.settle(2 * time.Hour)
			v.mustHaveLedger(0)
		},
		"where the second cloud account is closed as well, its dates say nothing of the first's keys": func(t *testing.T, v *testVault) {
			path := v.entryPath(begin(v).AccessKey())
			endsByDate := func(set func(*ledger.Entry)) bool {
				e, err := load[ledger.Entry](t.Context(), v.storage, path)
				if err != nil || e == nil {
					t.Fatal(e, err)
				}
				set(e)
				if err := save(t.Context(), v.storage, path, e); err != nil {
					t.Fatal(err)
				}
				return e.EndsByDate
			}
			endsByDate(func(e *ledger.Entry) { e.EndsByDate = false }) // as a cloud's that ends none
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.RefuseConnection})
			v.delete("config/default", "force=true")
			cancel()
			if endsByDate(func(*ledger.Entry) {}) {
				t.Error("its record goes at its date")
			}
		},
		"nor does a lease of the former engine's own identity keep the account from another user's key": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true")
			l := v.lease("own")
			v.deleteKey(v.root.AccessKey)
			v.delete("config/default", "force=true")
			other := v.sim.AddAccount("210987654321")
			v.root = other.RootKey()
			v.write("config/default", v.accountFields()...)
			v.mustRevoke(l)
			other.AddUser("vault", "api:*")
			v.root = other.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
		},
	})
	// noTrouble has the day pass in which the reaper comes to what was abandoned.
	noTrouble := func(v *testVault) {
		v.t.Helper()
		v.settle(2 * day)
		if n, _ := v.backend.ledger.Overdue("default"); n != 0 {
			v.t.Errorf("%d keys are stuck", n)
		}
	}
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"a key that could not be deleted is nobody's trouble once it is abandoned": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			id := v.lease("app").AccessKey()
			v.deleteKey(v.root.AccessKey)
			v.leases = nil
			v.settle(2 * time.Hour)
			if n, _ := v.backend.ledger.Overdue("default"); n != 1 {
				t.Fatalf("%d keys are stuck: the test proves nothing", n)
			}
			mustHold(t, strings.Join(v.delete("config/default", "force=true"), "\n"), id, "abandoned")
			noTrouble(v)
			v.mustHaveLedger(1)
		},
		"what was abandoned under it stays, where the cloud ends no keys, and is nobody's trouble": func(_ *testing.T, v *testVault) {
			begin(v)
			noTrouble(v)
			v.mustHaveLedger(1)
		},
		"so it is although the account has been found to be another one only since": func(_ *testing.T, v *testVault) {
			begin(v)
			v.replaceConfig(func(c *accountConfig) { c.AccountID, c.Identity = "", provider.Identity{} })
			noTrouble(v)
			v.mustHaveLedger(1)
		},
		"nor does it keep the account from a third's key, or from being deleted: its record stays, named": func(t *testing.T, v *testVault) {
			l := begin(v)
			v.root = v.sim.AddDomain("third").RootKey()
			mustHold(t, strings.Join(v.write("config/default", v.accountFields()...), "\n"), l.AccessKey(), "force=true")
			mustHold(t, strings.Join(v.delete("config/default"), "\n"), l.AccessKey(), "force=true")
			v.mustHaveLedger(1)
			v.delete("keys/"+l.AccessKey(), "force=true")
			v.mustHaveLedger(0)
		},
		"nor do a static role's keys, nor one that a request was about to make": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=24h")
			id := v.staticKey("db")
			e, err := load[ledger.Entry](t.Context(), v.storage, v.entryPath(id))
			if err != nil {
				t.Fatal(err)
			}
			begun := *e
			begun.Kind, begun.State, begun.AccessKey = keylabel.KindLease, ledger.Begun, ""
			begun.Label = keylabel.New("ABCDEFGHIJKLMNOP", keylabel.KindLease).String()
			if err := v.backend.ledger.Save(t.Context(), v.storage, &begun); err != nil {
				t.Fatal(err)
			}
			v.deleteKey(v.root.AccessKey)
			v.delete("config/default", "force=true")
			v.delete("static-roles/db", "force=true")
			v.root = v.sim.AddDomain("other").RootKey()
			v.write("config/default", v.accountFields()...)
			if resp, err := v.try(logical.DeleteOperation, "config/default"); failure(resp, err) != nil {
				t.Error(failure(resp, err))
			}
			v.write("config/default", v.accountFields()...)
			v.settle(3 * rollbackPeriod)
			v.mustHaveNothingBegun() // no operator could name what has no key id
			mustHold(t, strings.Join(v.delete("config/default"), "\n"), id, "force=true")
		},
	})
}

// TestAReplacedKeyOfAnUnknownOwner is E26.
func TestAReplacedKeyOfAnUnknownOwner(t *testing.T) {
	t.Parallel()
	// replaced has an operator replace a key that the engine has made for a user whom it may not find out.
	replaced := func(v *testVault) (id string) {
		root := v.root
		v.account.AddUser("vault", "api:ReadAccounts", "api:CreateAccessKey", "api:ReadAccessKeys", "api:UpdateAccessKey",
			"api:DeleteAccessKey", "api:ReadApiAccessPolicy")
		v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
		v.configure()
		id = v.rotate()["access_key"].(string)
		v.settle(time.Hour)
		v.root = root
		v.write("config/default", v.accountFields()...)
		return id
	}
	mustBeForgotten := func(v *testVault) {
		v.t.Helper()
		v.settle(time.Hour)
		if ids := v.read("config/default")["previous_access_keys"].([]string); len(ids) != 0 {
			v.t.Errorf("previous_access_keys: %v", ids)
		}
		v.mustHaveLive(0)
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E26: where a user's key cannot prove that it is gone, an operator can say so": func(t *testing.T, v *testVault) {
			id := replaced(v)
			v.account.DeleteKey(id)
			v.account.AddUser("ops", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "ops"})
			v.write("config/default", v.accountFields()...)
			v.settle(time.Hour)
			resp, err := v.try(logical.DeleteOperation, "keys/"+id, "force=true")
			v.mustSucceed("delete keys/"+id, resp, err)
			if ids := v.read("config/default")["previous_access_keys"].([]string); slices.Contains(ids, id) {
				t.Errorf("previous_access_keys: %v", ids)
			}
		},
		"E26: deleted by hand, it is found gone and forgotten": func(_ *testing.T, v *testVault) {
			v.account.DeleteKey(replaced(v))
			mustBeForgotten(v)
		},
		"E26: a list of users that shows its user under a former name is no proof that it is gone": func(_ *testing.T, v *testVault) {
			replaced(v)
			renamed := false
			v.sim.OnCall(func(c cloudsim.Call) {
				if c.Op == "ReadAccessKeys" && strings.Contains(string(c.Body), `"vault"`) && !renamed {
					renamed = true
					v.renameUser("vault", "vault-renamed")
				}
			})
			mustBeForgotten(v)
		},
		"E26: it is found among the users' keys, and deleted": func(_ *testing.T, v *testVault) {
			replaced(v)
			mustBeForgotten(v)
		},
	})
}
