// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a read shows what the cloud said of the key, and no secret": func(t *testing.T, v *testVault) {
			v.configure()
			config := v.read("config/default")
			if config["account_id"] != testAccountID || config["identity"] != "root" || config["access_key"] != v.root.AccessKey {
				t.Errorf("%v", config)
			}
			for field, value := range config {
				if value == v.root.SecretKey {
					t.Errorf("%s is the secret", field)
				}
			}
		},
		"fields that are not given keep their value": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "max_ttl=2h")
			v.write("config/default", "expiry_grace=30s")
			config := v.read("config/default")
			if config["max_ttl"] != int64(7200) || config["expiry_grace"] != int64(30) || config["region"] != testRegion {
				t.Errorf("%v", config)
			}
		},
		"an account can get a new key of the same cloud account while leases live": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", "access_key="+v.root.AccessKey, "secret_key="+v.root.SecretKey)
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"an account in use cannot be pointed at another cloud account, nor deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			other := v.sim.AddAccount("999999999999").RootKey()
			fields := []string{"access_key=" + other.AccessKey, "secret_key=" + other.SecretKey}
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, "in use (1 leased access keys)", "999999999999", testAccountID)
			v.mustRefuse(logical.UpdateOperation, "config/default", append(fields, "verify=false"), "in use", "verify=false")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use", "cannot be revoked")
			if err := v.renew(l, 0); err != nil {
				t.Errorf("the lease is harmed: %v", err)
			}
			v.mustRevoke(l)
			v.write("config/default", fields...)
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete", resp, err)
		},
		"leases of the engine's own identity that have ended by their date keep no other user's key out: where the former key is gone, nobody " +
			"could revoke them": func(_ *testing.T, v *testVault) {
			given := func(user string) []string {
				v.account.AddUser(user, "api:*")
				v.root = v.account.AddKey(cloudsim.KeySpec{User: user})
				return append(v.accountFields(), "allow_root_identity=true")
			}
			v.write("config/default", given("vault")...)
			v.write("roles/own", "own_identity=true", "ttl=10m")
			l := v.lease("own")
			v.account.DeleteKey(v.root.AccessKey)
			fields := given("ops")
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, "1 leased access keys of the engine's own identity")
			v.restart() // the client that comes has never called the cloud, and does not know its clock
			<-time.After(time.Until(l.Expires) + time.Hour)
			v.write("config/default", fields...)
			v.settle(2 * time.Hour)
			v.mustHaveLedger(0)
		},
		"a performance primary points an account elsewhere with force alone, since it does not see the leases of its secondaries": func(
			t *testing.T, v *testVault,
		) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.becomePrimary()
			other := v.sim.AddAccount("999999999999")
			other.SetLogin("other@example.com", testPassword)
			elsewhere := [][]string{
				{"access_key=" + other.RootKey().AccessKey, "secret_key=" + other.RootKey().SecretKey},
				{"access_key=" + v.root.AccessKey, "secret_key=" + v.root.SecretKey, "verify=false"},
				{"region=" + testRegion, "login=other@example.com", "password=" + testPassword},
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", append(slices.Clone(elsewhere[0]), "force=true"), "in use")
			v.mustRevoke(l)
			for _, fields := range elsewhere {
				before := v.accountConfig()
				v.mustRefuse(logical.UpdateOperation, "config/default", fields, `account "default"`, "each secondary", "force=true")
				if after := v.accountConfig(); after.AccessKey != before.AccessKey || after.AccountID != before.AccountID {
					t.Errorf("refused, and it is %s of %s", after.AccessKey, after.AccountID)
				}
				warnings := v.write("config/default", append(slices.Clone(fields), "force=true")...)
				mustHold(t, strings.Join(warnings, "\n"), "secondaries", `account "default"`)
			}
			v.mustHaveNoFirstKeys()
		},
		"so it gives another user's key to one that leases its own identity": func(t *testing.T, v *testVault) {
			v.account.AddUser("ops", "api:*")
			users := v.account.AddKey(cloudsim.KeySpec{User: "ops"})
			changed := []string{"access_key=" + users.AccessKey, "secret_key=" + users.SecretKey}
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/own", "own_identity=true", "ttl=10m")
			l := v.lease("own")
			v.becomePrimary()
			v.mustRefuse(logical.UpdateOperation, "config/default", append(slices.Clone(changed), "force=true"), "in use")
			v.mustRevoke(l)
			for _, allowed := range []string{"true", "false"} { // the secondaries have leased while it was
				v.write("config/default", "allow_root_identity="+allowed)
				v.mustRefuse(logical.UpdateOperation, "config/default", changed, "each secondary", "force=true")
			}
			warnings := v.write("config/default", append(slices.Clone(changed), "force=true")...)
			mustHold(t, strings.Join(warnings, "\n"), "secondaries", "the engine's own identity", `account "default"`)
		},
		"it needs none to change anything else": func(t *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			v.becomePrimary()
			another := v.account.AddKey(cloudsim.KeySpec{})
			for _, fields := range [][]string{
				v.accountFields(), // which says whose the key is
				{"max_ttl=2h"},
				{"access_key=" + another.AccessKey, "secret_key=" + another.SecretKey},
				append(v.signInFields(), "force=true"),
			} {
				if warnings := strings.Join(v.write("config/default", fields...), "\n"); strings.Contains(warnings, "secondaries") {
					t.Errorf("%v: %s", fields, warnings)
				}
			}
		},
		"on other nodes force changes nothing of a write": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			other := v.sim.AddAccount("999999999999").RootKey()
			fields := []string{"access_key=" + other.AccessKey, "secret_key=" + other.SecretKey, "force=true"}
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, "in use")
			v.mustRevoke(l)
			if warnings := strings.Join(v.write("config/default", fields...), "\n"); strings.Contains(warnings, "secondaries") {
				t.Error(warnings)
			}
		},
		"a primary that points the account elsewhere cannot make a secondary lose its keys": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			l := v.lease("app")
			forgotten := v.lease("app")
			v.leases = []*testLease{l}
			v.leaveBegun()
			v.replaceConfig(func(c *accountConfig) {
				other := v.sim.AddAccount("999999999999")
				c.AccessKey, c.SecretKey, c.AccountID = other.RootKey().AccessKey, other.RootKey().SecretKey, "999999999999"
			})
			if err := v.revoke(l); err == nil {
				t.Error("revoked")
			} else {
				mustHold(t, err.Error(), testAccountID, "999999999999")
			}
			if err := v.renew(l, 0); err == nil {
				t.Error("renewed")
			}
			v.settle(time.Hour)
			v.mustHaveLedger(2)
			mustHold(t, v.read("keys/" + forgotten.AccessKey())["problem"].(string), "999999999999")
			if ids := v.begun(); len(ids) != 1 {
				t.Errorf("%d entries are begun: the one of the other account must wait", len(ids))
			}
		},
		"a user that another account does not have is not taken for one that is gone": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			v.replaceConfig(func(c *accountConfig) {
				other := v.sim.AddAccount("999999999999")
				c.AccessKey, c.SecretKey = other.RootKey().AccessKey, other.RootKey().SecretKey
			})
			v.settle(10 * time.Minute)
			if ids := v.begun(); len(ids) != 1 {
				t.Errorf("%d entries are begun", len(ids))
			}
		},
		"the entry of an unfinished request goes too where its user is gone": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			v.account.DeleteUser("app")
			v.settle(10 * time.Minute)
			v.mustHaveNothingBegun()
		},
		"an account with unfinished requests is in use as well": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RefuseConnection})
			_, _ = v.tryLease(t.Context(), "app")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "still being cleaned up")
		},
		"accounts are listed and deleted": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/second", v.accountFields()...)
			resp, err := v.try(logical.ListOperation, "config/")
			v.mustSucceed("list", resp, err)
			if got := strings.Join(resp.Data["keys"].([]string), ","); got != "default,second" {
				t.Errorf("%s", got)
			}
			resp, err = v.try(logical.ListOperation, "config/", "after=default", "limit=1")
			v.mustSucceed("list", resp, err)
			if got := strings.Join(resp.Data["keys"].([]string), ","); got != "second" {
				t.Errorf("the page after default: %s", got)
			}
			resp, err = v.try(logical.DeleteOperation, "config/second")
			v.mustSucceed("delete", resp, err)
			if resp, _ := v.try(logical.ReadOperation, "config/second"); resp != nil {
				t.Error("still there")
			}
		},
		"a change on another node is noticed": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.replaceConfig(func(c *accountConfig) { c.MaxTTL = time.Minute })
			if l := v.lease("app"); l.Expires.Sub(l.IssueTime) != time.Minute {
				t.Errorf("a lease of %s", l.Expires.Sub(l.IssueTime))
			}
		},
		"what will surprise is said at once": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Hour)
			warnings := strings.Join(v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...), "\n")
			mustHold(t, warnings, "own access key expires at", "rotated automatically from", "20m0s", "allow_root_identity")
			mustHold(t, strings.Join(v.write("roles/app", "user_names=app", "max_ttl=9000h"), "\n"), "cut to 768h0m0s", "mount")
		},
	})
}
