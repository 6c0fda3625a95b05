// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestCheckFindings has one row for each finding.
func TestCheckFindings(t *testing.T) {
	fill := func(v *testVault, user string, keys int) {
		for range keys {
			v.account.AddKey(cloudsim.KeySpec{User: user, Expires: time.Now().Add(day)})
		}
	}
	// asUser gives the engine a key of a user that may make only these calls.
	asUser := func(v *testVault, calls ...string) {
		v.account.AddUser("vault", calls...)
		v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault", Expires: time.Now().Add(day)})
		v.configure("ttl=10m")
	}
	findings := map[string]struct {
		prepare func(v *testVault)
		healthy bool
		parts   []string // of one finding
	}{
		"the engine's own key never expires": {
			func(v *testVault) {
				v.account.SetPolicy(cloudsim.Policy{})
				v.root = v.account.AddKey(cloudsim.KeySpec{})
				v.configure()
			}, true,
			[]string{"warning: the engine key", "never expires: write a key with an expiration date to config/default"},
		},
		"the engine's own key is under a third of its life": {
			func(v *testVault) { <-time.After(17 * time.Hour) }, true,
			[]string{"warning: the engine key", "in 7h0m0s", "write a new one to config/default"},
		},
		"the engine's own key was deleted": {
			func(v *testVault) { v.account.DeleteKey(v.root.AccessKey) }, false,
			[]string{"error: the cloud does not accept the engine key", "write a working one to config/default"},
		},
		"the engine's own key has expired": {
			func(v *testVault) { <-time.After(2 * day) }, false,
			[]string{"error: the cloud does not accept the engine key", "has not expired"},
		},
		"the engine's own key is of another cloud account": {
			func(v *testVault) { v.replaceConfig(func(c *accountConfig) { c.AccountID = "999999999999" }) }, false,
			[]string{"error: the engine key is of cloud account " + testAccountID, "999999999999", "write a key of the latter to config/default"},
		},
		"the engine cannot find out who it is": {
			func(v *testVault) {
				asUser(v, "api:ReadAccounts", "api:CreateAccessKey", "api:UpdateAccessKey", "api:DeleteAccessKey", "api:ReadAccessKeys",
					"api:ReadApiAccessPolicy")
			}, true,
			[]string{"warning: the engine cannot find out which user", "permit the calls ReadUsers"},
		},
		"the permission to read the account is missing": {
			func(v *testVault) {
				asUser(v, "api:*")
				v.account.AddUser("vault", "api:ReadAccessKeys", "api:ReadUsers", "api:ReadApiAccessPolicy")
			}, false,
			[]string{"error: permission missing", "ReadAccounts", "permit api:ReadAccounts"},
		},
		"the permission to list keys is missing": {
			func(v *testVault) {
				asUser(v, "api:*")
				v.account.AddUser("vault", "api:ReadAccounts", "api:ReadUsers", "api:ReadApiAccessPolicy")
			}, false,
			[]string{"error: permission missing", "ReadAccessKeys", "permit api:ReadAccessKeys"},
		},
		"the access policy cannot be read": {
			func(v *testVault) {
				asUser(v, "api:ReadAccounts", "api:ReadAccessKeys", "api:ReadUsers", "api:CreateAccessKey", "api:UpdateAccessKey",
					"api:DeleteAccessKey")
			}, true,
			[]string{"warning: the account's access policy is unknown", "permit the call ReadApiAccessPolicy"},
		},
		"the access policy bounds nothing": {
			func(v *testVault) { v.account.SetPolicy(cloudsim.Policy{}) }, true,
			[]string{"warning: the account's access policy sets no longest life", "set MaxAccessKeyExpirationSeconds"},
		},
		"the access policy leaves no useful lease": {
			func(v *testVault) { v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 90}) }, false,
			[]string{"error: the access policy lets a key live 1m30s", "raise MaxAccessKeyExpirationSeconds to 95", "expiry_grace"},
		},
		"the permission to create keys is missing": {
			func(v *testVault) {
				asUser(v, "api:*")
				v.account.AddUser("vault", "api:Read*", "api:UpdateAccessKey", "api:DeleteAccessKey")
			}, false,
			[]string{"error: permission missing", "CreateAccessKey", "permit api:CreateAccessKey to its user"},
		},
		"the permission to make users is missing, and a role makes them": {
			func(v *testVault) {
				asUser(v, "api:*")
				v.write("roles/maker", "credential_type=iam_user")
				v.account.AddUser("vault", "api:Read*", "api:CreateAccessKey", "api:UpdateAccessKey", "api:DeleteAccessKey", "api:DeleteUser")
			}, false,
			[]string{"error: permission missing", "CreateUser", "permit api:CreateUser to its user"},
		},
		"this machine's clock is behind the cloud's": {
			func(v *testVault) { v.sim.SetClockSkew(90 * time.Second) }, true,
			[]string{"warning: this machine's clock is 1m30s behind the cloud's, for which the dates of keys allow", "NTP"},
		},
		"this machine's clock is ahead of the cloud's": {
			func(v *testVault) { v.sim.SetClockSkew(-5 * time.Minute) }, true,
			[]string{"ahead of the cloud's, for which the dates of keys allow", "NTP"},
		},
		"a user is nearly full": {
			func(v *testVault) { fill(v, "app", 7); v.lease("app") }, true,
			[]string{`warning: user "app" has 8 of 10 (1 issued by this mount, 7 others) access keys`, "delete keys that nobody uses"},
		},
		"the engine's own identity is nearly full": {
			func(v *testVault) { fill(v, "", 7) }, true,
			[]string{"warning: the engine's own identity has 8 of 10", "delete keys that nobody uses"},
		},
		"a role has no free slot": {
			func(v *testVault) { fill(v, "app", 10) }, false,
			[]string{`error: role "app" cannot lease: no user of it has a free slot`, "add users to roles/app"},
		},
		"a role on the engine's own identity has none but the reserved ones": {
			func(v *testVault) {
				v.write("config/default", "allow_root_identity=true")
				v.write("roles/self", "ttl=10m", "own_identity=true")
				for range 8 {
					v.lease("self")
				}
			}, false,
			[]string{`error: role "self" cannot lease`, "roles/self"},
		},
		"foreign keys never expire": {
			func(v *testVault) { v.account.AddKey(cloudsim.KeySpec{User: "app"}) }, true,
			[]string{"warning: keys not created by this mount never expire: ", ` (user "app"): give each an expiration date or delete it`},
		},
		"a user of a role does not exist": {
			func(v *testVault) { v.write("roles/ghost", "user_names=app,ghost") }, false,
			[]string{`error: user "ghost" of role ghost does not exist`, "create it, or take it out of user_names"},
		},
		"a static role's user does not exist": {
			func(v *testVault) {
				v.account.AddUser("db")
				v.write("static-roles/db", "user_name=db", "rotation_period=1h")
				v.account.DeleteKey(v.read("static-creds/db")["access_key"].(string))
				v.account.DeleteUser("db")
			}, false,
			[]string{`error: user "db" of static role "db" does not exist`, "create it, or delete the static role"},
		},
		"a static role's next key has no slot": {
			func(v *testVault) {
				v.account.AddUser("db")
				v.write("static-roles/db", "user_name=db", "rotation_period=1h")
				fill(v, "db", 9)
			}, false,
			[]string{`error: static role "db" cannot be rotated`, "9 other access keys", "2 of 10 slots", "delete those that nobody uses"},
		},
		"the engine's next key has no slot": {
			func(v *testVault) { fill(v, "", 9) }, false,
			[]string{"error: the engine key cannot be rotated", "10 of 10", "delete one that nobody uses"},
		},
		"the cloud cannot be reached": {
			func(v *testVault) { v.sim.Order(cloudsim.Fault{Kind: cloudsim.RefuseConnection}) }, false,
			[]string{"error: the cloud cannot be reached", "check endpoint and certificates in config/default"},
		},
		"the account is locked": {
			func(v *testVault) { v.sim.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "13"}) }, false,
			[]string{"error: somebody's refused keys have locked the account's API", "no news of the engine key"},
		},
		"the cloud throttles": {
			func(v *testVault) { v.sim.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 429, Code: "24"}) }, false,
			[]string{"error: the cloud throttles the account", "lower max_requests_per_second in config/default"},
		},
		"the cloud fails": {
			func(v *testVault) { v.sim.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 500}) }, false,
			[]string{"error: a call failed (ReadUsers", "request id"},
		},
		"the cloud is too slow": {
			func(v *testVault) {
				v.write("roles/app", v.pool(20))
				v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})
			}, false,
			[]string{"error: the check did not end in time", "max_requests_per_second"},
		},
	}
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, finding := range findings {
		tests[name] = func(t *testing.T, v *testVault) {
			v.makeHealthy()
			finding.prepare(v)
			started := time.Now()
			check := v.read("check/default")
			if took := time.Since(started); took > issueBudget {
				t.Errorf("it took %s", took)
			}
			if check["healthy"] != finding.healthy {
				t.Errorf("healthy: %v", check["healthy"])
			}
			v.mustFind(check, finding.parts...)
		}
	}
	inBubble(t, tests)
}
