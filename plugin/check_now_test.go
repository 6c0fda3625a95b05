// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestCheckTellsWhatItFinds is the bullet "check/" of what was found.
func TestCheckTellsWhatItFinds(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"each finding is a warning too, so that the command line prints one a line": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.account.SetPolicy(cloudsim.Policy{})
			resp, err := v.try(logical.ReadOperation, "check/default")
			v.mustSucceed("check", resp, err)
			findings := resp.Data["findings"].([]string)
			if len(findings) == 0 || !slices.Equal(findings, resp.Warnings) {
				t.Errorf("findings %q, warnings %q", findings, resp.Warnings)
			}
		},
		"missing permissions are one finding, with the policy file that has them": func(t *testing.T, v *testVault) {
			v.account.AddUser("vault", "api:*")
			v.root = v.account.AddKey(cloudsim.KeySpec{User: "vault"})
			v.configure("ttl=10m")
			v.account.AddUser("vault", "api:ReadAccounts", "api:ReadUsers")
			findings := v.read("check/default")["findings"].([]string)
			var denied []string
			for _, finding := range findings {
				if strings.Contains(finding, "permission missing") {
					denied = append(denied, finding)
				}
			}
			if len(denied) != 1 {
				t.Fatalf("%d findings: %q", len(denied), denied)
			}
			mustHold(t, denied[0], "ReadAccessKeys", "api:CreateAccessKey", "api:DeleteAccessKey", "docs/examples/policies/outscale-engine.json")
		},
		"the engine key is called that among the keys of its identity": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			counts := strings.Join(v.read("check/default")["key_counts"].([]string), "\n")
			mustHold(t, counts, "engine's own identity: 1 of 10 (the engine key, 0 issued by this mount, 0 others)")
		},
		"E28: limits under 30 seconds are found, and warned of at the write": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("roles/short", "user_names=app", "max_ttl=20s")
			v.mustFind(v.read("check/default"), `error: role "short" cannot lease`, "max_ttl allows 20s")
			warnings := strings.Join(v.write("config/default", "max_ttl=20s"), "\n")
			mustHold(t, warnings, "no role of it can lease", "max_ttl allows 20s")
			check := v.read("check/default")
			v.mustFind(check, "error: no role of the account can lease", "the account's max_ttl allows 20s")
			if check["healthy"] != false {
				t.Error("healthy")
			}
		},
		"a static role's key that is gone, or switched off, is found": func(t *testing.T, v *testVault) {
			v.configure()
			v.account.AddUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=24h")
			id := v.read("static-creds/db")["access_key"].(string)
			v.account.SwitchKey(id, false)
			v.mustFind(v.read("check/default"), "error: somebody has switched off access key "+id, "rotate-role/db", "switch it on")
			v.account.DeleteKey(id)
			if text := fmt.Sprint(v.read("check/default")); strings.Contains(text, "does not list") {
				v.t.Errorf("seconds after it was made, no list need show it: %s", text)
			}
			<-time.After(provider.Settling)
			v.mustFind(v.read("check/default"), `error: static role "db" gives out access key `+id, "does not list", "rotate-role/db")
		},
		"a lease and a static role over one user are found": func(_ *testing.T, v *testVault) {
			v.configure()
			v.write("static-roles/app", "user_name=app", "rotation_period=24h")
			v.mustFind(v.read("check/default"), `warning: user "app" belongs to static role "app", and role app leases keys of it`)
		},
		"a lock by somebody else is called that": func(t *testing.T, v *testVault) {
			v.configure()
			v.sim.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "13"})
			v.mustFind(v.read("check/default"), "error: somebody's refused keys have locked the account's API, which is no news of the engine key")
		},
		"a refused key is told, with the time of the next try, which now=true moves up once in 15 minutes": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.account.SwitchKey(v.root.AccessKey, false)
			_ = v.read("check/default")
			v.sim.ResetCalls()
			v.mustFind(v.read("check/default"), "error: the cloud does not accept the engine key", "one call tries at 2000-01-01T00:01:00Z")
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d calls with a refused key", n)
			}
			resp, err := v.try(logical.ReadOperation, "check/default", "now=true")
			v.mustSucceed("check now", resp, err)
			if n := len(v.sim.Calls()); n != 1 {
				t.Errorf("%d calls with now=true", n)
			}
			v.mustRefuse(logical.ReadOperation, "check/default", []string{"now=true"}, "15m0s", "try again at 2000-01-01T00:15:00Z")
			v.account.SwitchKey(v.root.AccessKey, true)
			<-time.After(15 * time.Minute)
			resp, err = v.try(logical.ReadOperation, "check/default", "now=true")
			v.mustSucceed("check now", resp, err)
			if resp.Data["account_id"] != testAccountID {
				t.Errorf("%v", resp.Data)
			}
			v.lease("app")
		},
		"now=true is one call, also where the cloud does not know the key": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Code: "4120"})
			v.sim.ResetCalls()
			_, _ = v.tryLease(t.Context(), "app")
			before := len(v.sim.Calls())
			resp, err := v.try(logical.ReadOperation, "check/default", "now=true")
			v.mustSucceed("check now", resp, err)
			if n := len(v.sim.Calls()) - before; n != 1 {
				t.Errorf("%d calls", n)
			}
		},
		"one run at a time, in the background class": func(t *testing.T, v *testVault) {
			v.configure()
			v.sim.Order(cloudsim.Fault{Op: "ReadAccounts", Kind: cloudsim.DelayAnswer, Delay: 3 * time.Second, Times: 2})
			began := time.Now()
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() { _, _ = v.try(logical.ReadOperation, "check/default") })
			}
			group.Wait()
			if took := time.Since(began); took < 6*time.Second {
				t.Errorf("both together took %s", took)
			}
		},
	})
}

// TestAKeyThatIsTriedNow is what now=true leaves behind.
func TestAKeyThatIsTriedNow(t *testing.T) {
	t.Parallel()
	// whileTried has the cloud take its time over the try, and something happen meanwhile.
	whileTried := func(v *testVault, do func()) {
		v.t.Helper()
		for _, op := range []string{"ReadAccessKeys", "ShowPermanentAccessKey"} {
			defer v.sim.Order(cloudsim.Fault{Op: op, Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second, Times: 1})()
		}
		var tried sync.WaitGroup
		tried.Go(func() { _, _ = v.try(logical.ReadOperation, "check/default", "now=true") })
		<-time.After(time.Second)
		do()
		tried.Wait()
	}
	mustTry := func(v *testVault) {
		v.t.Helper()
		resp, err := v.try(logical.ReadOperation, "check/default", "now=true")
		v.mustSucceed("check now", resp, err)
	}
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"an account that is deleted meanwhile stays deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			whileTried(v, func() {
				resp, err := v.try(logical.DeleteOperation, "config/default")
				v.mustSucceed("delete config", resp, err)
			})
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `account "default" is not configured`)
			v.mustHaveLive(0)
		},
		"a key that is rotated meanwhile stays replaced": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.advance(2 * time.Minute)
			whileTried(v, func() { v.rotate() })
			if opened, stored := v.backend.openedAccount("default"), v.accountConfig().AccessKey; opened != nil && opened.config.AccessKey != stored {
				t.Errorf("requests use %s, and the configuration has %s", opened.config.AccessKey, stored)
			}
			v.settle(time.Hour)
			v.lease("app")
		},
		"it is one of the three tries of a dead key in half an hour, and no fourth": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.switchKey(v.root.AccessKey, false)
			began := time.Now()
			v.sim.ResetCalls()
			for range 3 {
				_, _ = v.tryLease(t.Context(), "app")
				<-time.After(time.Minute)
			}
			mustTry(v)
			<-time.After(15 * time.Minute)
			v.mustRefuse(logical.ReadOperation, "check/default", []string{"now=true"}, "fourth", "at "+showTime(began.Add(30*time.Minute)))
			for time.Since(began) < 29*time.Minute {
				_, _ = v.tryLease(t.Context(), "app")
				<-time.After(time.Minute)
			}
			if n := len(v.sim.Calls()); n != 3 {
				t.Errorf("%d calls with a dead key in half an hour, want 3", n)
			}
			<-time.After(time.Minute)
			v.switchKey(v.root.AccessKey, true)
			mustTry(v)
			v.lease("app")
		},
		"refusals that it has ended are over for the next process as well": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.switchKey(v.root.AccessKey, false)
			v.settle(12 * time.Hour) // the next try by itself is hours away
			v.switchKey(v.root.AccessKey, true)
			mustTry(v)
			v.restart()
			v.lease("app")
		},
		"a restart does not put it off": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.switchKey(v.root.AccessKey, false)
			v.settle(12 * time.Hour)
			v.restart()
			v.switchKey(v.root.AccessKey, true)
			mustTry(v)
			v.lease("app")
		},
		"a refusal that comes after it holds the next process back": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			mustTry(v)
			v.switchKey(v.root.AccessKey, false)
			if l, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatalf("leased %s", l.AccessKey())
			}
			v.restart()
			v.sim.ResetCalls()
			_, err := v.tryLease(t.Context(), "app")
			if n := len(v.sim.Calls()); err == nil || n != 0 {
				t.Errorf("after %d calls: %v", n, err)
			}
		},
	})
}

// TestSentencesThatMisled are those of config/ and roles/ that sent people the wrong way.
func TestSentencesThatMisled(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"fields that nobody knows are named where something is missing": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"provider=outscale", "accesskey=A", "secretkey=B"},
				"access_key and secret_key are both needed", `Fields that are unknown here: "accesskey", "secretkey"`)
		},
		"sessions on OUTSCALE are refused as such, not for the fields beside them": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/x", []string{"user_names=app", "credential_type=session_token"},
				"session_token does not go with an account of OUTSCALE")
		},
		"a ttl below a minute is warned of": func(t *testing.T, v *testVault) {
			v.configure()
			mustHold(t, strings.Join(v.write("roles/x", "user_names=app", "ttl=10"), "\n"), "leases last 10s", "write 10m for minutes")
			if warnings := v.write("roles/y", "user_names=app", "ttl=10m", "max_ttl=1h"); len(warnings) != 0 {
				t.Errorf("%q", warnings)
			}
		},
		"the limit that has cut a lease stands in its warning": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			resp, err := v.try(logical.UpdateOperation, "creds/app", "ttl=5h")
			v.mustSucceed("creds", resp, err)
			mustHold(t, strings.Join(resp.Warnings, "\n"), "the lease is cut to 1h0m0s by the role's max_ttl (5h0m0s was asked for)")
		},
		"a full pool says what to do": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 10 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "10 others", "revoke leases", "name more users in user_names")
		},
		"a region that has no address is named, as a 400": func(_ *testing.T, v *testVault) {
			v.base = unresolved{}
			v.restart()
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"provider=outscale", "region=eu-west2", "access_key=A", "secret_key=B"},
				"check endpoint and region", "api.eu-west2.outscale.com", "OUTSCALE's are eu-west-2")
		},
		"an address of Huawei Cloud that does not exist names no region of OUTSCALE": func(t *testing.T, v *testVault) {
			v.base = unresolved{}
			v.restart()
			resp, err := v.try(logical.UpdateOperation, "config/default", "provider=huawei", "region=eu-west-2",
				"endpoint=https://iam.example.com", "access_key=A", "secret_key=B")
			if err != nil || !resp.IsError() {
				t.Fatalf("%v, %v", resp, err)
			}
			if said := resp.Error().Error(); !strings.Contains(said, "iam.example.com does not resolve") || strings.Contains(said, "OUTSCALE") {
				t.Error(said)
			}
		},
		"a wrong secret is named among the causes": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), "secret_key=WRONG"), "secret_key")
		},
		"a refusal is short, whatever was sent": func(t *testing.T, v *testVault) {
			v.configure()
			resp, err := v.try(logical.UpdateOperation, "roles/x", "user_names="+strings.Repeat("é", 100_000))
			if err != nil || !resp.IsError() || len(resp.Error().Error()) > 1024 {
				t.Errorf("%v, %d bytes", err, len(resp.Error().Error()))
			}
		},
	})
}

// unresolved knows no host.
type unresolved struct{}

// RoundTrip implements http.RoundTripper.
func (unresolved) RoundTrip(req *http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: req.URL.Hostname(), IsNotFound: true}}
}

// TestARenewalOfAKeyThatIsSwitchedOff is E24.
func TestARenewalOfAKeyThatIsSwitchedOff(t *testing.T) {
	t.Parallel()
	refuses := func(switchKey func(v *testVault, id string, active bool)) func(t *testing.T, v *testVault) {
		return func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.settleNew()
			switchKey(v, l.AccessKey(), false)
			err := v.renew(l, 0)
			if err == nil {
				t.Fatal("renewed")
			}
			mustHold(t, err.Error(), l.AccessKey(), "switched off", "ask for a new one")
			switchKey(v, l.AccessKey(), true)
			if err := v.renew(l, 0); err != nil {
				t.Errorf("after it was switched on again: %v", err)
			}
			v.mustRevoke(l)
			v.mustHaveLive(0)
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E24: it is refused": refuses(func(v *testVault, id string, active bool) { v.account.SwitchKey(id, active) }),
	})
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"E24: it is refused": refuses(func(v *testVault, id string, active bool) {
			v.domain.SetKeyState(id, map[bool]string{true: cloudsim.IAMActive, false: cloudsim.IAMInactive}[active])
		}),
	})
}
