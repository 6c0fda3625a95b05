// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// inBubble runs each test on a new mount, in fake time.
func inBubble(t *testing.T, tests map[string]func(t *testing.T, v *testVault)) {
	t.Helper()
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newTestVault(t)) })
		})
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a lease costs one cloud call and two storage writes": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app")) // the first also makes the instance id
			v.sim.ResetCalls()
			v.storage.writes = 0
			v.lease("app")
			if calls := v.sim.Calls(); len(calls) != 1 || calls[0].Op != "CreateAccessKey" {
				t.Errorf("calls: %v", calls)
			}
			if v.storage.writes != 2 {
				t.Errorf("%d storage writes", v.storage.writes)
			}
		},
		"the answer has everything a client needs": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			key := v.mustFit(l, time.Minute)
			want := map[string]any{
				"user_name": "app", "account": "default", "region": testRegion, "expiration": key.Expires.UTC().Format(time.RFC3339),
			}
			for field, value := range want {
				if l.Data[field] != value {
					t.Errorf("%s: got %v, want %v", field, l.Data[field], value)
				}
			}
			if secret, _ := l.Data["secret_key"].(string); len(secret) != 40 {
				t.Errorf("secret_key has %d characters", len(secret))
			}
			if got := l.Expires.Sub(l.IssueTime); got != 10*time.Minute {
				t.Errorf("the lease lasts %s", got)
			}
		},
		"the key carries the label of this mount, and the ledger says who asked": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			key, _ := v.account.Key(l.AccessKey())
			label, err := keylabel.Parse(key.Tag)
			if err != nil {
				t.Fatal(err)
			}
			if id := v.read("info")["instance_id"]; label.Instance != id || label.Kind != keylabel.KindLease {
				t.Errorf("label %s of instance %s", label, id)
			}
			entry := v.read("keys/" + l.AccessKey())
			for field, want := range map[string]string{
				"user_name": "app", "role": "app", "account": "default", "account_id": testAccountID, "accessor": "accessor-1",
				"entity_id": "entity-1", "display_name": "token-1", "request_id": "request-1",
			} {
				if entry[field] != want {
					t.Errorf("%s: got %v, want %s", field, entry[field], want)
				}
			}
		},
		"a requested ttl is honoured up to the maximum, and cut with a warning beyond": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			short := v.lease("app", "ttl=10s")
			if got := short.Expires.Sub(short.IssueTime); got != 10*time.Second {
				t.Errorf("got %s, want 10s", got)
			}
			v.mustFit(short, time.Minute)
			resp, err := v.try(logical.ReadOperation, "creds/app", "ttl=2h")
			v.mustSucceed("creds", resp, err)
			if resp.Secret.TTL != time.Hour || len(resp.Warnings) == 0 {
				t.Errorf("got %s with warnings %q", resp.Secret.TTL, resp.Warnings)
			}
		},
		"the policy gives the leases of the design": func(t *testing.T, v *testVault) {
			for policy, want := range map[int64]time.Duration{
				0: 32 * day, 120: 55 * time.Second, 900: 835 * time.Second, 31536000: 32 * day,
			} {
				v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: policy})
				v.rootKeyWithDate(time.Minute)
				v.configure()
				l := v.lease("app")
				if got := l.Expires.Sub(l.IssueTime); got != want {
					t.Errorf("policy %d: a lease of %s, want %s", policy, got, want)
				}
				v.mustFit(l, time.Minute)
				role := v.read("roles/app")
				if role["effective_max_ttl"] != seconds(want) {
					t.Errorf("policy %d: effective_max_ttl %v", policy, role["effective_max_ttl"])
				}
				v.mustRevoke(l)
			}
		},
		"a policy lowered in the cloud is noticed when it refuses the date": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(time.Hour)
			v.configure("ttl=2h")
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3700})
			l := v.lease("app")
			if got := l.Expires.Sub(l.IssueTime); got != (3700-65)*time.Second {
				t.Errorf("a lease of %s", got)
			}
			if by := v.read("roles/app")["limited_by"]; by != "policy" {
				t.Errorf("limited by %v", by)
			}
			v.invariant()
			v.mustHaveLive(1)
		},
		"a slow cloud shortens the lease, not the promise": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			defer v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 12 * time.Second})()
			l := v.lease("app")
			v.mustFit(l, time.Minute)
			if got := l.Expires.Sub(l.IssueTime); got > 588*time.Second {
				t.Errorf("a lease of %s", got)
			}
		},
		"a key that comes too late for its lease is taken back": func(t *testing.T, v *testVault) {
			v.configure()
			defer v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 12 * time.Second})()
			if l, err := v.tryLease(t.Context(), "app", "ttl=5s"); err == nil {
				t.Errorf("leased for %s", l.Expires.Sub(l.IssueTime))
			}
			v.mustHaveLive(0)
			v.invariant()
		},
		"a pool spreads its keys over the users": func(t *testing.T, v *testVault) {
			v.account.AddUser("app2")
			v.account.AddUser("app3")
			v.configure("user_names=app,app2,app3", "ttl=10m")
			count := map[string]int{}
			for range 12 {
				count[v.lease("app").Data["user_name"].(string)]++
			}
			for _, user := range []string{"app", "app2", "app3"} {
				if count[user] != 4 {
					t.Errorf("%v", count)
				}
			}
		},
		"a pool goes on to the next user when one is full of foreign keys": func(t *testing.T, v *testVault) {
			v.account.AddUser("app2")
			for range 10 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			v.configure("user_names=app,app2", "ttl=10m")
			if user := v.lease("app").Data["user_name"]; user != "app2" {
				t.Errorf("leased of %v", user)
			}
		},
		"the engine's own identity keeps two slots free": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "allow_root_identity=true")
			v.write("roles/self", "ttl=10m", "own_identity=true")
			for range 8 {
				if user := v.lease("self").Data["user_name"]; user != "" {
					t.Errorf("leased of %v", user)
				}
			}
			v.mustRefuse(logical.ReadOperation, "creds/self", nil, "own identity", "8 leased keys", "rotation")
		},
		"a role on the own identity revokes in one call": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "allow_root_identity=true")
			v.write("roles/self", "ttl=10m", "own_identity=true")
			l := v.lease("self")
			v.sim.ResetCalls()
			v.mustRevoke(l)
			if n := len(v.sim.Calls()); n != 1 {
				t.Errorf("%d calls", n)
			}
			v.mustHaveLive(0)
		},
		"two mounts on one account have different instances": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			other := newTestVaultOn(t, v.sim, v.account)
			other.configure("ttl=10m")
			v.lease("app")
			other.lease("app")
			if v.read("info")["instance_id"] == other.read("info")["instance_id"] {
				t.Error("the same instance")
			}
		},
		"the instance id survives a restart": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			before := v.read("info")["instance_id"]
			v.restart()
			v.lease("app")
			if after := v.read("info")["instance_id"]; after != before || after == "" {
				t.Errorf("was %q, is %q", before, after)
			}
		},
		"an account written without verification learns its cloud account and policy at the first lease": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.rootKeyWithDate(time.Minute)
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d cloud calls", n)
			}
			v.write("roles/app", "user_names=app", "ttl=1h")
			v.lease("app")
			if id := v.read("config/default")["account_id"]; id != testAccountID {
				t.Errorf("account_id %v", id)
			}
			if n := v.sim.CountCalls("CreateAccessKey"); n != 1 {
				t.Errorf("%d creates: the policy was not read before", n)
			}
		},
	})
}

// TestBadInput is the list of mistakes that users make, each answered by one clear
// sentence and HTTP 400.
func TestBadInput(t *testing.T) {
	account := func(v *testVault, change ...string) []string { return append(v.accountFields(), change...) }
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a role that does not exist": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.ReadOperation, "creds/nope", nil, `role "nope" does not exist`, "roles/nope")
		},
		"an account that does not exist": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "roles/app", []string{"account=nope", "user_names=app"}, `account "nope" is not configured`,
				"config/nope")
			v.mustRefuse(logical.ReadOperation, "policy/nope", nil, `account "nope" is not configured`)
		},
		"an unknown provider": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "provider=aws"), `unknown provider "aws"`, "outscale")
		},
		"no provider": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "provider="), "provider is missing")
		},
		"a provider that changes": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"provider=huawei"}, "cannot be changed")
		},
		"no key": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"provider=outscale", "access_key=A"},
				"access_key and secret_key are both needed")
		},
		"a malformed endpoint": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "endpoint=/api/v1"), `endpoint "/api/v1"`, "https://")
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "endpoint=https://api.example.com/v1"), "/api/v1")
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "endpoint=http://api.example.com/api/v1"), "loopback")
		},
		"an endpoint where something else answers": func(_ *testing.T, v *testVault) {
			v.base = v.sim.Transport() // no call of the API, so nothing to judge
			v.restart()
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "endpoint=https://api.example.com/other/api/v1"),
				"is not the cloud's API", "config/default")
		},
		"a malformed region": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "region=eu west"), `region "eu west"`, "eu-west-2")
		},
		"a certificate that is none": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "ca_cert=x"), "ca_cert")
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "client_cert=x"), "client_cert holds no PEM")
			certificate, _ := newCertificate(v.t)
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "client_cert="+certificate), "client_cert and client_key")
		},
		"numbers out of range": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "expiry_grace=5"), "expiry_grace", "10s")
			for _, rate := range []string{"0", "-1", "NaN", "+Inf", "1e-300", "1e300"} {
				v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "max_requests_per_second="+rate),
					"max_requests_per_second is", "0.1", "10000")
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "request_timeout=10m"), "request_timeout", "45s")
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "max_retries=-1"), "max_retries")
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v, "ttl=2h", "max_ttl=1h"),
				"ttl (2h0m0s) is longer than max_ttl (1h0m0s)")
		},
		"a key that the cloud does not know": func(t *testing.T, v *testVault) {
			v.root.AccessKey = "AAAAAAAAAAAAAAAAAAAA"
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v), "does not know the access key", "region", "4120")
			if resp, err := v.try(logical.ReadOperation, "config/default"); err != nil || resp != nil {
				t.Error("it was stored all the same")
			}
		},
		"a wrong secret": func(t *testing.T, v *testVault) {
			v.root.SecretKey = strings.Repeat("x", 40)
			v.mustRefuse(logical.UpdateOperation, "config/default", account(v), "refuses the access key", "config/default")
			if n := len(v.sim.Calls()); n != 1 {
				t.Errorf("%d attempts with a refused key", n)
			}
		},
		"a policy that makes a useful lease impossible": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 90})
			v.rootKeyWithDate(time.Minute)
			v.write("config/default", v.accountFields()...)
			warnings := v.write("roles/app", "user_names=app")
			mustHold(t, strings.Join(warnings, " "), "cannot lease", "1m30s", "25s")
			v.sim.ResetCalls()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "no useful lease is possible", "1m30s", "25s", "expiry_grace")
			if n := v.sim.CountCalls("CreateAccessKey"); n != 0 {
				t.Errorf("%d keys made", n)
			}
		},
		"a quota that is full, with the counts": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 7 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			for range 3 {
				v.lease("app")
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "app"`, "3 of 10 issued by this mount", "7 others", "10005")
			v.invariant()
			if n := v.sim.CountCalls("CreateAccessKey"); n != 4 {
				t.Errorf("%d creates", n)
			}
		},
		"a user that does not exist": func(_ *testing.T, v *testVault) {
			v.configure("user_names=ghost")
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "ghost" does not exist`, "user_names", "5075")
			v.invariant()
		},
		"a user name that no cloud accepts": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=a/b"}, `"a/b"`)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=app,app"}, `"app" twice`)
		},
		"a role on the engine's own identity where the account does not allow it": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", nil, "without user_names", "allow_root_identity")
		},
		"a role on the user that owns the engine's key": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=app,vault"}, `user "vault" owns the engine's own access key`)
		},
		"the same, where the engine cannot list users": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:ReadAccounts", "api:ReadAccessKeys", "api:CreateAccessKey", "api:ReadApiAccessPolicy")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=app,vault"}, `user "vault" owns the engine's own access key`)
			v.write("roles/app", "user_names=app")
		},
		"the same, where the account got its key after the role was written": func(_ *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.configure("user_names=app,vault")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.write("config/default", v.accountFields()...)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `user "vault" owns the engine's own access key`)
		},
		"a role with an unknown type": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"credential_type=banana", "user_names=app"},
				`unknown credential_type "banana"`)
		},
		"a role whose ttl exceeds its max_ttl": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=app", "ttl=2h", "max_ttl=1h"}, "longer than max_ttl")
		},
	})
}

func TestUnreachableCloud(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"an outage is a retryable error that says so": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			defer v.sim.Order(cloudsim.Fault{Kind: cloudsim.RefuseConnection})()
			_, err := v.try(logical.ReadOperation, "creds/app")
			if err == nil {
				t.Fatal("an HTTP 400, or a success")
			}
			mustHold(t, err.Error(), "cannot be reached", "endpoint")
		},
		"a client that hangs up leaves no key": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			ctx, hangUp := context.WithCancel(t.Context())
			defer v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})()
			go func() {
				<-time.After(2 * time.Second)
				hangUp()
			}()
			if _, err := v.tryLease(ctx, "app"); err == nil {
				t.Fatal("leased")
			}
			v.mustHaveLive(0)
			v.invariant()
		},
	})
}
