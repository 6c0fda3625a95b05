// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a policy changed in the cloud counts for the next lease once it is written": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Minute)
			v.configure()
			if role := v.read("roles/app"); role["limited_by"] != "mount" {
				t.Errorf("%v", role)
			}
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900, RequireTrustedEnv: true})
			v.write("policy/default")
			policy := v.read("policy/default")
			if policy["max_access_key_expiration_seconds"] != int64(900) || policy["require_trusted_env"] != true ||
				policy["effective_max_ttl"] != int64(835) || policy["limited_by"] != "policy" || policy["known"] != true {
				t.Errorf("%v", policy)
			}
			if l := v.lease("app"); l.Expires.Sub(l.IssueTime) != 835*time.Second {
				t.Errorf("a lease of %s", l.Expires.Sub(l.IssueTime))
			}
		},
		"a policy of 0 is warned of wherever it leaves leases without a hard bound": func(t *testing.T, v *testVault) {
			mustHold(t, strings.Join(v.write("config/default", v.accountFields()...), " "), "MaxAccessKeyExpirationSeconds is 0")
			mustHold(t, strings.Join(v.write("policy/default"), " "), "MaxAccessKeyExpirationSeconds is 0")
			mustHold(t, strings.Join(v.write("roles/app", "user_names=app"), " "),
				"nothing bounds its leases but the mount's max lease TTL (768h0m0s)")
			if warnings := v.write("roles/app", "user_names=app", "max_ttl=1h"); len(warnings) != 0 {
				t.Errorf("%q", warnings)
			}
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			if warnings := v.write("policy/default"); len(warnings) != 0 {
				t.Errorf("%q", warnings)
			}
			if warnings := v.write("roles/app", "user_names=app", "max_ttl=10m"); len(warnings) != 0 {
				t.Errorf("%q", warnings)
			}
		},
		"it tells the longest life of a key that anything of the cloud account needs, session roles apart": func(t *testing.T, v *testVault) {
			needs := func(want time.Duration) {
				t.Helper()
				if got := v.read("policy/default")["longest_key_lifetime"]; got != int64(want/time.Second) {
					t.Errorf("got %v s, want %s", got, want)
				}
				v.advance(longestKeysFor)
			}
			v.account.AddUser("db")
			v.account.AddUser("nightly")
			v.rootKeyWithDate(1000 * time.Hour)
			v.configure("ttl=10m", "max_ttl=30m")
			needs(30*time.Minute + lifetime.DefaultExpiryGrace + lifetime.ClockMargin)
			v.write("roles/longer", "user_names=app", "max_ttl=2h")
			needs(2*time.Hour + lifetime.DefaultExpiryGrace + lifetime.ClockMargin)
			v.write("static-roles/db", "user_name=db", "rotation_period=6h", "rotation_grace_period=1h")
			needs(7*time.Hour + lifetime.ClockMargin)
			v.write("static-roles/nightly", "user_name=nightly", "rotation_schedule=0 3 * * *", "rotation_window=2h", "rotation_grace_period=1h")
			needs(27*time.Hour + lifetime.ClockMargin)
			v.write("config/default", "rotation_period=20h")
			needs(40 * time.Hour)
			v.write("config/default", "max_ttl=1h", "rotation_period=0")
			elsewhere := v.sim.AddAccount("999999999999")
			root := elsewhere.AddKey(cloudsim.KeySpec{})
			elsewhere.AddUser("app")
			v.write("config/other", append(v.accountFields(), "access_key="+root.AccessKey, "secret_key="+root.SecretKey, "max_ttl=100h")...)
			v.write("roles/other", "account=other", "user_names=app")
			needs(27*time.Hour + lifetime.ClockMargin)
			v.write("config/same", append(v.accountFields(), "max_ttl=50h")...)
			v.write("roles/same", "account=same", "user_names=app")
			needs(50*time.Hour + lifetime.DefaultExpiryGrace + lifetime.ClockMargin)
			v.write("config/same", "rotation_period=40h")
			needs(80 * time.Hour)
		},
		"it is noticed within minutes anyway": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Hour)
			v.configure()
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.advance(policyRefresh + 2*rollbackPeriod)
			if by := v.read("roles/app")["limited_by"]; by != "policy" {
				t.Errorf("limited by %v", by)
			}
		},
		"a policy that cannot be read is unknown, and not absent": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:ReadAccounts", "api:ReadAccessKeys", "api:CreateAccessKey", "api:UpdateAccessKey", "api:DeleteAccessKey")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			warnings := v.write("config/default", v.accountFields()...)
			mustHold(t, strings.Join(warnings, " "), "access policy is unknown", "ReadApiAccessPolicy")
			v.write("roles/app", "user_names=app", "ttl=10m")
			mustHold(t, v.read("roles/app")["limited_by"].(string), "unknown")
			policy := v.read("policy/default")
			if policy["known"] != false || policy["problem"] == "" {
				t.Errorf("%v", policy)
			}
			v.lease("app")
		},
		"a policy that can no longer be read keeps its last bound, and says so": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.rootKeyWithDate(10 * time.Minute)
			v.configure()
			v.sim.Order(cloudsim.Fault{Op: "ReadApiAccessPolicy", Kind: cloudsim.Refuse, Status: 500})
			v.write("policy/default")
			if by := v.read("roles/app")["limited_by"]; by != "policy, policy unknown" {
				t.Errorf("limited by %v", by)
			}
			v.mustFit(v.lease("app"), time.Minute)
		},
	})
}
