// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	testLogin    = "owner-of-everything@example.com"
	testPassword = "correct horse battery staple"
)

func TestFirstKey(t *testing.T) {
	t.Parallel()
	// alone removes the key that the simulated account begins with.
	alone := func(v *testVault) { v.account.DeleteKey(v.account.RootKey().AccessKey) }
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"login and password make the engine's own key, and are forgotten": func(t *testing.T, v *testVault) {
			alone(v)
			warnings := v.write("config/default", v.signInFields()...)
			v.mustForget()
			config := v.read("config/default")
			if config["access_key"] == "" || config["account_id"] != testAccountID || config["identity"] != "root" ||
				config["key_expiration"] != "" {
				t.Errorf("%v", config)
			}
			text, err := json.Marshal([]any{config, warnings})
			if err != nil {
				t.Fatal(err)
			}
			for _, hidden := range []string{testLogin, testPassword, "login", "password"} {
				if strings.Contains(string(text), hidden) {
					t.Errorf("%q shows in %s", hidden, text)
				}
			}
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.mustRevoke(v.lease("app"))
			v.mustWork("afterwards")
			v.mustHaveNoFirstKeys()
			v.mustHaveLedger(1)
		},
		"lists that show a new key seconds later are waited for: they alone tell whose it is": func(_ *testing.T, v *testVault) {
			alone(v)
			v.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
			v.write("config/default", v.signInFields()...)
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.mustRevoke(v.lease("app"))
			v.mustHaveNoFirstKeys()
		},
		"the key that is kept has the date that the policy asks for": func(t *testing.T, v *testVault) {
			alone(v)
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 300})
			v.write("config/default", v.signInFields()...)
			v.write("roles/app", "user_names=app")
			key, _ := v.account.Key(v.read("config/default")["access_key"].(string))
			if left := time.Until(key.Expires); left < 290*time.Second || left > 295*time.Second {
				t.Errorf("it has %s left", left)
			}
			v.settle(day / 4)
			v.mustRevoke(v.lease("app"))
		},
		"calls with the password are few, and one refusal ends them": func(t *testing.T, v *testVault) {
			fields := append(v.signInFields(), "password=wrong")
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, "refuses login and password", `account "default"`, "lock")
			if calls := v.sim.Calls(); len(calls) != 1 {
				t.Errorf("%d calls", len(calls))
			}
			if resp, _ := v.try(logical.ReadOperation, "config/default"); resp != nil {
				t.Error("stored")
			}
			v.mustHaveNoFirstKeys()
			v.sim.ResetCalls()
			v.write("config/default", v.signInFields()...)
			signed := 0
			for _, call := range v.sim.Calls() {
				if call.Login {
					signed++
				}
			}
			if signed != 3 {
				t.Errorf("%d calls with login and password", signed)
			}
		},
		"refused passwords do not lock the account: two are tried within ten minutes": func(t *testing.T, v *testVault) {
			for i, says := range []string{
				"refuses login and password", "refuses login and password", "not asked again before",
				"not asked again before",
			} {
				v.mustRefuse(logical.UpdateOperation, "config/default", append(v.signInFields(), fmt.Sprintf("password=wrong%d", i)), says)
			}
			if v.account.Locked() {
				t.Error("locked")
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", v.signInFields(), "not asked again before")
			<-time.After(refusalWindow)
			v.write("config/default", v.signInFields()...)
		},
		"an account that others have locked is named so": func(_ *testing.T, v *testVault) {
			for i, key := range []string{v.root.AccessKey, v.account.AddKey(cloudsim.KeySpec{}).AccessKey} {
				for j := range 2 {
					wrong := append(v.accountFields(), "access_key="+key, fmt.Sprintf("secret_key=WRONG%d%d", i, j))
					v.mustRefuse(logical.UpdateOperation, "config/default", wrong, "the cloud refuses the access key")
				}
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", v.signInFields(), "locked")
		},
		"only one kind of credentials is taken, whole": func(t *testing.T, v *testVault) {
			fields := v.signInFields()
			v.mustRefuse(logical.UpdateOperation, "config/default", append(fields, "access_key=A", "secret_key=B"),
				"either access_key and secret_key, or login and password")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(fields, "password="), "login and password are both needed")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(fields, "verify=false"), "leave out verify=false")
			v.mustRefuse(logical.UpdateOperation, "config/default", append(fields, "provider=huawei"), "makes no key with login and password")
			if calls := v.sim.Calls(); len(calls) != 0 {
				t.Errorf("%d calls", len(calls))
			}
		},
		"a full root user is refused with the counts": func(t *testing.T, v *testVault) {
			for range 8 {
				v.account.AddKey(cloudsim.KeySpec{})
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", v.signInFields(), "9 of 10 access keys", "9 others", "2 free slots")
			v.mustHaveNoFirstKeys()
			v.mustHaveLive(0)
		},
		"a refusal tells the account's own keys from others": func(_ *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			for range 8 {
				v.account.AddKey(cloudsim.KeySpec{})
			}
			v.mustRefuse(logical.UpdateOperation, "config/default", v.signInFields(), "9 of 10 access keys",
				"1 of this account's configuration, 8 others")
		},
		"it replaces the key of an account that has one": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			made := v.rotate()["access_key"].(string)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			v.account.DeleteKey(made) // the engine has lost its key
			v.write("config/default", v.signInFields()...)
			if err := v.renew(l, 0); err != nil {
				t.Error(err)
			}
			v.mustRevoke(l)
			v.mustWork("after the replacement")
			v.mustForget()
		},
		"it does not turn an account that is used to another cloud account": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			other := v.sim.AddAccount("999999999999")
			other.SetLogin("other@example.com", testPassword)
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{
				"region=" + testRegion, "login=other@example.com",
				"password=" + testPassword,
			}, "is in use", "999999999999")
			if keys := other.Keys(); len(keys) != 1 {
				t.Errorf("%d keys in the other account", len(keys))
			}
			v.mustHaveNoFirstKeys()
		},
		"it turns one that is not used": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			other := v.sim.AddAccount("999999999999")
			other.SetLogin("other@example.com", testPassword)
			v.write("config/default", "region="+testRegion, "login=other@example.com", "password="+testPassword)
			if id := v.accountConfig().AccountID; id != "999999999999" {
				t.Errorf("account %s", id)
			}
			v.mustHaveNoFirstKeys()
		},
		"a key that does not work is deleted with the login": func(t *testing.T, v *testVault) {
			v.sim.Order(cloudsim.Fault{Op: "ReadAccounts", Kind: cloudsim.Refuse, Status: 500})
			resp, err := v.try(logical.UpdateOperation, "config/default", v.signInFields()...)
			if failure(resp, err) == nil {
				t.Error("accepted")
			}
			v.mustHaveLive(0)
			v.mustHaveNoFirstKeys()
		},
		"a client that hangs up leaves no key": func(t *testing.T, v *testVault) {
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			v.sim.OnAnswer(func(c cloudsim.Call) {
				if c.Op == "CreateAccessKey" {
					hangUp()
				}
			})
			resp, err := v.request(ctx, logical.UpdateOperation, "config/default", v.signInFields()...)
			if failure(resp, err) == nil {
				t.Error("accepted")
			}
			v.mustHaveLive(0)
			v.mustHaveNoFirstKeys()
		},
		"a key that neither works nor can be deleted keeps its entry, until an account ends it": func(t *testing.T, v *testVault) {
			for _, op := range []string{"ReadAccounts", "DeleteAccessKey"} {
				defer v.sim.Order(cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 500})()
			}
			resp, err := v.try(logical.UpdateOperation, "config/default", v.signInFields()...)
			if failure(resp, err) == nil {
				t.Error("accepted")
			}
			v.mustHaveLive(1)
			if n := len(v.firstKeys()); n != 1 {
				t.Errorf("%d entries", n)
			}
		},
		"a tick does not delete the key of a request that still runs": func(t *testing.T, v *testVault) {
			v.write("config/other", v.accountFields()...)
			ticked := false
			live := v.base
			v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := live.RoundTrip(req)
				if !ticked && strings.HasSuffix(req.URL.Path, "/CreateAccessKey") {
					ticked = true
					ctx, cancel := context.WithTimeout(t.Context(), tickBudget)
					defer cancel()
					if err := v.backend.tendAccount(ctx, v.storage, "other", noStaticRoles, new(time.Time)); err != nil {
						t.Error(err)
					}
				}
				return resp, err
			})
			v.write("config/default", v.signInFields()...)
			if !ticked {
				t.Error("no tick: the test proves nothing")
			}
			v.mustWorkFor("default")
		},
		"a lost answer leaves nothing, or an entry that waits": func(t *testing.T, v *testVault) {
			cancel := v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})
			resp, err := v.try(logical.UpdateOperation, "config/default", v.signInFields()...)
			if failure(resp, err) == nil {
				t.Error("accepted")
			} else {
				v.mustHideSecrets(failure(resp, err).Error())
			}
			cancel()
			v.mustHaveLive(0)
			v.mustHaveNoFirstKeys()
		},
		"a rotation that fails does not undo the account": func(t *testing.T, v *testVault) {
			alone(v)
			cancel := v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Skip: 1, Kind: cloudsim.Refuse, Status: 400, Code: "10005"})
			warnings := v.write("config/default", v.signInFields()...)
			mustHold(t, strings.Join(warnings, " "), "could not be replaced yet")
			v.mustRefuse(logical.DeleteOperation, "keys/"+v.read("config/default")["access_key"].(string), nil, "is the engine's own",
				"rotate-root/default")
			cancel()
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.settle(firstKeyLife)
			v.mustWork("after the automatic rotation")
		},
		"a death at any step leaves no half configuration, and no key that the next write does not end": func(t *testing.T, v *testVault) {
			alone(v)
			fields := v.signInFields()
			steps := 0
			for ; v.dieAt(steps, func(context.Context) { _, _ = v.try(logical.UpdateOperation, "config/default", fields...) }); steps++ {
				when := fmt.Sprintf("a death at step %d", steps)
				v.restart()
				v.mustForget()
				v.mustKnowOwnKeys(when)
				if config, err := load[accountConfig](t.Context(), v.storage.Storage, "config/default"); err != nil {
					t.Fatal(err)
				} else if config != nil && (config.AccessKey == "" || config.SecretKey == "" || config.AccountID == "") {
					t.Errorf("%s: half a configuration", when)
				}
				v.write("config/default", fields...)
				v.write("roles/app", "user_names=app", "ttl=10m")
				v.mustWork(when)
				v.settle(firstKeyLife + firstKeyPause)
				v.mustWork(when + ", later")
				v.mustHaveNoFirstKeys()
				v.mustHaveLedger(1)
				v.startOver()
			}
			if steps < 12 {
				t.Errorf("only %d steps", steps)
			}
		},
		"a failure of any storage write does neither": func(t *testing.T, v *testVault) {
			alone(v)
			fields := v.signInFields()
			for write := 0; v.failWrite(write, func() { _, _ = v.try(logical.UpdateOperation, "config/default", fields...) }); write++ {
				when := fmt.Sprintf("a failure of write %d", write)
				v.mustKnowOwnKeys(when)
				v.write("config/default", fields...)
				v.write("roles/app", "user_names=app", "ttl=10m")
				v.settle(firstKeyLife + firstKeyPause)
				v.mustWork(when)
				v.mustHaveNoFirstKeys()
				v.startOver()
			}
		},
		"a key whose request died ends by itself, its entry waits quietly, and another account of the same cloud account ends " +
			"it": func(t *testing.T, v *testVault) {
			v.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, "config/") {
					return errInjected
				}
				return nil
			}
			if resp, err := v.try(logical.UpdateOperation, "config/default", v.signInFields()...); failure(resp, err) == nil {
				t.Fatal("accepted")
			}
			v.storage.before = nil
			v.mustHaveLive(1)
			v.sim.ResetCalls()
			v.settle(firstKeyLife + rollbackPeriod)
			v.mustHaveLive(0)
			if calls := v.sim.Calls(); len(calls) != 0 {
				t.Errorf("%d calls without an account", len(calls))
			}
			if err := v.tick(); err != nil {
				t.Errorf("it complains every minute: %v", err)
			}
			v.write("config/other", v.accountFields()...)
			v.settle(2 * rollbackPeriod)
			v.mustHaveNoFirstKeys()
			if keys := v.account.Keys(); len(keys) != 1 {
				t.Errorf("%d keys in the cloud", len(keys))
			}
		},
		"a first key whose entry is still begun is no orphan to another account of the same cloud account": func(t *testing.T, v *testVault) {
			v.write("config/other", v.accountFields()...)
			v.failWrites(ledger.Prefix, 2)
			v.write("config/default", v.signInFields()...)
			v.storage.before = nil
			if len(v.firstKeys()) != 1 {
				t.Fatal("the entry of the first key is settled: the test proves nothing")
			}
			<-time.After(begunAge + time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), tickBudget)
			defer cancel()
			if err := v.backend.tendAccount(ctx, v.storage, "default", noStaticRoles, new(time.Time)); err != nil {
				t.Error(err)
			}
			v.mustHaveNoFirstKeys()
			v.tidy("account=other")
			v.mustTidied(tidyDone, nil, "orphans_found", "")
			v.mustWorkFor("default")
		},
		"another account of the same cloud account leaves a first key that is stored alone": func(t *testing.T, v *testVault) {
			v.write("config/other", v.accountFields()...)
			v.failWrites(ledger.Prefix, 2)
			v.write("config/default", v.signInFields()...)
			v.storage.before = nil
			if len(v.firstKeys()) != 1 {
				t.Fatal("the entry of the first key is settled: the test proves nothing")
			}
			<-time.After(begunAge + time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), tickBudget)
			defer cancel()
			if err := v.backend.tendAccount(ctx, v.storage, "other", noStaticRoles, new(time.Time)); err != nil { // before its own account does
				t.Error(err)
			}
			v.mustHaveNoFirstKeys()
			v.mustWorkFor("default")
		},
		"an entry that its account cannot end does not keep the account from being deleted for ever": func(t *testing.T, v *testVault) {
			v.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, "config/") {
					return errInjected
				}
				return nil
			}
			_, _ = v.try(logical.UpdateOperation, "config/default", append(v.signInFields(),
				"endpoint=https://api.eu-west-2.outscale.com/api/v1")...)
			v.storage.before = nil
			v.write("config/default", v.accountFields()...) // elsewhere
			v.settle(firstKeyLife - rollbackPeriod)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "still being cleaned up")
			v.settle(firstKeyPause + 2*rollbackPeriod)
			v.mustHaveNoFirstKeys()
			resp, err := v.try(logical.DeleteOperation, "config/default")
			v.mustSucceed("delete", resp, err)
		},
		"an entry whose key this machine's clock alone finds past its date is kept": func(t *testing.T, v *testVault) {
			v.sim.SetClockSkew(-10 * time.Minute) // the cloud's, so that this machine's is ahead
			v.failWrites("config/", 1)
			_, _ = v.try(logical.UpdateOperation, "config/default", append(v.signInFields(),
				"endpoint=https://api.eu-west-2.outscale.com/api/v1")...)
			v.storage.before = nil
			v.write("config/default", v.accountFields()...) // elsewhere
			v.settle(firstKeyLife - rollbackPeriod)
			if len(v.firstKeys()) != 1 {
				t.Error("the entry is gone, and its key works")
			}
		},
		"nor does setting the clock right drop it early": func(t *testing.T, v *testVault) {
			v.sim.SetClockSkew(10 * time.Minute) // this machine's is behind
			v.failWrites("config/", 1)
			_, _ = v.try(logical.UpdateOperation, "config/default", append(v.signInFields(),
				"endpoint=https://api.eu-west-2.outscale.com/api/v1")...)
			v.storage.before = nil
			v.sim.SetClockSkew(0)
			v.write("config/default", v.accountFields()...) // elsewhere
			v.settle(firstKeyLife + 9*time.Minute)
			if len(v.firstKeys()) != 1 {
				t.Error("the entry is gone, and its key works")
			}
		},
		"an entry whose account is never configured is dropped, and logged, a day after its key has ended": func(t *testing.T, v *testVault) {
			var log bytes.Buffer
			v.logger = hclog.New(&hclog.LoggerOptions{Output: &log})
			v.restart()
			v.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, "config/") {
					return errInjected
				}
				return nil
			}
			_, _ = v.try(logical.UpdateOperation, "config/default", v.signInFields()...)
			v.storage.before = nil
			entries := v.firstKeys()
			if len(entries) != 1 {
				t.Fatalf("%v", entries)
			}
			v.settle(firstKeyLife + firstKeyPatience - 10*rollbackPeriod)
			if left := v.firstKeys(); len(left) != 1 {
				t.Errorf("dropped before its time: %v", left)
			}
			v.settle(20 * rollbackPeriod)
			v.mustHaveNoFirstKeys()
			mustHold(t, log.String(), "never configured", entries[0].Label)
		},
		"an account of another cloud account leaves the entry alone, and tidy shows it": func(t *testing.T, v *testVault) {
			v.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, "config/") {
					return errInjected
				}
				return nil
			}
			_, _ = v.try(logical.UpdateOperation, "config/default", v.signInFields()...)
			v.storage.before = nil
			other := v.sim.AddAccount("999999999999").RootKey()
			v.root = other
			v.write("config/other", v.accountFields()...)
			v.sim.ResetCalls()
			v.settle(2 * time.Hour)
			if n := v.sim.CountCalls("ReadAccessKeys"); n < 5 || n > 15 {
				t.Errorf("%d looks in two hours", n)
			}
			v.tidy()
			mustHold(t, strings.Join(v.read("tidy-status")["waiting"].([]string), " "), "first key labelled", `account "default"`)
		},
	})
}
