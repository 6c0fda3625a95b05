// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestUserOrphans plants users that carry a label and that nobody knows.
func TestUserOrphans(t *testing.T) {
	orphan := func(v *testVault, name, instance string) {
		v.t.Helper()
		cloud, err := v.backend.open(v.accountConfig().access())
		if err != nil {
			v.t.Fatal(err)
		}
		label := keylabel.New(instance, keylabel.KindUser).String()
		user, err := cloud.CreateUser(v.t.Context(), provider.UserSpec{Name: name, Path: "/", Label: label})
		if err == nil {
			err = cloud.GrantUser(v.t.Context(), user, provider.Rights{Document: testDocument, Groups: []string{"readers"}})
		}
		if err != nil {
			v.t.Fatal(err)
		}
		v.account.AddKey(cloudsim.KeySpec{User: name, Tag: label})
	}
	there := func(v *testVault, name string) bool {
		_, there := v.account.User(name)
		return there
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"an orphan of this mount is found and removed within a day, with all that hangs on it": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.mustRevoke(v.lease("job"))
			orphan(v, "lost", v.read("info")["instance_id"].(string))
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			if there(v, "lost") {
				t.Error("the orphan lives on")
			}
			v.mustBeClean()
		},
		"tidy finds it now, and a dry run only tells": func(_ *testing.T, v *testVault) {
			v.configureUsers()
			v.mustRevoke(v.lease("job"))
			orphan(v, "lost", v.read("info")["instance_id"].(string))
			v.tidy("dry_run=true")
			v.mustTidied(tidyDone, nil, "orphans_found", "user lost", "orphans_removed", "")
			v.mustHaveUsers(1)
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_found", "user lost", "orphans_removed", "user lost")
			v.mustHaveUsers(0)
		},
		"two accounts of one mount that are the same cloud account do not take each other's users for orphans": func(t *testing.T, v *testVault) {
			v.configureUsers("ttl=100h")
			v.write("config/second", v.accountFields()...)
			l := v.lease("job")
			v.settle(2 * reconcilePeriod)
			if _, there := v.key(l.AccessKey()); !there {
				t.Error("a leased user was removed")
			}
		},
		"so it is when no role is left": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.mustRevoke(v.lease("job"))
			resp, err := v.try(logical.DeleteOperation, "roles/job")
			v.mustSucceed("delete", resp, err)
			orphan(v, "lost", v.read("info")["instance_id"].(string))
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			if there(v, "lost") {
				t.Error("the orphan lives on")
			}
		},
		"leased users, other mounts' users and people are never touched": func(t *testing.T, v *testVault) {
			v.configureUsers("ttl=100h")
			l := v.lease("job")
			orphan(v, "other-mount", keylabel.NewID())
			v.settle(3 * day)
			for _, name := range []string{v.leasedUser(l).Name, "other-mount", "app"} {
				if !there(v, name) {
					t.Errorf("%s was removed", name)
				}
			}
		},
		"a user whose issue is under way is no orphan: the ledger knows it from before its create": func(t *testing.T, v *testVault) {
			for _, op := range []string{"CreateUser", "LinkPolicy", "CreateAccessKey", "ReadUsers"} {
				v.configureUsers()
				v.mustRevoke(v.lease("job"))
				cancel := v.order(cloudsim.Fault{Op: op, Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})
				after := time.Second
				if op == "ReadUsers" {
					after = 0
				}
				removed := v.compareIn(after, usersIdentity)
				l := v.lease("job")
				if names := <-removed; len(names) != 0 {
					t.Errorf("%s: removed %v", op, names)
				}
				cancel()
				v.mustHaveUsers(1)
				v.mustRevoke(l)
			}
		},
		"an engine that may not list users goes on with its other work": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:ReadAccounts", "api:ReadAccessKeys", "api:CreateAccessKey", "api:UpdateAccessKey",
				"api:DeleteAccessKey", "api:ReadApiAccessPolicy")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure()
			for range 2 * 24 * 60 {
				<-time.After(rollbackPeriod)
				if err := v.tick(); err != nil {
					t.Fatal(err)
				}
			}
			if n := v.countCalls("ReadUsers"); n > 6 { // at the write, and each day for the comparison and for whose the key is
				t.Errorf("%d attempts to list users", n)
			}
		},
	})
}
