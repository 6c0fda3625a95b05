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

// inSecureMode is an account that takes trusted keys alone, with an engine that has one.
func (v *testVault) inSecureMode(life time.Duration) {
	v.t.Helper()
	v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(life), Trusted: true})
	v.account.DeleteKey(v.account.RootKey().AccessKey)
	v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 86400, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: true})
	v.configure()
}

func TestSecureMode(t *testing.T) {
	t.Parallel()
	const news = "RequireTrustedEnvSecureMode"
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"it is shown, an error of check, and a warning of leases": func(t *testing.T, v *testVault) {
			v.inSecureMode(3 * time.Hour)
			if policy := v.read("policy/default"); policy["secure_mode"] != true {
				t.Errorf("got %v", policy)
			}
			mustHold(t, strings.Join(v.write("policy/default"), " "), news)
			check := v.read("check/default")
			if check["key_trusted"] != true {
				t.Errorf("got %v", check)
			}
			v.mustFind(check, "error: ", news, "ends at", "config/default")
			resp, err := v.request(t.Context(), logical.ReadOperation, "creds/app")
			v.mustSucceed("read creds/app", resp, err)
			mustHold(t, strings.Join(resp.Warnings, " "), news)
		},
		"the engine's own key is not rotated, asked for or automatically, until it is switched off": func(t *testing.T, v *testVault) {
			v.inSecureMode(3 * time.Hour)
			v.mustRefuse(logical.UpdateOperation, "rotate-root/default", nil, news, "made in Cockpit", "config/default")
			v.advance(2*time.Hour - rollbackPeriod)
			<-time.After(2 * rollbackPeriod) // a third of its life is left: the first tick that would rotate it
			if err := v.tick(); err != nil {
				t.Errorf("it was tried: %v", err)
			}
			v.advance(30 * time.Minute)
			if made := v.sim.CountCalls("CreateAccessKey"); made != 0 {
				t.Errorf("%d keys were made", made)
			}
			policy := v.account.Policy()
			policy.RequireTrustedEnvSecureMode = false
			v.account.SetPolicy(policy)
			v.advance(2 * rollbackPeriod) // its key may have no more time than that
			if made := v.sim.CountCalls("CreateAccessKey"); made != 1 {
				t.Errorf("%d keys were made after it was switched off", made)
			}
			v.mustWork("after it was switched off")
		},
		"no first key is made by login": func(t *testing.T, v *testVault) {
			v.account.SetLogin("owner@example.com", "password")
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 86400, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: true})
			v.mustRefuse(logical.UpdateOperation, "config/bylogin", []string{
				"provider=outscale", "login=owner@example.com",
				"password=password",
			}, news, "made in Cockpit")
			if made := v.sim.CountCalls("CreateAccessKey"); made != 0 {
				t.Errorf("%d keys were made", made)
			}
		},
	})
}

// What the engine does never writes the policy, and reads it whatever stands in it.
func TestAFieldOfThePolicyThatNobodyHasHeardOfOutlivesEveryCallOfTheEngine(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"": func(t *testing.T, v *testVault) {
			v.base = v.sim.Transport() // the description of today knows no such field
			v.rootKeyWithDate(3 * time.Hour)
			v.account.DeleteKey(v.account.RootKey().AccessKey)
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 86400, RequireTrustedEnv: true})
			v.account.SetPolicyField("Fourth", `{"as":"it was"}`)
			before := v.account.Policy()
			v.configure()
			v.write("policy/default")
			v.read("check/default")
			v.mustRevoke(v.lease("app"))
			v.write("rotate-root/default")
			v.advance(policyRefresh + 2*rollbackPeriod)
			if v.account.Policy() != before || v.account.PolicyField("Fourth") != `{"as":"it was"}` {
				t.Errorf("got %+v and %s", v.account.Policy(), v.account.PolicyField("Fourth"))
			}
		},
	})
}

func TestAFailedRotationOfTheEnginesKeyIsTriedEverMoreRarely(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failures int
		left     time.Duration
		want     time.Duration
	}{
		"after the first failure":           {1, 10 * time.Hour, time.Minute},
		"after the fourth":                  {4, 10 * time.Hour, 8 * time.Minute},
		"after many":                        {50, 10 * time.Hour, time.Hour},
		"a key without a date":              {50, -1, time.Hour},
		"one that ends soon":                {50, 40 * time.Minute, 5 * time.Minute},
		"one that ends in the next minutes": {3, 4 * time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := rotationPause(test.failures, test.left); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(9 * time.Hour)
			v.configure()
			v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 401, Code: "7"})
			v.advance(8 * time.Hour) // due after six
			if tries := v.sim.CountCalls("CreateAccessKey"); tries < 5 || tries > 20 {
				t.Errorf("%d tries in two hours", tries)
			}
		},
	})
}
