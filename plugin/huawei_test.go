// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestHuaweiAccount(t *testing.T) {
	t.Parallel()
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"the account's id is looked up, and the endpoint follows from the region": func(t *testing.T, v *testVault) {
			warnings := v.write("config/default", "provider=huawei", "access_key="+v.root.AccessKey, "secret_key="+v.root.SecretKey)
			mustHold(t, strings.Join(warnings, " "), "Huawei Cloud sets no limit", "set max_ttl")
			config := v.read("config/default")
			for field, want := range map[string]any{
				"account_id": v.domain.ID(), "domain_id": v.domain.ID(), "region": "ap-southeast-1", "identity": "user", "user_name": "vault",
				"key_expiration": "",
			} {
				if config[field] != want {
					t.Errorf("%s is %v, want %v", field, config[field], want)
				}
			}
		},
		"with a max_ttl nothing is warned of": func(t *testing.T, v *testVault) {
			if warnings := v.write("config/default", append(v.accountFields(), "max_ttl=1h")...); len(warnings) != 0 {
				t.Errorf("%v", warnings)
			}
		},
		"another account's domain_id is refused": func(_ *testing.T, v *testVault) {
			other := v.sim.AddDomain("other")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), "domain_id="+other.ID()), "domain_id")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), "domain_id=no id"), "domain_id")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), "domain_id=a-name", "verify=false"), "domain_id")
		},
		"a key that may not look its account up works with domain_id": func(_ *testing.T, v *testVault) {
			v.domain.HideDomain("vault")
			v.write("config/default", append(v.accountFields(), "domain_id="+v.domain.ID())...)
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.mustRevoke(v.lease("app"))
		},
		"a key of another account is taken where nothing needs the old one": func(t *testing.T, v *testVault) {
			v.configure()
			other := v.sim.AddDomain("other")
			other.AddUser("vault", cloudsim.SecurityAdministrator)
			v.root = other.AddKey(cloudsim.IAMKeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			if id := v.read("config/default")["domain_id"]; id != other.ID() {
				t.Errorf("domain_id is %v", id)
			}
		},
		"what belongs to OUTSCALE is refused, and the other way round": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"provider=huawei", "login=a@b", "password=c"},
				"makes no key with login and password")
			v.mustRefuse(logical.UpdateOperation, "config/other", []string{
				"provider=outscale", "domain_id=x", "access_key=a",
				"secret_key=b",
			}, "domain_id", "Huawei Cloud alone")
			v.mustRefuse(logical.UpdateOperation, "config/other", []string{
				"provider=outscale", "signature=otc", "access_key=a",
				"secret_key=b",
			}, "signature", "Huawei Cloud alone")
			v.mustRefuse(logical.UpdateOperation, "config/other", []string{"provider=aws"}, `unknown provider "aws"`, "outscale or huawei")
			v.mustRefuse(logical.UpdateOperation, "config/other", nil, "provider is missing", "outscale or huawei")
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"username_template=9{{ random 20 }}"}, "not beginning with a digit")
		},
		"a cloud of the OTC family is signed for its own way": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{OldDialectOnly: true})
			v.mustRefuse(logical.UpdateOperation, "config/default", v.accountFields(), "key")
			v.write("config/default", append(v.accountFields(), "signature=otc")...)
			v.write("roles/app", "user_names=app", "ttl=10m")
			l := v.lease("app")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), "signature=sdk", "verify=false"), "in use")
			v.mustRevoke(l)
			if got := v.read("config/default")["signature"]; got != "otc" {
				t.Errorf("%v", got)
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"signature=v4"}, `signature "v4" is not known`, "sdk", "otc")
			v.sim.SetHuaweiRules(cloudsim.HuaweiRules{})
			v.patch("config/default", map[string]any{"signature": nil, "access_key": v.root.AccessKey, "secret_key": v.root.SecretKey})
			if got := v.read("config/default")["signature"]; got != "sdk" {
				t.Errorf("%v", got)
			}
		},
		"a null resets the region to the cloud's default": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", append(v.accountFields(), "region=cn-north-4")...)
			v.patch("config/default", map[string]any{"region": nil, "access_key": v.root.AccessKey, "secret_key": v.root.SecretKey})
			if region := v.read("config/default")["region"]; region != "ap-southeast-1" {
				t.Errorf("%v", region)
			}
		},
		"there is no policy: its path and the roles say so, and no call is made for it": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.ResetCalls()
			resp, err := v.try(logical.UpdateOperation, "policy/default")
			v.mustSucceed("policy", resp, err)
			mustHold(t, strings.Join(resp.Warnings, " "), "has no such policy", "max_ttl")
			if resp.Data["supported"] != false || resp.Data["limited_by"] != "mount, policy none" {
				t.Errorf("%v", resp.Data)
			}
			v.write("config/default", "max_ttl=2h")
			if role := v.read("roles/app"); role["limited_by"] != "account, policy none" || role["effective_max_ttl"] != int64(7200) {
				t.Errorf("%v", role)
			}
			v.settle(day / 2)
			if n := v.sim.CountCalls("ShowDomainProtectPolicy"); n != 0 {
				t.Errorf("%d calls", n)
			}
		},
		"info names both clouds": func(t *testing.T, v *testVault) {
			if providers := v.read("info")["providers"].([]string); strings.Join(providers, " ") != "outscale huawei" {
				t.Errorf("%v", providers)
			}
		},
	})
}

func TestHuaweiRoleInput(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ fields, says []string }{
		"no users":                        {nil, []string{"user_names is empty", "users that it names"}},
		"the engine's own user":           {[]string{"user_names=vault"}, []string{`"vault" owns the engine's own access key`}},
		"a malformed user":                {[]string{"user_names=a@b"}, []string{`"a@b"`, "Huawei Cloud", "spaces"}},
		"a user that begins with a digit": {[]string{"user_names=1st"}, []string{`"1st"`, "digit"}},
		"a path":                          {[]string{"credential_type=iam_user", "user_path=/ci/"}, []string{"user_path", "no path"}},
		"managed policies":                {[]string{"credential_type=iam_user", "policy_orns=x"}, []string{"policy_orns", "groups"}},
		"an inline policy":                {[]string{"credential_type=iam_user", "policy_document={}"}, []string{"policy_document", "groups"}},
		"a group twice":                   {[]string{"credential_type=iam_user", "groups=a,a"}, []string{`"a" twice`}},
		"eleven groups": {
			[]string{"credential_type=iam_user", "groups=a,b,c,d,e,f,g,h,i,j,k"},
			[]string{"11 groups", "10 at most"},
		},
		"a session without agency": {
			[]string{"credential_type=session_token"},
			[]string{"without agency_name", "rights of the engine's own key", "allow_root_identity"},
		},
		"a session shorter than the least": {
			[]string{"credential_type=session_token", "agency_name=a", "ttl=10m"},
			[]string{"ttl is 10m0s", "15m0s at least"},
		},
		"a session cut below the least": {
			[]string{"credential_type=session_token", "agency_name=a", "max_ttl=10m"},
			[]string{"max_ttl is 10m0s", "15m0s at least"},
		},
		"a cap on sessions": {
			[]string{"credential_type=session_token", "agency_name=a", "max_active_keys=3"},
			[]string{"max_active_keys", "cannot be taken back"},
		},
		"a session policy that is no JSON": {
			[]string{"credential_type=session_token", "agency_name=a", "session_policy=x"},
			[]string{"session_policy", "JSON object"},
		},
		"a session policy of many words": {[]string{"credential_type=session_token", "agency_name=a", "session_policy={\"a\":\"" +
			strings.Repeat("x", 2048) + "\"}"}, []string{"2048"}},
		"a domain without an agency": {
			[]string{"credential_type=session_token", "agency_domain=a"},
			[]string{"agency_domain goes with agency_name"},
		},
		"an agency of another type": {
			[]string{"user_names=app", "agency_name=a"},
			[]string{"agency_name is only valid with credential_type=session_token"},
		},
		"users of a session": {
			[]string{"credential_type=session_token", "agency_name=a", "user_names=app"},
			[]string{"user_names is only valid with credential_type=access_key"},
		},
		"an unknown type":                    {[]string{"credential_type=banana"}, []string{"access_key, iam_user, session_token"}},
		"a name that cannot be of an agency": {[]string{"credential_type=session_token", "agency_name=a/b"}, []string{`"a/b"`}},
	}
	for name, test := range tests {
		inHuawei(t, map[string]func(t *testing.T, v *testVault){name: func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", test.fields, test.says...)
		}})
	}
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"allow_root_identity leases no keys of the engine's two slots": func(_ *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=vault"}, `"vault" owns the engine's own access key`)
			v.mustRefuse(logical.UpdateOperation, "roles/x", nil, "user_names is empty")
		},
	})
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"OUTSCALE has no sessions": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"credential_type=session_token", "agency_name=a"}, "session_token",
				"OUTSCALE", "access_key and iam_user")
		},
	})
}

func TestHuaweiLease(t *testing.T) {
	t.Parallel()
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"the date stands beside the label, moves with the lease, and ends nothing by itself": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			l := v.lease("app")
			before := v.mustFit(l, time.Minute)
			if err := v.renew(l, 30*time.Minute); err != nil {
				t.Fatal(err)
			}
			if after := v.mustFit(l, time.Minute); !after.Expires.After(before.Expires) || after.Tag != before.Tag {
				t.Errorf("%+v, before %+v", after, before)
			}
			<-time.After(2 * time.Hour) // Vault was sealed
			v.mustHaveLive(1)
			v.mustRevoke(l)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"a lease costs two cloud calls, a renewal one, and a revocation two": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for want, do := range map[int][]func(*testLease) error{
				1: {func(l *testLease) error { return v.renew(l, 0) }},
				2: {v.revoke},
			} {
				l := v.lease("app")
				v.sim.ResetCalls()
				if err := do[0](l); err != nil || len(v.sim.Calls()) != want {
					t.Errorf("%d calls, want %d, %v", len(v.sim.Calls()), want, err)
				}
				v.mustRevokeAll()
			}
			v.sim.ResetCalls()
			v.lease("app") // whose user is looked up each time, by its name
			if n := len(v.sim.Calls()); n != 2 {
				t.Errorf("%d calls", n)
			}
		},
		"a pool spreads its leases, two a user, and says with counts when it is full": func(t *testing.T, v *testVault) {
			v.domain.AddUser("app-2")
			v.domain.AddUser("app-3")
			v.domain.AddKey(cloudsim.IAMKeySpec{User: "app-3"})
			v.configure("user_names=app,app-2,app-3", "ttl=10m")
			for range 5 {
				v.lease("app")
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "2 of 2 issued by this mount, 0 others", "1 of 2 issued by this mount, 1 others")
			v.mustRevoke(v.leases[0])
			v.lease("app")
			v.mustHaveLive(5)
		},
		"an expired key that cannot be deleted is tried every few minutes, and check says that it works": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.leases = nil // Vault never stored the lease
			cancel := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "IAM.0003"})
			cancelUpdate := v.order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "IAM.0003"})
			v.advance(2 * time.Hour)
			if n := v.countCalls("UpdateAccessKey"); n < 20 || n > 40 {
				t.Errorf("%d attempts in 2 hours", n)
			}
			v.mustFind(v.read("check/default"), "error", l.AccessKey(), "still works")
			cancel()
			cancelUpdate()
			v.advance(2 * reapRetryLive)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"a key that was deleted by hand says so at the renewal, and nobody is told that it may end by itself": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			defer v.order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 500})()
			resp, err := v.try(logical.DeleteOperation, "keys/"+l.AccessKey())
			if err := failure(resp, err); err == nil {
				t.Error("reported as killed")
			} else {
				mustHold(t, err.Error(), "was NOT removed", "works until it is deleted")
			}
		},
	})
}

// TestHuaweiDelays lets what is new be unknown for a while, as the real cloud does.
func TestHuaweiDelays(t *testing.T) {
	t.Parallel()
	rules := cloudsim.HuaweiRules{UserDelay: 10 * time.Second, KeyDelay: 10 * time.Second}
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"a new user that is unknown for ten seconds gets its groups and its key, and goes with its lease": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(rules)
			v.configureUsers()
			l := v.lease("job")
			v.mustHaveRights(v.leasedUser(l))
			v.mustFit(l, time.Minute)
			v.settleNew()
			v.mustRevoke(l)
			v.mustBeClean()
		},
		"a lease that is revoked at once is revoked when the cloud knows its key": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(rules)
			v.configure("ttl=10m")
			l := v.lease("app")
			_ = v.revoke(l) // "not found" is believed of nothing that is so young
			v.mustHaveLedgerOfLive()
			<-time.After(30 * time.Second)
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"so it is where the client that made its key is gone with the account's old configuration": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(rules)
			v.configureUsers()
			v.write("roles/app", "user_names=app", "ttl=10m")
			leases := []*testLease{v.lease("job"), v.lease("app")} // the former takes its time
			v.write("config/default", "max_ttl=1h")
			for _, l := range leases {
				if err := v.revoke(l); err == nil {
					t.Error("revoked")
				}
			}
			v.mustHaveLedgerOfLive()
			if err := v.renew(leases[0], 0); err != nil {
				t.Error(err)
			}
			<-time.After(30 * time.Second)
			for _, l := range leases {
				v.mustRevoke(l)
			}
			v.mustBeClean()
		},
		"a user whose answer is lost and that appears later is found by the rollback": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(rules)
			v.configureUsers()
			cancel := v.order(cloudsim.Fault{Op: "CreateUser", Kind: cloudsim.DropAnswer})
			if _, err := v.tryLease(t.Context(), "job"); err == nil {
				t.Fatal("leased")
			}
			cancel()
			v.invariant()
			v.pastRollback()
			v.mustBeClean()
		},
		"a death during an issue leaves nothing that is not found later": func(t *testing.T, v *testVault) {
			v.sim.SetHuaweiRules(rules)
			v.configureUsers()
			for step := 0; v.dieAt(step, v.leaseJob); step += 3 {
				v.leases = nil
				v.restart()
				v.invariant()
				v.pastRollback()
				v.advance(11*time.Minute + 2*rollbackPeriod)
				v.mustBeClean()
			}
		},
	})
}
