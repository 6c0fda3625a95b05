// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestUserLease(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a lease has a user of its own with all that the role says, and both go with it": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			v.mustFit(l, time.Minute)
			user := v.leasedUser(l)
			label, err := keylabel.FromPath(user.Path)
			if err != nil || label.Instance != v.read("info")["instance_id"] || label.Kind != keylabel.KindUser ||
				!strings.HasPrefix(user.Path, "/ci/cloudkeys/") {
				t.Errorf("got the path %s (%v)", user.Path, err)
			}
			if key, _ := v.key(l.AccessKey()); key.User != user.Name || key.Tag != label.String() {
				t.Errorf("got %+v", key)
			}
			slices.Sort(user.Groups)
			if len(user.Linked) != 3 || user.Inline["cloudkeys"] != testDocument ||
				!slices.Equal(user.Groups, []string{"/ci/builders", "/readers"}) {
				t.Errorf("got %+v", user)
			}
			if !strings.HasPrefix(user.Name, "vault-job-") || l.Secret.InternalData["secret_type"] != "cloudkeys_iam_user" {
				t.Errorf("got the name %s in a lease of type %v", user.Name, l.Secret.InternalData["secret_type"])
			}
			v.invariant()
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"the ledger says who asked, and whose user it is": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			entry := v.read("keys/" + l.AccessKey())
			for field, want := range map[string]any{"kind": "user", "user_name": l.Data["user_name"], "role": "job", "accessor": "accessor-1"} {
				if entry[field] != want {
					t.Errorf("%s: got %v, want %v", field, entry[field], want)
				}
			}
		},
		"the leased key may do what the policies allow and nothing else": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			config := v.accountConfig().access()
			config.Base = v.base
			config.AccessKey, config.SecretKey = l.AccessKey(), provider.Secret(l.Data["secret_key"].(string))
			client, err := clouds.Open(config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.OwnKey(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := client.CreateKey(t.Context(), provider.KeySpec{}); provider.KindOf(err) != provider.KindDenied {
				t.Errorf("a key with read rights alone makes keys: %v", err)
			}
			v.mustRevoke(l)
			if _, err := client.OwnKey(t.Context()); err == nil {
				t.Error("the key works after its revocation")
			}
		},
		"an issue costs two calls, one a right, and two storage writes": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.mustRevoke(v.lease("job")) // the first also makes the instance id
			v.sim.ResetCalls()
			v.storage.writes = 0
			v.lease("job")
			if n := len(v.sim.Calls()); n != 2+3+1+2 {
				t.Errorf("%d calls", n)
			}
			if v.storage.writes != 2 {
				t.Errorf("%d storage writes", v.storage.writes)
			}
		},
		"an issue takes three round trips, however many rights": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.order(cloudsim.Fault{Kind: cloudsim.DelayAnswer, Delay: 20 * time.Millisecond})
			started := time.Now()
			v.lease("job")
			if took := time.Since(started); took > 60*time.Millisecond {
				t.Errorf("it took %s", took)
			}
		},
		"many leases at a time are many users": func(t *testing.T, v *testVault) {
			v.configureUsers()
			errs := make(chan error)
			for range 20 {
				go func() {
					_, err := v.request(t.Context(), logical.ReadOperation, "creds/job")
					errs <- err
				}()
			}
			for range 20 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			v.mustHaveUsers(20)
			v.mustHaveLedger(20)
		},
		"a lease is renewed with one call, its key follows, and its end takes all": func(t *testing.T, v *testVault) {
			v.configureUsers("max_ttl=1h")
			l := v.lease("job")
			for range 6 {
				v.advance(9 * time.Minute)
				v.sim.ResetCalls()
				if err := v.renew(l, 0); err != nil {
					t.Fatal(err)
				}
				if n := len(v.sim.Calls()); n != 1 {
					t.Errorf("%d calls", n)
				}
				v.mustFit(l, time.Minute)
			}
			v.advance(15 * time.Minute)
			v.mustBeClean()
		},
		"revoking twice is a success": func(_ *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			v.mustRevoke(l)
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"a user that somebody deleted is a success at revoke, and said so at renew": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			v.settleNew()
			v.account.DeleteUser(v.leasedUser(l).Name)
			if err := v.renew(l, 0); err == nil {
				t.Error("renewed")
			} else {
				mustHold(t, err.Error(), "no longer exists", "revoke this lease")
			}
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"somebody else's user that has the name meanwhile is not touched": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			name := v.leasedUser(l).Name
			v.settleNew()
			v.account.DeleteUser(name)
			foreign := v.account.AddKey(cloudsim.KeySpec{User: name})
			v.mustRevoke(l)
			if _, there := v.key(foreign.AccessKey); !there {
				t.Error("the foreign user's key is gone")
			}
			v.mustBeClean()
		},
		"keys that the leased key made for itself go too": func(_ *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			v.account.AddKey(cloudsim.KeySpec{User: v.leasedUser(l).Name, Tag: "cloudkeys-more"})
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"a revoke whose ledger entry is gone finds the user by its label": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			if err := remove(t.Context(), v.storage, v.entryPath(l.AccessKey())); err != nil {
				t.Fatal(err)
			}
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"a lease that Vault forgot is reaped with its user": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.lease("job")
			v.leases = nil
			v.advance(10 * time.Minute)
			if n := len(v.ourUsers()); n != 1 {
				t.Errorf("%d users before the key's date", n)
			}
			v.advance(time.Minute + 2*rollbackPeriod)
			v.mustBeClean()
		},
		"a late revoke needs no cloud call, and the reaper removes key and user": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			<-time.After(2 * time.Hour) // Vault was sealed
			v.sim.ResetCalls()
			v.mustRevoke(l)
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d calls", n)
			}
			v.advance(2 * rollbackPeriod)
			v.mustBeClean()
		},
		"a user that comes too late for its lease is taken back": func(t *testing.T, v *testVault) {
			v.configureUsers()
			defer v.order(cloudsim.Fault{Op: "LinkPolicy", Kind: cloudsim.DelayAnswer, Delay: 12 * time.Second})()
			if _, err := v.tryLease(t.Context(), "job", "ttl=5s"); err == nil {
				t.Error("leased")
			}
			v.mustBeClean()
		},
		"a client that hangs up leaves nothing": func(t *testing.T, v *testVault) {
			v.configureUsers()
			for _, op := range []string{"CreateUser", "LinkPolicy", "CreateAccessKey"} {
				ctx, hangUp := context.WithCancel(t.Context())
				cancel := v.order(cloudsim.Fault{Op: op, Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})
				go func() {
					<-time.After(2 * time.Second)
					hangUp()
				}()
				if _, err := v.tryLease(ctx, "job"); err == nil {
					t.Fatal("leased")
				}
				cancel()
				v.advance(begunAge + 2*rollbackPeriod)
				v.mustBeClean()
			}
		},
		"they count towards max_active_keys": func(_ *testing.T, v *testVault) {
			v.configureUsers("max_active_keys=2")
			l := v.lease("job")
			v.lease("job")
			v.mustRefuse(logical.ReadOperation, "creds/job", nil, "max_active_keys is 2")
			v.mustRevoke(l)
			v.lease("job")
		},
		"a leaked key is killed with its user, and the lease ends without fuss": func(_ *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			v.kill(l)
			v.mustHaveUsers(0)
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"an account whose users are leased cannot be deleted": func(_ *testing.T, v *testVault) {
			v.configureUsers()
			v.lease("job")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use (1 leased access keys)")
		},
		"a lease outlives its role and its account's template": func(t *testing.T, v *testVault) {
			v.configureUsers()
			l := v.lease("job")
			resp, err := v.try(logical.DeleteOperation, "roles/job")
			v.mustSucceed("delete", resp, err)
			v.write("config/default", "username_template=other-{{ random 20 }}")
			v.advance(5 * time.Minute)
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"the display name can stand in the user's name": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.write("config/default", "username_template={{ .DisplayName }}.{{ .RoleName }}.{{ random 10 }}")
			if name := v.leasedUser(v.lease("job")).Name; !strings.HasPrefix(name, "token-1.job.") {
				t.Errorf("got %s", name)
			}
		},
	})
}

// userSpecOf is the user that an entry was written for.
func userSpecOf(p *ledger.Entry) provider.UserSpec {
	return provider.UserSpec{Name: p.User, Path: "/", Label: p.Label}
}
