// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// step is a thing that operators and clients do with an engine.
type step struct {
	name string
	do   func() error
}

// TestTheEnginesPoliciesAreEnoughAndNoMore takes the engine through its life with a user that
// has the rights of docs/examples/policies and no others. Then each right is taken away, and
// the step named beside it must fail.
func TestTheEnginesPoliciesAreEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	contract.New(t)
	for name, test := range map[string]struct {
		files  []string
		mount  func(t *testing.T, rights []string) *testVault
		life   func(v *testVault) []step
		breaks map[string]string // step by right
	}{
		"OUTSCALE, keys of users that exist": {
			[]string{"outscale-engine.json"}, mountAsEIMUser, lifeOfKeys, map[string]string{
				"api:CreateAccessKey": "lease", "api:UpdateAccessKey": "renew", "api:DeleteAccessKey": "revoke",
				"api:ReadAccessKeys": "write the account", "api:ReadAccounts": "write the account",
				"api:ReadApiAccessPolicy": "rotate the engine's key", "api:ReadUsers": "check",
			},
		},
		"OUTSCALE, users of their own": {
			[]string{"outscale-engine.json", "outscale-engine-users.json"}, mountAsEIMUser, lifeOfUsers, map[string]string{
				"api:CreateAccessKey": "lease", "api:UpdateAccessKey": "renew", "api:DeleteAccessKey": "revoke",
				"api:ReadAccessKeys": "write the account", "api:ReadAccounts": "write the account",
				"api:ReadApiAccessPolicy": "rotate the engine's key", "api:ReadUsers": "revoke",
				"api:CreateUser": "lease", "api:PutUserPolicy": "lease", "api:LinkPolicy": "lease", "api:AddUserToUserGroup": "lease",
				"api:DeleteUser": "revoke", "api:ReadUserPolicies": "revoke", "api:DeleteUserPolicy": "revoke",
				"api:ReadLinkedPolicies": "revoke", "api:UnlinkPolicy": "revoke",
				"api:ReadUserGroupsPerUser": "revoke", "api:RemoveUserFromUserGroup": "revoke",
			},
		},
		"Huawei Cloud": {
			[]string{"huawei-engine.json"}, mountAsIAMUser, lifeInHuawei, map[string]string{
				"iam:credentials:createCredential": "lease", "iam:credentials:updateCredential": "renew", "iam:credentials:deleteCredential": "revoke",
				"iam:credentials:listCredentials": "tidy", "iam:users:listUsers": "lease",
				"iam:tokens:assume":    "lease a session",
				"iam:users:createUser": "lease a user", "iam:groups:listGroups": "lease a user", "iam:permissions:addUserToGroup": "lease a user",
				"iam:users:getUser": "revoke a user", "iam:users:deleteUser": "revoke a user",
				"iam:groups:listGroupsForUser": "revoke a user", "iam:permissions:removeUserFromGroup": "revoke a user",
			},
		},
	} {
		rights := rightsOf(t, test.files...)
		t.Run(name+": the rights are enough", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if broken := lived(test.life(test.mount(t, rights))); len(broken) > 0 {
					t.Errorf("broken: %v", broken)
				}
			})
		})
		if len(test.breaks) != len(rights) {
			t.Errorf("%s: %d rights, and %d steps that need one", name, len(rights), len(test.breaks))
		}
		for _, right := range rights {
			t.Run(name+": without "+right, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					left := slices.DeleteFunc(slices.Clone(rights), func(other string) bool { return other == right })
					broken := lived(test.life(test.mount(t, left)))
					if want := test.breaks[right]; broken[want] == nil {
						t.Errorf("%q should fail; broken: %v", want, broken)
					}
				})
			})
		}
	}
}

// lived are the errors of the steps that failed.
func lived(steps []step) map[string]error {
	broken := map[string]error{}
	for _, s := range steps {
		if err := s.do(); err != nil {
			broken[s.name] = err
		}
	}
	return broken
}

// rightsOf are the actions that policy files allow.
func rightsOf(t *testing.T, files ...string) []string {
	t.Helper()
	var rights []string
	for _, file := range files {
		raw, err := os.ReadFile("../docs/examples/policies/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var policy struct{ Statement []struct{ Action []string } }
		if err := json.Unmarshal(raw, &policy); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, statement := range policy.Statement {
			rights = append(rights, statement.Action...)
		}
	}
	return rights
}

// mountAsEIMUser has an engine whose EIM user may make only these calls, in an account with
// an access policy.
func mountAsEIMUser(t *testing.T, rights []string) *testVault {
	t.Helper()
	v := newTestVault(t)
	v.account.AddUser("vault", rights...)
	v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: int64(30 * day / time.Second)})
	v.account.DeleteKey(v.account.RootKey().AccessKey)
	v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault", Expires: time.Now().Add(20 * day)})
	return v
}

func mountAsIAMUser(t *testing.T, rights []string) *testVault {
	t.Helper()
	v := newHuaweiVault(t)
	v.domain.AddUser("vault", rights...)
	return v
}

func (v *testVault) writeAccount() step {
	fields := v.accountFields()
	if v.domain != nil {
		fields = append(fields, "max_ttl=24h", "rotation_period=168h") // which the cloud does not bound
	}
	return v.ask("write the account", logical.UpdateOperation, "config/default", fields...)
}

// leaseSteps lease, renew and revoke; a lease that is not given cannot be renewed.
func (v *testVault) leaseSteps(role string) []step {
	var l *testLease
	return []step{
		{"lease", func() (err error) { l, err = v.tryLease(v.t.Context(), role); return err }},
		{"renew", func() error {
			if l == nil {
				return nil
			}
			return v.renew(l, 20*time.Minute)
		}},
		{"revoke", func() error {
			if l == nil {
				return nil
			}
			return v.revoke(l)
		}},
	}
}

// accountSteps are the part of every life that is about the account itself.
func (v *testVault) accountSteps() []step {
	former := v.root.AccessKey
	return []step{
		v.ask("read the policy", logical.UpdateOperation, "policy/default"),
		v.ask("rotate the engine's key", logical.UpdateOperation, "rotate-root/default"),
		{"end the engine's former key", func() error {
			v.settle(begunAge + lifetime.RotationOverlap + 3*rollbackPeriod)
			if _, there := v.key(former); there {
				return errors.New("it is still there")
			}
			return nil
		}},
		{"tidy", func() error {
			id := v.orphan("app")
			if err := failure(v.try(logical.UpdateOperation, "tidy")); err != nil {
				return err
			}
			v.settle(10 * time.Minute)
			if _, there := v.key(id); there {
				return errors.New("the orphan is still there")
			}
			return nil
		}},
		{"check", func() error {
			resp, err := v.try(logical.ReadOperation, "check/default")
			if err := failure(resp, err); err != nil {
				return err
			}
			if findings := resp.Data["findings"].([]string); len(findings) > 0 {
				return errors.New(strings.Join(findings, "; "))
			}
			return nil
		}},
	}
}

// deleteSteps end a leased key by the ledger's path.
func (v *testVault) deleteSteps(role string) []step {
	return []step{{"delete a leased key", func() error {
		l, err := v.tryLease(v.t.Context(), role)
		if err != nil {
			return nil // the step that leases says so
		}
		if err := failure(v.try(logical.DeleteOperation, "keys/"+l.AccessKey())); err != nil {
			return err
		}
		return v.revoke(l)
	}}}
}

// staticSteps are a static role's life.
func (v *testVault) staticSteps() []step {
	return []step{
		v.ask("write a static role", logical.UpdateOperation, "static-roles/db", "user_name=db", "rotation_period=24h"),
		v.ask("rotate a static role", logical.UpdateOperation, "rotate-role/db"),
		v.ask("delete a static role", logical.DeleteOperation, "static-roles/db"),
	}
}

// endSteps find what is left when all leases and roles are gone.
func (v *testVault) endSteps() []step {
	return []step{{"leave nothing behind", func() error {
		v.settle(begunAge + 10*time.Minute)
		for _, key := range v.liveKeys() {
			if key.User != "vault" {
				return fmt.Errorf("access key %s of %s", key.ID, key.User)
			}
		}
		if users := v.ourUsers(); len(users) > 0 {
			return fmt.Errorf("the users %v", users)
		}
		return nil
	}}}
}

func lifeOfKeys(v *testVault) []step {
	v.addUser("db")
	return slices.Concat(
		[]step{
			v.writeAccount(),
			v.ask("write the role", logical.UpdateOperation, "roles/app", "user_names=app", "ttl=10m"),
		},
		v.leaseSteps("app"), v.staticSteps(), v.deleteSteps("app"), v.accountSteps(), v.endSteps(),
	)
}

func lifeOfUsers(v *testVault) []step {
	orn := v.account.AddPolicy("ci", "api:ReadVms")
	v.account.AddGroup("/", "readers")
	return slices.Concat(
		[]step{
			v.writeAccount(),
			v.ask("write the role", logical.UpdateOperation, "roles/job", "credential_type=iam_user", "ttl=10m",
				"policy_document="+testDocument, "policy_orns="+orn, "groups=readers"),
			v.ask("write another role", logical.UpdateOperation, "roles/app", "user_names=app", "ttl=10m"),
		},
		v.leaseSteps("job"), v.deleteSteps("job"), v.accountSteps(), v.endSteps(),
	)
}

func lifeInHuawei(v *testVault) []step {
	v.domain.AddGroup("readers")
	v.domain.AddAgency("deployers", v.domain, "ecs:*")
	// Each needs a name of its own: that of a step that failed is the result.
	users := []step{v.ask("write the role of users", logical.UpdateOperation, "roles/job", "credential_type=iam_user", "ttl=10m",
		"groups=readers")}
	for _, s := range v.leaseSteps("job") {
		users = append(users, step{s.name + " a user", s.do})
	}
	keys := lifeOfKeys(v)
	return slices.Concat(keys[:5], users,
		[]step{
			v.ask("write the role of sessions", logical.UpdateOperation, "roles/session", "credential_type=session_token",
				"agency_name=deployers", "ttl=15m"),
			v.ask("lease a session", logical.ReadOperation, "creds/session"),
		},
		keys[5:])
}
