// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestSession(t *testing.T) {
	t.Parallel()
	issue := func(v *testVault, fields ...string) *logical.Response {
		v.t.Helper()
		resp, err := v.try(logical.ReadOperation, "creds/job", fields...)
		v.mustSucceed("creds/job", resp, err)
		return resp
	}
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"it has a token, ends with its lease, and cannot be renewed": func(t *testing.T, v *testVault) {
			v.configureSessions("ttl=1h")
			resp := issue(v)
			if resp.Data["security_token"] == "" || resp.Data["secret_key"] == "" || resp.Data["account"] != "default" {
				t.Errorf("%v", resp.Data["access_key"])
			}
			expires, err := time.Parse(time.RFC3339, resp.Data["expiration"].(string))
			if err != nil {
				t.Fatal(err)
			}
			if s := resp.Secret; s.Renewable || s.TTL > time.Until(expires).Truncate(time.Second) || s.TTL < time.Hour-2*time.Second ||
				s.MaxTTL != s.TTL {
				t.Errorf("a lease of %s (at most %s) for a session until %s, renewable: %v", s.TTL, s.MaxTTL, expires, s.Renewable)
			}
			mustHold(t, strings.Join(resp.Warnings, " "), "cannot take this session back", resp.Data["expiration"].(string))
			v.mustHaveLedger(0)
			v.mustHaveNothingBegun()
		},
		"a revocation does nothing, needs no cloud, and is a success": func(t *testing.T, v *testVault) {
			v.configureSessions()
			l := v.lease("job")
			defer v.sim.Order(cloudsim.Fault{Kind: cloudsim.Outage})()
			v.sim.ResetCalls()
			v.mustRevoke(l)
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d calls", n)
			}
			if err := v.renew(l, 0); err == nil {
				t.Error("renewed")
			}
		},
		"a session that ends with its lease is nothing to warn of, and one that is taken back early is": func(t *testing.T, v *testVault) {
			var log bytes.Buffer
			v.logger = hclog.New(&hclog.LoggerOptions{Output: &log})
			v.restart()
			v.configureSessions()
			v.sim.Order(cloudsim.Fault{Op: "CreateTemporaryAccessKeyByAgency", Kind: cloudsim.DelayAnswer, Delay: 300 * time.Millisecond})
			v.mustRevoke(v.lease("job"))
			mustHold(t, log.String(), "session works on")
			log.Reset()
			l := v.lease("job")
			<-time.After(time.Until(l.Expires))
			v.mustRevoke(l)
			if log.Len() > 0 {
				t.Errorf("%s", log.String())
			}
		},
		"its lease ends no later where the cloud answers late and this machine's clock is slow": func(t *testing.T, v *testVault) {
			v.configureSessions("ttl=15m")
			v.sim.SetClockSkew(time.Minute)
			v.sim.Order(cloudsim.Fault{Op: "CreateTemporaryAccessKeyByAgency", Kind: cloudsim.DelayAnswer, Delay: 14 * time.Second, Times: 1})
			ends := time.Now().Add(clouds.MinSession)
			l := v.lease("job")
			if l.Expires.After(ends) {
				t.Errorf("the lease ends %s after the session", l.Expires.Sub(ends))
			}
		},
		"a lost answer costs one more call": func(t *testing.T, v *testVault) {
			v.configureSessions()
			v.sim.Order(cloudsim.Fault{Op: "CreateTemporaryAccessKeyByAgency", Kind: cloudsim.RubbishAnswer, Times: 1})
			v.lease("job")
		},
		"answers that are always lost are one clear error without a secret": func(t *testing.T, v *testVault) {
			v.configureSessions()
			defer v.sim.Order(cloudsim.Fault{Op: "CreateTemporaryAccessKeyByAgency", Kind: cloudsim.RubbishAnswer})()
			_, err := v.tryLease(t.Context(), "job")
			if err == nil {
				t.Fatal("leased")
			}
			mustHold(t, err.Error(), "CreateTemporaryAccessKeyByAgency", `account "default"`)
			v.mustHideSecrets(err.Error())
		},
		"the cloud's longest session decides where nothing shorter does": func(t *testing.T, v *testVault) {
			v.configureSessions("ttl=48h", "max_ttl=72h")
			if role := v.read("roles/job"); role["effective_max_ttl"] != int64(86400) || role["limited_by"] != "cloud, policy none" {
				t.Errorf("%v", role)
			}
			resp := issue(v, "ttl=47h")
			mustHold(t, strings.Join(resp.Warnings, " "), "the lease is cut to", "by the cloud's longest session")
			if resp.Secret.TTL > 24*time.Hour {
				t.Errorf("%s", resp.Secret.TTL)
			}
		},
		"a ttl below the least is refused, and defaults for keys are raised to it": func(t *testing.T, v *testVault) {
			v.configureSessions()
			v.write("config/default", "ttl=5m")
			v.mustRefuse(logical.ReadOperation, "creds/job", []string{"ttl=5m"}, "5m0s was asked for", "15m0s at least")
			if ttl := issue(v).Secret.TTL; ttl > 15*time.Minute || ttl < 15*time.Minute-2*time.Second {
				t.Errorf("%s", ttl)
			}
		},
		"an account that gives less than the least is refused with the reason": func(t *testing.T, v *testVault) {
			if warnings := v.configureSessions(); len(warnings) != 0 {
				t.Errorf("%v", warnings)
			}
			v.write("config/default", "max_ttl=10m")
			v.mustRefuse(logical.ReadOperation, "creds/job", nil, "no useful lease is possible", "account's max_ttl", "10m0s", "15m0s")
			mustHold(t, strings.Join(v.write("roles/job", "ttl=20m"), " "), "cannot lease as things are", "15m0s")
		},
		"a session policy is warned of": func(t *testing.T, v *testVault) {
			warnings := v.configureSessions("max_ttl=1h",
				`session_policy={"Version":"1.1","Statement":[{"Effect":"Allow","Action":["obs:object:GetObject"]}]}`)
			mustHold(t, strings.Join(warnings, " "), "OBS alone")
			v.lease("job")
		},
		"an agency that does not exist, or does not trust, is named": func(_ *testing.T, v *testVault) {
			v.configureSessions("agency_name=nope")
			v.mustRefuse(logical.ReadOperation, "creds/job", nil, `"nope"`)
		},
		"an agency of another account is assumed by the account's name": func(_ *testing.T, v *testVault) {
			other := v.sim.AddDomain("partner")
			other.AddAgency("theirs", v.domain, "ecs:*")
			v.configureSessions("agency_name=theirs", "agency_domain=partner")
			v.lease("job")
		},
		"the engine's own rights are leased only where the account allows it, also later": func(t *testing.T, v *testVault) {
			v.write("config/default", append(v.accountFields(), "allow_root_identity=true")...)
			v.write("roles/job", "credential_type=session_token", "own_identity=true")
			if token := issue(v).Data["security_token"]; token == "" {
				t.Error("no token")
			}
			v.write("config/default", "allow_root_identity=false")
			v.mustRefuse(logical.ReadOperation, "creds/job", nil, "allow_root_identity")
		},
		"an event names the role, since no ledger knows the session": func(t *testing.T, v *testVault) {
			v.configureSessions()
			v.lease("job")
			synctest.Wait() // a lease does not wait for its event
			last := v.events.Events[len(v.events.Events)-1]
			if path := last.Event.Metadata.Fields["data_path"].GetStringValue(); path != "roles/job" {
				t.Errorf("%q in %v", path, last.Event.Metadata)
			}
		},
	})
}

// The cloud's audit log shows the name, whose rule is that of users.
func TestSessionNames(t *testing.T) {
	t.Parallel()
	order := issuance{account: &account{kind: cloudNamed(t, clouds.Huawei)}, roleName: "ci_deploy"}
	for display, want := range map[string]string{
		"token":                    "vault-ci_deploy-token",
		"ldap-jané.doe@acme/ops\n": "vault-ci_deploy-ldap-jan-.doe-acme-ops-",
		strings.Repeat("é", 80):    "vault-ci_deploy-" + strings.Repeat("-", 48),
	} {
		if got := order.sessionName(display); got != want || order.account.kind.CheckUserName("session", got) != nil {
			t.Errorf("%q: got %q, want %q", display, got, want)
		}
	}
}
