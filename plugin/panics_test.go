// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAPanicCostsOneRequest orders a panic at each storage and each cloud call of an operation on either cloud,
// as the schedules order faults, and at some of them where the engine is behind a plugin's wire: afterwards the same
// role and everything else is served, and no request hangs.
func TestAPanicCostsOneRequest(t *testing.T) {
	t.Parallel()
	// Before the tick, keys of a lease, of a user and of a request have been forgotten, and rotations are due.
	prepare := map[string]func(v *testVault){
		"tick with much to do": func(v *testVault) {
			v.lease("job")
			v.leases = nil
			v.leaveBegun()
			v.write("config/default", "rotation_period=12h")
			<-time.After(25 * time.Hour)
		},
	}
	operations := map[string]func(v *testVault, l *testLease){
		"issue":         func(v *testVault, _ *testLease) { _, _ = v.try(logical.ReadOperation, "creds/app") },
		"issue a user":  func(v *testVault, _ *testLease) { _, _ = v.try(logical.ReadOperation, "creds/job") },
		"issue, capped": func(v *testVault, _ *testLease) { _, _ = v.try(logical.ReadOperation, "creds/capped") },
		"renew":         func(v *testVault, l *testLease) { _ = v.renew(l, 0) },
		"revoke":        func(v *testVault, l *testLease) { _ = v.revoke(l) },
		"renew a user":  func(v *testVault, _ *testLease) { _ = v.renew(v.leases[1], 0) },
		"revoke a user": func(v *testVault, _ *testLease) { _ = v.revoke(v.leases[1]) },
		"rotate root":   func(v *testVault, _ *testLease) { _, _ = v.try(logical.UpdateOperation, "rotate-root/default") },
		"rotate static": func(v *testVault, _ *testLease) { _, _ = v.try(logical.UpdateOperation, "rotate-role/db") },
		"delete a key":  func(v *testVault, l *testLease) { _, _ = v.try(logical.DeleteOperation, "keys/"+l.AccessKey()) },
		"write config": func(v *testVault, _ *testLease) {
			_, _ = v.try(logical.UpdateOperation, "config/default", "max_ttl=1h")
		},
		"check": func(v *testVault, _ *testLease) { _, _ = v.try(logical.ReadOperation, "check/default") },
		"tick": func(v *testVault, _ *testLease) {
			<-time.After(policyRefresh)
			_ = v.tick()
		},
		"tick with much to do": func(v *testVault, _ *testLease) {
			for range 2 {
				_ = v.tick()
				<-time.After(rollbackPeriod)
			}
		},
		"tidy": func(v *testVault, _ *testLease) {
			_, _ = v.try(logical.UpdateOperation, "tidy")
			synctest.Wait()
		},
	}
	panics := func(new func(t *testing.T) *testVault, prefix string, every int) {
		for name, operation := range operations {
			t.Run(prefix+name, func(t *testing.T) {
				t.Parallel()
				for step, reached := 0, true; reached; step += every {
					synctest.Test(t, func(t *testing.T) {
						v := new(t)
						l := v.preparePanic(strings.HasSuffix(name, "a user"))
						if prepare[name] != nil {
							prepare[name](v)
						}
						other := v.anotherMount()
						reached = v.panicAt(step, func() { operation(v, l) })
						if reached {
							other.mustRevoke(other.lease("app")) // another mount of the process
							v.mustServe()
						}
					})
					if step > 500 || step == 0 && !reached {
						t.Fatal("the operation has no end, or makes no call: the test proves nothing")
					}
				}
			})
		}
	}
	overGRPC := func(new func(t *testing.T) *testVault) func(t *testing.T) *testVault {
		return func(t *testing.T) *testVault {
			v := new(t)
			v.overGRPC = true
			v.restart()
			return v
		}
	}
	panics(newTestVault, "", 1)
	panics(newHuaweiVault, "on Huawei Cloud: ", 1)
	panics(overGRPC(newTestVault), "over gRPC: ", 7)
	panics(overGRPC(newHuaweiVault), "on Huawei Cloud, over gRPC: ", 7)
}

// preparePanic configures roles of all kinds, and leases a key, and a user if that is asked for.
func (v *testVault) preparePanic(withUser bool) *testLease {
	v.t.Helper()
	for _, name := range []string{"app2", "app3", "app4", "db"} {
		v.addUser(name)
	}
	v.configureUsers("ttl=10m")
	for _, role := range [][]string{{"roles/app"}, {"roles/capped", "max_active_keys=5"}} {
		v.write(role[0], append(role[1:], "user_names=app,app2,app3,app4", "ttl=10m")...)
	}
	v.write("static-roles/db", "user_name=db", "rotation_period=24h", "rotation_grace_period=1m")
	l := v.lease("app")
	if withUser {
		v.lease("job")
	}
	return l
}

// anotherMount is one of the same process, on another account of the cloud.
func (v *testVault) anotherMount() *testVault {
	v.t.Helper()
	other := newTestVaultOn(v.t, v.sim, v.account)
	if v.domain == nil {
		other.account = v.sim.AddAccount("210987654321")
		other.root = other.account.RootKey()
	} else {
		other.domain, other.base = v.sim.AddDomain("other"), v.base
		other.domain.AddUser("vault", cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
		other.root = other.domain.AddKey(cloudsim.IAMKeySpec{User: "vault"})
		other.restart()
	}
	other.addUser("app")
	other.configure("ttl=10m")
	return other
}

// panicAt runs do and panics at the given storage or cloud step, once. It tells whether there was
// such a step.
func (v *testVault) panicAt(step int, do func()) (reached bool) {
	v.t.Helper()
	count := 0
	var lock sync.Mutex // an issue makes calls at the same time
	hit := func() {
		lock.Lock()
		now := count == step
		count++
		lock.Unlock()
		if now {
			panic("ordered by the test")
		}
	}
	if v.overGRPC {
		v.inPlugin = hit // where the storage itself is, a panic would be the server's
	} else {
		v.storage.before = func(string, string) error { hit(); return nil }
	}
	live := v.base
	v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
		hit()
		return live.RoundTrip(req)
	})
	v.restart()
	do()
	v.storage.before, v.inPlugin = nil, nil
	reached = count > step
	if got := v.scrape()["cloudkeys_panics_total"]; reached != (got == 1) {
		v.t.Errorf("step %d: %v panics were counted", step, got)
	}
	v.base = live // the open clients go on over the wrapper, which is past its step
	return reached
}

// mustServe fails where anything of the mount hangs or fails.
func (v *testVault) mustServe() {
	v.t.Helper()
	began := time.Now()
	v.settle(3 * rollbackPeriod)
	for _, role := range []string{"app", "capped", "job"} {
		l := v.lease(role)
		if err := v.renew(l, 0); err != nil {
			v.t.Errorf("renewing a lease of %s: %v", role, err)
		}
		v.mustRevoke(l)
	}
	for _, path := range []string{"rotate-root/default", "rotate-role/db", "policy/default"} {
		v.write(path)
	}
	v.write("config/default", "max_ttl=2h")
	v.tidy()
	v.settle(30 * time.Minute) // leases of the test's beginning end, and what the panic left is taken up
	v.mustHaveNothingBegun()
	if static := v.read("static-creds/db")["access_key"]; len(v.liveKeys()) != 2 ||
		!slices.ContainsFunc(v.liveKeys(), func(k cloudsim.Key) bool { return k.ID == static }) {
		v.t.Errorf("live are %v, want the engine's own key and the static role's", v.liveKeys())
	}
	if users := v.ourUsers(); len(users) != 0 {
		v.t.Errorf("users %v are left", users)
	}
	if took := time.Since(began); took > 2*time.Hour {
		v.t.Errorf("it took %s", took)
	}
	if got := v.scrape()["cloudkeys_panics_total"]; got != 1 {
		v.t.Errorf("the metrics tell of %v panics", got)
	}
}
