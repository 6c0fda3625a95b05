// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a healthy account has no findings, and the plain facts": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.lease("app")
			v.account.AddKey(cloudsim.KeySpec{User: "app", Expires: time.Now().Add(day)})
			check := v.read("check/default")
			for field, want := range map[string]any{
				"healthy": true, "account_id": testAccountID, "identity": "root", "user_name": "", "access_key": v.root.AccessKey, "key_active": true,
				"policy_known": true, "max_access_key_expiration_seconds": int64(86400), "effective_max_ttl": int64(86335), "limited_by": "policy",
				"clock_skew": int64(0), "key_expiration": showTime(time.Now().Add(day)), "key_created": showTime(time.Now()),
			} {
				if check[field] != want {
					t.Errorf("%s: got %v, want %v", field, check[field], want)
				}
			}
			if found := check["findings"].([]string); len(found) != 0 {
				t.Errorf("%v", found)
			}
			counts := strings.Join(check["key_counts"].([]string), "; ")
			mustHold(t, counts, "engine's own identity: 1 of 10 (the engine key, 0 issued by this mount, 0 others)",
				"app: 2 of 10 (1 issued by this mount, 1 others)")
		},
		"it changes nothing in the cloud": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.sim.ResetCalls()
			v.read("check/default")
			for _, call := range v.sim.Calls() {
				if !strings.HasPrefix(call.Op, "Read") && !strings.Contains(string(call.Body), `"DryRun":true`) {
					t.Errorf("it calls %s", call.Op)
				}
			}
		},
		"permissions are asked for once each, and only those that the roles need": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.write("roles/maker", "credential_type=iam_user", "policy_document="+testDocument)
			v.sim.ResetCalls()
			if check := v.read("check/default"); check["healthy"] != true {
				t.Errorf("%v", check["findings"])
			}
			tried := []string{}
			for _, call := range v.sim.Calls() {
				if strings.Contains(string(call.Body), `"DryRun":true`) {
					tried = append(tried, call.Op)
				}
			}
			want := "CreateAccessKey UpdateAccessKey DeleteAccessKey ReadUsers CreateUser DeleteUser ReadUserPolicies ReadLinkedPolicies " +
				"ReadUserGroupsPerUser PutUserPolicy DeleteUserPolicy"
			if got := strings.Join(tried, " "); got != want {
				t.Errorf("got %s", got)
			}
			if n := len(v.account.Users()); n != 1 {
				t.Errorf("%d users", n)
			}
		},
		"every kind of right that a role gives has its permissions": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.account.AddGroup("/", "builders")
			orn := v.account.AddPolicy("deploy")
			v.write("config/other", v.accountFields()...)
			v.write("roles/elsewhere", "account=other", "credential_type=iam_user", "policy_document="+testDocument)
			v.write("roles/linked", "credential_type=iam_user", "policy_orns="+orn)
			for right, want := range map[string]string{
				"policy_orns=" + orn: "LinkPolicy UnlinkPolicy",
				"groups=builders":    "AddUserToUserGroup RemoveUserFromUserGroup",
			} {
				v.write("roles/linked", "policy_orns=", "groups=")
				v.write("roles/linked", right)
				v.sim.ResetCalls()
				v.read("check/default")
				tried := []string{}
				for _, call := range v.sim.Calls() {
					changes := !strings.HasPrefix(call.Op, "Read") && (strings.HasSuffix(call.Op, "Policy") || strings.HasSuffix(call.Op, "UserGroup"))
					if changes && strings.Contains(string(call.Body), `"DryRun":true`) {
						tried = append(tried, call.Op)
					}
				}
				if got := strings.Join(tried, " "); got != want {
					t.Errorf("%s: got %s", right, got)
				}
			}
		},
		"a clock within the margin is not spoken of": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.sim.SetClockSkew(4 * time.Second)
			check := v.read("check/default")
			if found := check["findings"].([]string); len(found) != 0 || check["clock_skew"] != int64(4) {
				t.Errorf("%v, %v", check["clock_skew"], found)
			}
		},
		"a refused key costs two calls at most, and does not lock the account": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.account.DeleteKey(v.root.AccessKey)
			v.sim.ResetCalls()
			for range 5 {
				v.read("check/default")
			}
			if n := len(v.sim.Calls()); n > 2 {
				t.Errorf("%d calls", n)
			}
			if v.account.Locked() {
				t.Error("locked")
			}
		},
		"a policy seen by the check counts for the next lease": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.read("check/default")
			if longest := v.read("roles/app")["effective_max_ttl"]; longest != int64(835) {
				t.Errorf("effective_max_ttl %v", longest)
			}
		},
		"a check of a pool with a free user is healthy": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.account.AddUser("app2")
			v.write("roles/app", "user_names=app,app2")
			for range 10 {
				v.account.AddKey(cloudsim.KeySpec{User: "app", Expires: time.Now().Add(day)})
			}
			if check := v.read("check/default"); check["healthy"] != true {
				t.Errorf("%v", check["findings"])
			}
		},
		"a static role has room for its next key in the last slot": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.account.AddUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=1h")
			for range 8 {
				v.account.AddKey(cloudsim.KeySpec{User: "db", Expires: time.Now().Add(day)})
			}
			if check := v.read("check/default"); check["healthy"] != true {
				t.Errorf("%v", check["findings"])
			}
		},
		"a role that makes users needs no slot of the engine's own identity": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.write("roles/maker", "credential_type=iam_user")
			for range 8 {
				v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(day)})
			}
			if check := v.read("check/default"); check["healthy"] != true {
				t.Errorf("%v", check["findings"])
			}
			v.mustRevoke(v.lease("maker"))
		},
		"an expired key that cannot be removed has ended all the same": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			l := v.lease("app")
			v.leases = nil
			cancel := v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 500})
			v.advance(12*time.Minute + 2*rollbackPeriod)
			cancel()
			if entry, err := v.backend.findKey(t.Context(), v.storage, l.AccessKey()); err != nil || entry == nil || entry.Problem == "" {
				t.Fatalf("the reaper did not fail: %v, %v", entry, err)
			}
			if found := v.read("check/default")["findings"].([]string); len(found) != 0 {
				t.Errorf("%v", found)
			}
		},
		"an account that is not configured is refused": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.ReadOperation, "check/nope", nil, `account "nope" is not configured`)
		},
		"a standby forwards it": func(t *testing.T, v *testVault) {
			v.makeHealthy()
			v.system.become(consts.ReplicationPerformanceStandby)
			if _, err := v.try(logical.ReadOperation, "check/default"); !errors.Is(err, logical.ErrReadOnly) {
				t.Errorf("%v", err)
			}
		},
	})
}
