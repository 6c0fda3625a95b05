// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestRolesOnTheEnginesOwnIdentity keeps roles off the engine's own identity that have not asked for it.
func TestRolesOnTheEnginesOwnIdentity(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E13: user_name on roles/ is refused by name, whatever the account allows": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_name=deploy"}, "user_name", "static-roles/", "user_names")
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=app", "user_name=deploy"}, "user_name")
			v.mustRefuse(logical.ReadOperation, "creds/x", nil, "does not exist")
		},
		"E13: user_names on static-roles/ is refused by name": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "static-roles/x", []string{"user_names=app", "rotation_period=1h"}, "user_names", "roles/",
				"user_name")
		},
		"E13: allow_root_identity alone gives no role the engine's own identity": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"ttl=10m"}, "user_names", "own_identity=true")
			v.write("roles/x", "ttl=10m", "own_identity=true")
			v.lease("x")
		},
		"E13: own_identity alone does not either": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"own_identity=true"}, "allow_root_identity=true", "config/default")
		},
		"E5: its slots are counted by whose they are, by whichever name roles call it": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.renameUser("vault", "ops")
			v.write("roles/named", "user_names=ops", "own_identity=true", "ttl=10m")
			v.write("roles/unnamed", "own_identity=true", "ttl=10m")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})
			var group sync.WaitGroup
			for range 12 {
				for _, role := range []string{"named", "unnamed"} {
					group.Go(func() { _, _ = v.try(logical.ReadOperation, "creds/"+role) })
				}
			}
			group.Wait()
			v.mustHaveLive(8)
			v.rotate()
		},
		"E5: the keys of others leave the engine its slots as well": func(t *testing.T, v *testVault) {
			var foreign []string
			for range 4 {
				foreign = append(foreign, v.account.AddKey(cloudsim.KeySpec{}).AccessKey)
			}
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=50m")
			for range 4 {
				v.lease("own")
			}
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "2 slots are kept for the engine's own key", "4 are taken by keys of others")
			v.rotate()
			v.advance(10 * time.Minute) // the replaced key is deleted
			for _, id := range foreign {
				v.account.DeleteKey(id)
			}
			<-time.After(fullFor)
			for range 4 {
				v.lease("own")
			}
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "2 slots are kept for the engine's own key")
			v.rotate()
		},
		"E5: where the keys of others cannot be counted, the slot of the engine's next key is not leased": func(_ *testing.T, v *testVault) {
			for range 8 { // with the engine's key, and its next one, all are taken
				v.account.AddKey(cloudsim.KeySpec{})
			}
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=50m")
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "8 are taken by keys of others")
			<-time.After(fullFor)
			cancel := v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: 500})
			for range 3 {
				if l, err := v.tryLease(v.t.Context(), "own"); err == nil {
					v.t.Errorf("leased %s", l.AccessKey())
				} else {
					mustHold(v.t, err.Error(), "counting the keys of others on the engine's own identity")
				}
			}
			cancel()
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "8 are taken by keys of others")
			v.rotate()
		},
		"E5: leases of a moment share one list of its keys": func(t *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=50m")
			v.sim.ResetCalls()
			for range 5 {
				v.lease("own")
			}
			if n := v.countCalls("ReadAccessKeys"); n != 1 {
				t.Errorf("%d lists", n)
			}
		},
		"E5: accounts whose engine keys are of one identity leave each other the slots of a rotation": func(t *testing.T, v *testVault) {
			for _, account := range []string{"default", "second"} {
				v.write("config/"+account, append(v.accountFields(), "allow_root_identity=true")...)
				v.write("roles/"+account, "account="+account, "own_identity=true", "ttl=50m")
				v.write("rotate-root/" + account)
				v.root = v.account.AddKey(cloudsim.KeySpec{}) // of the next one
			}
			v.account.DeleteKey(v.root.AccessKey)
			v.advance(10 * time.Minute) // the replaced keys are deleted
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})
			var group sync.WaitGroup
			for range 12 {
				for _, role := range []string{"default", "second"} {
					group.Go(func() { _, _ = v.try(logical.ReadOperation, "creds/"+role) })
				}
			}
			group.Wait()
			v.mustHaveLive(6 + 2)
			v.mustRefuse(logical.ReadOperation, "creds/default", nil, "4 slots are kept", "0 are taken by keys of others")
			v.write("rotate-root/default")
			v.write("rotate-root/second")
		},
		"E5: an engine key that accounts share takes one slot, as its next one does": func(_ *testing.T, v *testVault) {
			for _, account := range []string{"default", "second"} {
				v.write("config/"+account, append(v.accountFields(), "allow_root_identity=true")...)
			}
			v.write("roles/own", "own_identity=true", "ttl=50m")
			for range 8 {
				v.lease("own")
			}
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "2 slots are kept", "0 are taken by keys of others")
		},
		"E5: replaced engine keys of another identity take no slots of this one": func(_ *testing.T, v *testVault) {
			root := v.root
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			v.rotate()
			v.root = root
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=50m")
			for range 8 {
				v.lease("own")
			}
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "2 slots are kept", "0 are taken by keys of others")
		},
		"E5: an abandoned engine key does not take the slot of the next one": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			id := v.rotate()["access_key"].(string)
			v.advance(10 * time.Minute)
			v.switchKey(id, false)
			v.delete("config/default", "force=true")
			v.switchKey(id, true)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=50m")
			for range 7 {
				v.lease("own")
			}
			v.mustRefuse(logical.ReadOperation, "creds/own", nil, "1 are taken by keys of others")
			v.rotate()
		},
		"E5: keys that the ledger has lost do not either, and a lease that is revoked gives its slot back at once": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=50m")
			v.mustRevoke(v.lease("own"))
			v.orphan("")
			v.orphan("")
			<-time.After(fullFor)
			for range 2 {
				for range 6 {
					v.lease("own")
				}
				v.mustRefuse(logical.ReadOperation, "creds/own", nil, "2 are taken by keys of others")
				v.mustRevokeAll()
			}
			v.rotate()
		},
		"E25: a role with 100,000 users is refused at once": func(t *testing.T, v *testVault) {
			v.configure()
			names := make([]string, 100_000)
			for i := range names {
				names[i] = fmt.Sprintf("user%05d", i)
			}
			began := time.Now()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=" + strings.Join(names, ",")}, "100000 users", "500")
			v.write("roles/x", "user_names="+strings.Join(names[:500], ","))
			if calls := v.countCalls("ReadAccessKeys"); calls > 10 {
				t.Errorf("%d lists of keys, %s", calls, time.Since(began))
			}
		},
		"a role that an earlier version has stored without user_names leases nothing": func(t *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			if err := save(t.Context(), v.storage, rolePrefix+"old", &roleEntry{
				Account:        "default",
				CredentialType: credentialAccessKey,
			}); err != nil {
				t.Fatal(err)
			}
			v.mustRefuse(logical.ReadOperation, "creds/old", nil, "own_identity=true", "roles/old")
		},
		"E8: the engine's user is renamed, and a role or static role takes the new name": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			v.renameUser("vault", "ops")
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=ops"}, `user "ops" owns the engine's own access key`)
			v.mustRefuse(logical.UpdateOperation, "static-roles/x", []string{"user_name=ops", "rotation_period=1h"},
				`user "ops" owns the engine's own access key`)
		},
		"E8: whoever takes the name that the engine's user had is not the engine": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			v.renameUser("vault", "ops")
			v.account.AddUser("vault")
			v.write("roles/x", "user_names=vault")
			v.lease("x")
		},
		"E8: a role whose name the engine's user takes later leases nothing": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			v.write("roles/x", "user_names=later")
			v.renameUser("vault", "later")
			v.write("roles/y", "user_names=app") // lists the users
			v.mustRefuse(logical.ReadOperation, "creds/x", nil, `user "later" owns the engine's own access key`)
		},
		"E8: a role that moves to another account leaves the ids of its users behind": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			elsewhere := v.sim.AddAccount("210987654321")
			elsewhere.AddUser("app", "api:*")
			v.root = elsewhere.AddKey(cloudsim.KeySpec{User: "app"})
			v.write("config/other", v.accountFields()...)
			v.sim.Order(cloudsim.Fault{Op: "ReadUsers", Account: "210987654321", Kind: cloudsim.Refuse, Status: 403, Code: "7"})
			v.mustRefuse(logical.UpdateOperation, "roles/app", []string{"account=other"}, `user "app" owns the engine's own access key`)
			v.account.AddUser("ops")
			elsewhere.AddUser("ops")
			v.write("roles/ops", "user_names=ops", "ttl=10m")
			v.write("roles/ops", "account=other")
			v.lease("ops")
		},
		"E8: so does a role whose account is another one in the cloud now": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			elsewhere := v.sim.AddAccount("210987654321")
			elsewhere.AddUser("app", "api:*")
			v.root = elsewhere.AddKey(cloudsim.KeySpec{User: "app"})
			v.write("config/default", v.accountFields()...)
			v.sim.Order(cloudsim.Fault{Op: "ReadUsers", Account: "210987654321", Kind: cloudsim.Refuse, Status: 403, Code: "7"})
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "app" owns the engine's own access key`)
			v.mustRefuse(logical.UpdateOperation, "roles/app", nil, `user "app" owns the engine's own access key`)
		},
		"E8: a role of an account that was never verified names the engine's user": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=vault"}, `user "vault" owns the engine's own access key`)
		},
		"E8: a role that was written before the cloud could say whose the engine's key is keeps the ids of its users": func(t *testing.T, v *testVault) {
			v.account.AddUser("ops", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "ops"})
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			answer := v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: 500})
			v.write("roles/x", "user_names=ops", "ttl=10m")
			answer()
			v.renameUser("ops", "vault")
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.lease("app") // the account is identified by now
			v.renameUser("vault", "ops")
			v.restart()
			v.mustRefuse(logical.ReadOperation, "creds/x", nil, `user "ops" owns the engine's own access key`)
			v.sim.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 403, Code: "7"})
			v.write("config/default", "allow_root_identity=true")
			v.write("roles/x", "own_identity=true") // which tells the account that its ids are of
			role, err := load[roleEntry](t.Context(), v.storage, rolePrefix+"x")
			if err != nil || role.UserAccount == "" || role.UserIDs["ops"] == "" {
				t.Errorf("%+v, %v", role, err)
			}
		},
		"E8: ids of which nobody knows the cloud account do not hide that a name is the engine's user": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			if err := save(t.Context(), v.storage, rolePrefix+"old", &roleEntry{
				Account: "default", CredentialType: credentialAccessKey, UserNames: []string{"vault"},
				UserIDs: map[string]string{"vault": "of another cloud account"},
			}); err != nil {
				t.Fatal(err)
			}
			v.restart()
			v.sim.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 403, Code: "7"})
			v.mustRefuse(logical.ReadOperation, "creds/old", nil, `user "vault" owns the engine's own access key`)
		},
		"E8: a renamed user keeps the account's identity": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=1h")
			l := v.lease("own")
			v.renameUser("vault", "ops")
			v.write("config/default", v.accountFields()...)
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
	})
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"E8: a role or static role names the account's owner, whose key the engine has": func(_ *testing.T, v *testVault) {
			v.root = v.domain.RootKey()
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=" + v.domain.Name()}, "owns the engine's own access key")
			v.mustRefuse(logical.UpdateOperation, "static-roles/x", []string{"user_name=" + v.domain.Name(), "rotation_period=1h"},
				"owns the engine's own access key")
		},
		"E13: a session without agency asks for the engine's rights by name": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.mustRefuse(logical.UpdateOperation, "roles/job", []string{"credential_type=session_token"}, "agency_name", "own_identity=true")
		},
	})
}

// TestAnIdentityThatIsNotFoundAtOnce is looked for until it is found: the right may be given later, and a user may be gone when it is asked.
func TestAnIdentityThatIsNotFoundAtOnce(t *testing.T) {
	t.Parallel()
	unknown := func(v *testVault, fields ...string) (allow func()) {
		allow = v.order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 401, Code: "7"})
		v.write("config/default", append(v.accountFields(), fields...)...)
		v.mustBeIdentified("unknown")
		return allow
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"the search goes on over ticks, and its end is stored": func(_ *testing.T, v *testVault) {
			allow := unknown(v, "allow_root_identity=true")
			v.settle(2 * time.Minute)
			allow()
			v.settle(25 * time.Hour)
			v.mustBeIdentified("root")
			v.restart()
			v.mustBeIdentified("root")
			v.write("roles/own", "own_identity=true", "ttl=50m")
			l := v.lease("own")
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
			v.mustRevoke(l)
		},
		"a write of the same key has it looked for at the next tick": func(_ *testing.T, v *testVault) {
			allow := unknown(v)
			v.settle(2 * time.Minute)
			allow()
			v.write("config/default", v.accountFields()...)
			v.settle(2 * time.Minute)
			v.mustBeIdentified("root")
		},
		"where the right is missing it costs a few calls a day": func(t *testing.T, v *testVault) {
			unknown(v)
			v.settle(2 * time.Minute)
			v.sim.ResetCalls()
			v.settle(3 * day)
			if n := v.countCalls("ReadUsers"); n != 6 { // each day one, and one of the comparison
				t.Errorf("%d lists of users in three days", n)
			}
		},
		"among many users it is found in the time of ticks": func(t *testing.T, v *testVault) {
			for i := range 120 {
				v.account.AddUser(fmt.Sprintf("user-%03d", i))
			}
			v.write("config/default", append(v.accountFields(), "max_requests_per_second=5")...)
			v.mustBeIdentified("unknown")
			for range 60 {
				began := time.Now()
				if err := v.tick(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > tickBudget {
					t.Fatalf("a tick of %s", took)
				}
				<-time.After(time.Minute)
			}
			v.mustBeIdentified("root")
		},
		"among more users than a tick can list it is found by the ticks that follow": func(_ *testing.T, v *testVault) {
			for i := range 9000 {
				name := fmt.Sprintf("user-%04d", i)
				v.account.AddUser(name)
				v.account.MoveUser(name, "/"+keylabel.New("ABCDEFGHIJKLMNOP", keylabel.KindUser).Path())
			}
			cancel := v.order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 401, Code: "7"})
			v.write("config/default", append(v.accountFields(), "max_requests_per_second=5")...)
			v.mustBeIdentified("unknown")
			cancel()
			v.settle(10 * time.Minute)
			v.mustBeIdentified("root")
		},
	})
}

func (v *testVault) mustBeIdentified(want string) {
	v.t.Helper()
	if got := v.read("config/default")["identity"]; got != want {
		v.t.Errorf("the engine's key is of %v, want %s", got, want)
	}
}
