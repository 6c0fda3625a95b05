// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// TestMain silences go-plugin, which logs the end of every connection.
func TestMain(m *testing.M) {
	hclog.DefaultOutput = io.Discard
	os.Exit(m.Run())
}

// overGRPC runs a test on a mount that is configured, behind a plugin's wire.
func overGRPC(t *testing.T, name string, test func(t *testing.T, v *testVault)) {
	t.Helper()
	contract.New(t)
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := newTestVault(t)
			v.overGRPC = true
			v.restart()
			v.configure("ttl=10m", "max_ttl=1h")
			test(t, v)
		})
	})
}

func TestOverGRPC(t *testing.T) {
	overGRPC(t, "a lease is issued, renewed and revoked", func(t *testing.T, v *testVault) {
		l := v.lease("app")
		v.mustFit(l, time.Minute)
		before, _ := v.account.Key(l.AccessKey())
		if err := v.renew(l, 30*time.Minute); err != nil {
			t.Fatal(err)
		}
		if key := v.mustFit(l, time.Minute); !key.Expires.After(before.Expires) {
			t.Errorf("still %s", key.Expires)
		}
		if err := v.renew(l, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := v.renew(l, 0); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(l.Expires); left > 10*time.Minute || left < 9*time.Minute {
			t.Errorf("a default renewal after a tiny one gives %s", left)
		}
		v.mustRevoke(l)
		v.mustHaveLive(0)
		v.mustHaveLedger(0)
	})
	overGRPC(t, "numbers in a lease's data come back as something else and are refused, not trusted", func(t *testing.T, v *testVault) {
		l := v.lease("app")
		l.Secret.InternalData["issued"] = json.Number("7")
		if err := v.renew(l, 0); err == nil {
			t.Error("renewed")
		} else {
			mustHold(t, err.Error(), "lease's data cannot be read", "issued")
		}
	})
	overGRPC(t, "what can be fixed is a 400, what cannot is a Go error", func(t *testing.T, v *testVault) {
		v.mustRefuse(logical.ReadOperation, "creds/nope", nil, "does not exist")
		defer v.sim.Order(cloudsim.Fault{Kind: cloudsim.DropRequest})()
		if _, err := v.try(logical.ReadOperation, "creds/app"); err == nil {
			t.Error("no Go error")
		}
	})
	for _, kind := range []cloudsim.FaultKind{cloudsim.DropAnswer, cloudsim.EmptyAnswer, cloudsim.RubbishAnswer, cloudsim.RefuseAfter} {
		overGRPC(t, "a create whose answer is lost ("+string(kind)+") leaves one good key", func(t *testing.T, v *testVault) {
			defer v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: kind, Times: 1})()
			l := v.lease("app")
			v.mustFit(l, time.Minute)
			v.mustHaveLive(1)
			v.mustRevoke(l)
			v.mustHaveLive(0)
		})
	}
	overGRPC(t, "a death at any step of an issue is cleaned up", func(t *testing.T, v *testVault) {
		v.mustRevoke(v.lease("app"))
		step := 0
		for ; v.dieAt(step, func(ctx context.Context) { _, _ = v.tryLease(ctx, "app") }); step++ {
			v.leases = nil
			v.restart()
			v.invariant()
			v.advance(begunAge + 2*rollbackPeriod)
			v.advance(10*time.Minute + time.Minute + 2*rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
			v.mustHaveNothingBegun()
		}
		if step < 6 {
			t.Errorf("only %d steps", step)
		}
	})
	overGRPC(t, "a death at any step of a revoke is finished by the next attempt", func(t *testing.T, v *testVault) {
		for step := 0; ; step++ {
			l := v.lease("app")
			// What was made seconds ago no process believes to be gone, and the clock is a true one.
			edit(v, v.entryPath(l.AccessKey()), func(e *ledger.Entry) { e.MadeAt = e.MadeAt.Add(-time.Hour) })
			if !v.dieAt(step, func(context.Context) { _ = v.revoke(l) }) {
				return
			}
			v.restart()
			v.mustRevoke(l)
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		}
	})
	overGRPC(t, "a tidy goes on after its request, and its report survives a new process", func(t *testing.T, v *testVault) {
		l := v.lease("app")
		id := v.orphan("app")
		v.write("tidy")
		for v.read("tidy-status")["state"] == tidyRunning {
			<-time.After(10 * time.Millisecond)
		}
		v.restart()
		status := v.read("tidy-status")
		if removed, _ := status["orphans_removed"].([]any); status["state"] != tidyDone || len(removed) != 1 || removed[0] != id {
			t.Errorf("%v", status)
		}
		v.mustFit(l, time.Minute)
	})
	overGRPC(t, "an unmount ends a tidy that hangs", func(t *testing.T, v *testVault) {
		v.lease("app")
		v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: time.Hour})
		v.write("tidy")
		v.engine.Cleanup(t.Context())
		v.restart()
		if status := v.read("tidy-status"); status["state"] != tidyFailed {
			t.Errorf("%v", status)
		}
	})
	overGRPC(t, "null in a patch, the incident button and events cross the wire", func(t *testing.T, v *testVault) {
		v.patch("roles/app", map[string]any{"max_ttl": nil, "max_active_keys": 2})
		if role := v.read("roles/app"); role["max_ttl"] != json.Number("0") && role["max_ttl"] != 0.0 && role["max_ttl"] != int64(0) {
			t.Errorf("%T %v", role["max_ttl"], role["max_ttl"])
		}
		l := v.lease("app")
		v.kill(l)
		v.mustRevoke(l)
		v.mustHaveLedger(0)
		synctest.Wait()
		v.events.Lock()
		defer v.events.Unlock()
		if !slices.ContainsFunc(v.events.Events, func(e logical.MockEvent) bool { return e.Type == "cloudkeys/key-delete" }) {
			t.Errorf("%v", v.events.Events)
		}
	})
	overGRPC(t, "a lease with a user of its own is renewed, survives a restart, and takes the user along", func(t *testing.T, v *testVault) {
		v.configureUsers()
		l := v.lease("job")
		v.mustFit(l, time.Minute)
		v.restart()
		if err := v.renew(l, 0); err != nil {
			t.Fatal(err)
		}
		v.invariant()
		v.mustRevoke(l)
		v.mustBeClean()
	})
	overGRPC(t, "a client that hangs up leaves no key", func(t *testing.T, v *testVault) {
		ctx, hangUp := context.WithCancel(t.Context())
		v.sim.OnAnswer(func(c cloudsim.Call) {
			if c.Op == "CreateAccessKey" {
				hangUp()
			}
		})
		_, _ = v.tryLease(ctx, "app")
		synctest.Wait() // the plugin works on when the server has given the request up
		v.leases = nil
		v.invariant()
		v.advance(11*time.Minute + 2*rollbackPeriod) // where the key was made before the plugin heard of it, it ends at its date
		v.mustHaveLive(0)
	})
}
