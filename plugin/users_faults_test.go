// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// userSteps are the calls that an issue makes, and userRemovals those of a clean-up.
var (
	userSteps       = []string{"CreateUser", "LinkPolicy", "PutUserPolicy", "AddUserToUserGroup", "CreateAccessKey"}
	huaweiUserSteps = []string{"CreateUser", "AddUserToUserGroup", "CreateAccessKey"}

	huaweiUserRemovals = []string{
		"ReadAccessKeys", "UpdateAccessKey", "DeleteAccessKey", "ReadUserGroupsPerUser",
		"RemoveUserFromUserGroup", "DeleteUser",
	}

	userRemovals = []string{
		"ReadUsers", "ReadAccessKeys", "UpdateAccessKey", "DeleteAccessKey", "ReadUserPolicies", "ReadLinkedPolicies", "ReadUserGroupsPerUser",
		"UnlinkPolicy", "DeleteUserPolicy", "RemoveUserFromUserGroup", "DeleteUser",
	}
)

// TestUserLostAnswers loses the answer of each call of an issue. The caller gets a good
// key or one clear error, and nothing lives on that nobody knows.
func TestUserLostAnswers(t *testing.T) {
	inBubble(t, lostUserAnswers(userSteps))
	inHuawei(t, without(t, lostUserAnswers(huaweiUserSteps), // a 204 has no body that anybody would read
		"AddUserToUserGroup: a 200 with rubbish, once: the caller gets a good key all the same",
		"AddUserToUserGroup: a 200 with rubbish, always: one clear error and nothing left",
		"AddUserToUserGroup: a 200 with rubbish, and the clean-up fails too: the rollback ends it",
	))
}

func lostUserAnswers(steps []string) map[string]func(t *testing.T, v *testVault) {
	faults := map[string]cloudsim.Fault{
		"the answer is lost":              {Kind: cloudsim.DropAnswer},
		"the call times out":              {Kind: cloudsim.DelayAnswer, Delay: 20 * time.Second},
		"a 200 with rubbish":              {Kind: cloudsim.RubbishAnswer, Body: "<html>"},
		"a 500 after the work":            {Kind: cloudsim.RefuseAfter, Status: 500},
		"the connection breaks before it": {Kind: cloudsim.DropRequest},
		"a 500 before the work":           {Kind: cloudsim.Refuse, Status: 500},
	}
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, fault := range faults {
		for _, op := range steps {
			always := fault
			always.Op = op
			once := always
			once.Times = 1
			tests[op+": "+name+", once: the caller gets a good key all the same"] = func(t *testing.T, v *testVault) {
				v.configureUsers()
				v.order(once)
				l := v.lease("job")
				v.mustFit(l, time.Minute)
				v.mustHaveRights(v.leasedUser(l))
				v.advance(5 * time.Minute)
				v.mustHaveUsers(1)
				v.mustHaveNothingBegun()
				v.mustRevoke(l)
				v.mustBeClean()
			}
			tests[op+": "+name+", always: one clear error and nothing left"] = func(t *testing.T, v *testVault) {
				v.configureUsers()
				defer v.order(always)()
				_, err := v.tryLease(t.Context(), "job")
				if err == nil {
					t.Fatal("leased")
				}
				mustHold(t, err.Error(), v.op(op), `account "default"`)
				v.mustHideSecrets(err.Error())
				v.invariant()
				if n := v.countCalls("CreateUser"); n != 2 {
					t.Errorf("%d users made, want one and one new attempt", n)
				}
				v.mustHaveUsers(0)
				v.pastRollback()
				v.mustBeClean()
			}
			tests[op+": "+name+", and the clean-up fails too: the rollback ends it"] = func(t *testing.T, v *testVault) {
				v.configureUsers()
				cancel := v.order(always)
				cancelList := v.order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 500})
				cancelDelete := v.order(cloudsim.Fault{Op: "DeleteUser", Kind: cloudsim.Refuse, Status: 500}) // which Huawei Cloud begins with
				if _, err := v.tryLease(t.Context(), "job"); err == nil {
					t.Fatal("leased")
				} else {
					mustHold(t, err.Error(), "rollback")
				}
				if n := v.countCalls("CreateUser"); n != 1 {
					t.Errorf("%d users made although the fate of the first was unknown", n)
				}
				v.invariant()
				cancel()
				cancelList()
				cancelDelete()
				v.pastRollback()
				v.mustBeClean()
			}
		}
	}
	return tests
}

// TestUserRefusals refuses each call of an issue: an HTTP 400 that says what to do, and
// nothing left at once.
func TestUserRefusals(t *testing.T) {
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, op := range userSteps {
		for code, status := range map[string]int{"4047": 400, "5060": 400, "9018": 409, "10005": 400, "7": 401} {
			tests[fmt.Sprintf("%s is refused with code %s", op, code)] = func(_ *testing.T, v *testVault) {
				v.configureUsers()
				defer v.order(cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: status, Code: code})()
				v.mustRefuse(logical.ReadOperation, "creds/job", nil, op, code)
				v.mustBeClean()
			}
		}
		for _, removal := range userRemovals {
			tests[fmt.Sprintf("%s is refused, and so is %s of the clean-up: the rollback ends it", op, removal)] = func(t *testing.T, v *testVault) {
				v.configureUsers()
				cancel := v.order(cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 400, Code: "4047"})
				cancelRemoval := v.order(cloudsim.Fault{Op: removal, Kind: cloudsim.Refuse, Status: 500})
				if _, err := v.tryLease(t.Context(), "job"); err == nil {
					t.Fatal("leased")
				}
				v.invariant()
				v.pastRollback()
				v.invariant()
				cancel()
				cancelRemoval()
				v.pastRollback()
				v.mustBeClean()
			}
		}
	}
	tests["a policy that does not exist is named"] = func(_ *testing.T, v *testVault) {
		v.configureUsers("policy_orns=" + testORN + "nope")
		v.mustRefuse(logical.ReadOperation, "creds/job", nil, "policy "+testORN+"nope", "does not exist", "take it out of the role")
		v.mustBeClean()
	}
	tests["a group at another path is named"] = func(_ *testing.T, v *testVault) {
		v.configureUsers("groups=builders")
		v.mustRefuse(logical.ReadOperation, "creds/job", nil, "group builders", "does not exist")
		v.mustBeClean()
	}
	tests["a policy lowered in the cloud is noticed when it refuses the key's date"] = func(t *testing.T, v *testVault) {
		v.rootKeyWithDate(time.Hour)
		v.configureUsers("ttl=2h")
		v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3700})
		l := v.lease("job")
		if got := l.Expires.Sub(l.IssueTime); got != (3700-65)*time.Second {
			t.Errorf("a lease of %s", got)
		}
		v.mustHaveUsers(1)
		v.mustHaveNothingBegun()
	}
	tests["a name that is taken once: a fresh one serves, and the other user is left alone"] = func(t *testing.T, v *testVault) {
		v.configureUsers()
		taken := ""
		v.sim.OnCall(func(c cloudsim.Call) {
			if c.Op == "CreateUser" && taken == "" {
				taken = strings.Split(strings.Split(string(c.Body), `"UserName":"`)[1], `"`)[0]
				v.account.AddUser(taken)
			}
		})
		l := v.lease("job")
		if l.Data["user_name"] == taken {
			t.Error("the taken name")
		}
		v.mustRevoke(l)
		v.pastRollback()
		if _, there := v.account.User(taken); !there {
			t.Error("the other user is gone")
		}
		v.mustBeClean()
	}
	tests["names that are always taken: one clear error, and nobody's user is touched"] = func(t *testing.T, v *testVault) {
		v.configureUsers()
		v.sim.OnCall(func(c cloudsim.Call) {
			if c.Op == "CreateUser" {
				v.account.AddUser(strings.Split(strings.Split(string(c.Body), `"UserName":"`)[1], `"`)[0])
			}
		})
		v.mustRefuse(logical.ReadOperation, "creds/job", nil, "both names", "username_template", "9022")
		v.pastRollback()
		if n := len(v.account.Users()); n != 3 {
			t.Errorf("%d users, want app and the two that were there", n)
		}
		v.mustBeClean()
	}
	tests["a user that appears in the cloud after its request has failed is found by the rollback"] = func(t *testing.T, v *testVault) {
		v.configureUsers()
		cancel := v.order(cloudsim.Fault{Op: "CreateUser", Kind: cloudsim.DropRequest})
		if _, err := v.tryLease(t.Context(), "job"); err == nil {
			t.Fatal("leased")
		}
		cancel()
		pending := v.begun()
		if len(pending) == 0 {
			t.Fatal("no entry is left")
		}
		cloud, err := v.backend.open(v.accountConfig().access())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cloud.CreateUser(t.Context(), userSpecOf(pending[0])); err != nil {
			t.Fatal(err)
		}
		v.invariant()
		v.pastRollback()
		v.mustBeClean()
	}
	inBubble(t, tests)
}

// TestUserStorageFaults fails each storage write of an issue.
func TestUserStorageFaults(t *testing.T) {
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, point := range []struct {
		nth  int
		name string
	}{{1, "writing the entry of a key that is begun"}, {2, "writing the entry of a key that is made"}} {
		for _, down := range []bool{false, true} {
			tests[fmt.Sprintf("%s fails, the clean-up too: %v", point.name, down)] = func(t *testing.T, v *testVault) {
				v.configureUsers()
				v.failWrites(ledger.Prefix, point.nth)
				if down {
					defer v.order(cloudsim.Fault{Op: "DeleteUser", Kind: cloudsim.Refuse, Status: 500, Times: 1})()
				}
				if _, err := v.tryLease(t.Context(), "job"); err == nil {
					t.Fatal("leased")
				}
				v.mustHaveLive(0)
				v.storage.before = nil
				v.invariant()
				v.pastRollback()
				v.mustBeClean()
			}
		}
	}
	inBothClouds(t, tests)
}

// TestUserCrashes lets the process die at every storage or cloud call.
func TestUserCrashes(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){
		"at any step of an issue: nothing lives longer than its lease would": func(t *testing.T, v *testVault) {
			v.configureUsers()
			v.mustRevoke(v.lease("job"))
			steps := 0
			for ; v.dieAt(steps, func(ctx context.Context) { _, _ = v.tryLease(ctx, "job") }); steps++ {
				v.leases = nil // the answer never arrived
				v.restart()
				v.invariant()
				v.pastRollback()
				v.advance(10*time.Minute + time.Minute + 2*rollbackPeriod)
				v.mustBeClean()
			}
			if steps < 10 {
				t.Errorf("only %d steps", steps)
			}
		},
		"at any step of the clean-up of an issue that failed": func(t *testing.T, v *testVault) {
			v.configureUsers("policy_orns=" + testORN + "nope")
			for step := 0; v.dieAt(step, func(ctx context.Context) { _, _ = v.tryLease(ctx, "job") }); step++ {
				v.restart()
				v.invariant()
				v.pastRollback()
				v.mustBeClean()
			}
		},
		"at any step of the rollback": func(t *testing.T, v *testVault) {
			v.configureUsers()
			for step := 0; ; step++ {
				cancel := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})
				cancelList := v.order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 500})
				if _, err := v.tryLease(t.Context(), "job"); err == nil {
					t.Fatal("leased")
				}
				cancel()
				cancelList()
				<-time.After(begunAge + time.Minute)
				died := v.dieAt(step, func(context.Context) { _ = v.tick() })
				v.restart()
				v.invariant()
				v.pastRollback()
				v.mustBeClean()
				if !died {
					return
				}
			}
		},
		"at any step of a revoke: the next attempt ends it": func(t *testing.T, v *testVault) {
			v.configureUsers()
			for step := 0; ; step++ {
				l := v.lease("job")
				v.settleNew()
				died := v.dieAt(step, func(context.Context) { _ = v.revoke(l) })
				v.restart()
				if !died {
					return
				}
				v.invariant()
				v.mustRevoke(l)
				v.mustBeClean()
			}
		},
		"at any step of the reaper: the next tick ends it": func(t *testing.T, v *testVault) {
			v.configureUsers()
			for step := 0; ; step++ {
				v.lease("job")
				v.leases = nil
				<-time.After(20 * time.Minute)
				died := v.dieAt(step, func(context.Context) { _ = v.tick() })
				v.restart()
				v.invariant()
				v.advance(5 * rollbackPeriod)
				v.mustBeClean()
				if !died {
					return
				}
			}
		},
	}
	inBubble(t, tests)
	inHuawei(t, without(t, tests, "at any step of the clean-up of an issue that failed"))
}
