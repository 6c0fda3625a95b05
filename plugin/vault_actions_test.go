// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// pool makes so many EIM users and returns the role's field with them.
func (v *testVault) pool(users int) string {
	names := make([]string, users)
	for i := range names {
		names[i] = fmt.Sprintf("pool%d", i)
		v.account.AddUser(names[i])
	}
	return "user_names=" + strings.Join(names, ",")
}

// storm reads creds/app so many times at once, and tells how many got a key and how many
// an HTTP 400.
func (v *testVault) storm(requests int) (given, refused int) {
	v.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range requests {
		wg.Go(func() {
			resp, err := v.try(logical.ReadOperation, "creds/app")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
			case resp.IsError():
				refused++
			default:
				given++
			}
		})
	}
	wg.Wait()
	return given, refused
}

// makeHealthy configures an account that nothing can be said against: a policy of a day,
// and a root key with a date.
func (v *testVault) makeHealthy() {
	v.t.Helper()
	v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: int64(day / time.Second)})
	v.rootKeyWithDate(day)
	v.configure("ttl=10m")
	v.account.DeleteKey(v.account.RootKey().AccessKey)
}

// serveBeside lets many clients read creds/app in a loop for a while, during which another,
// with a role of its own, must not wait for long.
func (v *testVault) serveBeside(pace string, clients int, pause time.Duration) {
	v.t.Helper()
	v.account.AddUser("other")
	v.write("config/default", pace)
	v.write("roles/other", "user_names=other", "ttl=10m")
	end := time.Now().Add(time.Minute)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for time.Now().Before(end) {
				_, _ = v.try(logical.ReadOperation, "creds/app")
				<-time.After(pause)
			}
		})
	}
	for time.Now().Before(end) {
		asked := time.Now()
		l, err := v.tryLease(v.t.Context(), "other")
		if err != nil {
			v.t.Fatalf("beside the loop: %v", err)
		}
		v.mustRevoke(l)
		if took := time.Since(asked); took > 10*time.Second {
			v.t.Errorf("a lease and its revoke took %s beside the loop", took)
		}
		<-time.After(20 * time.Second)
	}
	group.Wait()
}

// signInFields write the account "default" with login and password.
func (v *testVault) signInFields() []string {
	v.account.SetLogin(testLogin, testPassword)
	return []string{
		"provider=outscale", "region=" + testRegion, "endpoint=" + testEndpoint, "max_requests_per_second=1000",
		"login=" + testLogin, "password=" + testPassword,
	}
}

// becomePrimary makes the node a performance primary of Vault Enterprise.
func (v *testVault) becomePrimary() {
	v.system.become(consts.ReplicationPerformancePrimary)
	v.system.PluginEnvironment = &logical.PluginEnvironment{VaultVersion: "1.21.2", VaultVersionMetadata: "ent.hsm"}
}

// startOver takes account and keys away, for the next round.
func (v *testVault) startOver() {
	v.t.Helper()
	resp, err := v.try(logical.DeleteOperation, "config/default")
	v.mustSucceed("delete", resp, err)
	for _, key := range v.account.Keys() {
		if key.User == "" {
			v.account.DeleteKey(key.ID)
		}
	}
}

// rawRequest is a request as Vault's HTTP layer would make it.
func (v *testVault) rawRequest(op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	v.t.Helper()
	ctx := v.t.Context()
	req := &logical.Request{Operation: op, Path: path, Storage: v.storage, Data: data, DisplayName: "token"}
	if op == logical.UpdateOperation {
		check, exists, err := v.engine.HandleExistenceCheck(ctx, req)
		if err != nil {
			return nil, err
		}
		if check && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	return v.engine.HandleRequest(ctx, req)
}

func (v *testVault) leaseJob(ctx context.Context) { _, _ = v.tryLease(ctx, "job") }

// configureSessions writes the account and the role "job", whose sessions are of the agency
// "deployers".
func (v *testVault) configureSessions(role ...string) []string {
	v.t.Helper()
	v.domain.AddAgency("deployers", v.domain, "ecs:*")
	v.write("config/default", v.accountFields()...)
	return v.write("roles/job", append([]string{"credential_type=session_token", "agency_name=deployers"}, role...)...)
}

// scrape reads metrics, in whichever form the answer takes on its way.
func (v *testVault) scrape() map[string]float64 {
	v.t.Helper()
	resp, err := v.rawRequest(logical.ReadOperation, "metrics", nil)
	v.mustSucceed("read metrics", resp, err)
	data := resp.Data
	if data[logical.HTTPContentType] != metricsContentType || fmt.Sprint(data[logical.HTTPStatusCode]) != "200" {
		v.t.Fatalf("answered %v as %v", data[logical.HTTPStatusCode], data[logical.HTTPContentType])
	}
	return parseMetrics(v.t, data[logical.HTTPRawBody].(string))
}

// leaveBegun lets a request fail in such a way that its entry is left to the rollback.
func (v *testVault) leaveBegun() {
	v.t.Helper()
	defer v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})()
	defer v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RefuseConnection})()
	if _, err := v.tryLease(v.t.Context(), "app"); err == nil {
		v.t.Fatal("leased")
	}
}

// replaceConfig changes the account in storage, as replication does.
func (v *testVault) replaceConfig(change func(*accountConfig)) {
	v.t.Helper()
	config, err := load[accountConfig](v.t.Context(), v.storage, "config/default")
	if err != nil {
		v.t.Fatal(err)
	}
	change(config)
	if err := save(v.t.Context(), v.storage, "config/default", config); err != nil {
		v.t.Fatal(err)
	}
	v.engine.InvalidateKey(v.t.Context(), "config/default")
}

// kill deletes a lease's key by the ledger's path.
func (v *testVault) kill(l *testLease) {
	v.t.Helper()
	resp, err := v.try(logical.DeleteOperation, "keys/"+l.AccessKey())
	v.mustSucceed("delete key", resp, err)
}

// patch sends a JSON merge patch and returns the warnings.
func (v *testVault) patch(path string, fields map[string]any) []string {
	v.t.Helper()
	resp, err := v.send(v.t.Context(), logical.PatchOperation, path, fields)
	v.mustSucceed("patch "+path, resp, err)
	if resp == nil {
		return nil
	}
	for field := range resp.Data {
		if secretFields[field] {
			v.t.Errorf("patch %s answers %s", path, field)
		}
	}
	return resp.Warnings
}

// ask is a step that is one request.
func (v *testVault) ask(name string, op logical.Operation, path string, fields ...string) step {
	return step{name, func() error { return failure(v.try(op, path, fields...)) }}
}

// settle lets time pass with the rollback manager's ticks. It skips the check after each
// step, for tests that plant keys which the engine does not know. The first tick puts the comparison at a random time within a day: after
// a day and one more step it surely was.
func (v *testVault) settle(d time.Duration) {
	v.t.Helper()
	step := rollbackPeriod
	if d > 12*time.Hour {
		step = 5 * rollbackPeriod // days of ticks take seconds to run
	}
	v.settleBy(step, d)
}

// settleBy does so with ticks of another period.
func (v *testVault) settleBy(step, d time.Duration) {
	v.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-time.After(min(step, time.Until(end)))
		if err := v.tick(); err != nil {
			v.t.Logf("tick: %v", err)
		}
	}
}

// compareIn compares an identity with the ledger after a while, beside what the test does meanwhile, and
// returns what that has removed.
func (v *testVault) compareIn(d time.Duration, identity string) <-chan []string {
	v.t.Helper()
	removed := make(chan []string, 1)
	go func() {
		<-time.After(d)
		var report tidyReport
		c := &comparer{backend: v.backend, storage: v.storage, name: "default", note: func(change func(*tidyReport)) { change(&report) }}
		if err := c.advance(v.t.Context(), &comparison{Left: []string{identity}}); err != nil {
			v.t.Error(err)
		}
		removed <- report.Removed.Lines
	}()
	return removed
}

// surviveUnder lets the engine run under a policy that ends its own keys too, and leases,
// renews and revokes all the while.
func (v *testVault) surviveUnder(policy int64, d, pause time.Duration) {
	v.t.Helper()
	v.deleteKey(v.account.RootKey().AccessKey)
	v.rootKeyWithDate(time.Duration(policy)*time.Second - lifetime.ClockMargin)
	v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: policy})
	v.configure()
	tick := rollbackPeriod
	if policy > 600 {
		tick *= 2 // every other tick must do
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		l, err := v.tryLease(v.t.Context(), "app")
		if err != nil {
			v.t.Fatalf("%s before the end: %v", time.Until(end), err)
		}
		v.settle(rollbackPeriod / 2)
		if err := v.renew(l, 0); err != nil && policy > 600 {
			v.t.Fatalf("%s before the end: renewing: %v", time.Until(end), err)
		}
		v.mustRevoke(l)
		v.settleBy(tick, pause)
	}
	if v.locked() {
		v.t.Error("the account is locked")
	}
	// The engine's own key, and those that it has just replaced.
	if n := len(v.liveKeys()); n < 1 || n > 3 {
		v.t.Errorf("%d of our keys live in the cloud", n)
	}
}

func (v *testVault) rotate() map[string]any {
	v.t.Helper()
	resp, err := v.try(logical.UpdateOperation, "rotate-root/default")
	v.mustSucceed("rotate-root", resp, err)
	return resp.Data
}

// label is one that this mount could have written.
func (v *testVault) label() string {
	v.t.Helper()
	return keylabel.New(v.read("info")["instance_id"].(string), keylabel.KindLease).String()
}

// orphan plants a key with this mount's label that it does not know.
func (v *testVault) orphan(user string) string {
	v.t.Helper()
	return v.addKey(user, v.label(), time.Now().Add(30*day)).AccessKey
}

// tidy runs a tidy to its end.
func (v *testVault) tidy(fields ...string) {
	v.t.Helper()
	resp, err := v.try(logical.UpdateOperation, "tidy", fields...)
	v.mustSucceed("write tidy", resp, err)
	if resp.Data["state"] != tidyRunning {
		v.t.Errorf("state %v at the start", resp.Data["state"])
	}
	synctest.Wait()
	for range 100 {
		if v.backend.tidying.current() == nil {
			return
		}
		<-time.After(time.Second)
	}
	v.t.Fatal("it does not end")
}

// pastRollback lets the rollbacks of a failed request end.
func (v *testVault) pastRollback() { v.advance(begunAge + 3*rollbackPeriod) }

// configureUsers writes the account, and the role "job", whose leases have a user of
// their own with three policies, an inline one and two groups.
func (v *testVault) configureUsers(role ...string) {
	v.t.Helper()
	if v.domain != nil {
		v.domain.AddGroup("readers")
		v.domain.AddGroup("builders")
		v.write("config/default", v.accountFields()...)
		v.write("roles/job", append([]string{"credential_type=iam_user", "ttl=10m", "groups=readers,builders"}, role...)...)
		return
	}
	orns := []string{v.account.AddPolicy("one", "api:ReadVms"), v.account.AddPolicy("two"), v.account.AddPolicy("three")}
	v.account.AddGroup("/", "readers")
	v.account.AddGroup("/ci/", "builders")
	v.write("config/default", v.accountFields()...)
	v.write("roles/job", append([]string{
		"credential_type=iam_user", "ttl=10m", "user_path=/ci/", "policy_document=" + testDocument,
		"policy_orns=" + strings.Join(orns, ","), "groups=readers,/ci/builders",
	}, role...)...)
}

// leasedUser is the user in the cloud that a lease is of.
func (v *testVault) leasedUser(l *testLease) cloudsim.User {
	v.t.Helper()
	if v.domain != nil {
		user, there := v.domain.User(l.Data["user_name"].(string))
		if !there {
			v.t.Fatalf("user %v is not in the cloud", l.Data["user_name"])
		}
		return cloudsim.User{ID: user.ID, Name: user.Name, Keys: user.Keys, Groups: user.Groups}
	}
	user, there := v.account.User(l.Data["user_name"].(string))
	if !there {
		v.t.Fatalf("user %v is not in the cloud", l.Data["user_name"])
	}
	return user
}

// accountConfig is the stored configuration of the account "default".
func (v *testVault) accountConfig() *accountConfig {
	v.t.Helper()
	config, err := load[accountConfig](v.t.Context(), v.storage, configPrefix+"default")
	if err != nil || config == nil {
		v.t.Fatalf("no account: %v", err)
	}
	return config
}
