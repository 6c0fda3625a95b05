// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestLostAnswers runs every way in which the answer of a create can be lost. The
// caller gets one clear error or a good key, and nothing lives on that nobody knows.
func TestLostAnswers(t *testing.T) {
	faults := map[string]cloudsim.Fault{
		"the answer is lost":                  {Kind: cloudsim.DropAnswer},
		"the call times out":                  {Kind: cloudsim.DelayAnswer, Delay: 20 * time.Second},
		"a 200 with nothing":                  {Kind: cloudsim.EmptyAnswer},
		"a 200 with a cut body":               {Kind: cloudsim.RubbishAnswer},
		"a 200 with rubbish":                  {Kind: cloudsim.RubbishAnswer, Body: "<html>"},
		"a 500 after the work":                {Kind: cloudsim.RefuseAfter, Status: 500},
		"a 503 after the work":                {Kind: cloudsim.RefuseAfter, Status: 503},
		"the connection breaks before it":     {Kind: cloudsim.DropRequest},
		"a 500 before the work":               {Kind: cloudsim.Refuse, Status: 500},
		"a 502 from a gateway after the work": {Kind: cloudsim.RefuseAfter, Status: 502, Body: "bad gateway"},
	}
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, fault := range faults {
		fault.Op = "CreateAccessKey"
		once, always := fault, fault
		once.Times = 1
		tests[name+", once: the caller gets a good key all the same"] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			defer v.order(once)()
			l := v.lease("app")
			v.mustFit(l, time.Minute)
			v.mustHaveLive(1)
			v.advance(5 * time.Minute)
			v.mustHaveLive(1)
			v.mustHaveNothingBegun()
		}
		tests[name+", always: one clear error and no key"] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			defer v.order(always)()
			_, err := v.tryLease(t.Context(), "app")
			if err == nil {
				t.Fatal("leased")
			}
			mustHold(t, err.Error(), v.op("CreateAccessKey"), `account "default"`)
			v.mustHideSecrets(err.Error())
			v.mustHaveLive(0)
			if n := v.countCalls("CreateAccessKey"); n != 2 {
				t.Errorf("%d creates, want one and one new attempt", n)
			}
			v.advance(begunAge + 2*rollbackPeriod)
			v.mustHaveNothingBegun()
		}
		tests[name+", and the clean-up fails too: the rollback ends it"] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			cancelCreate := v.order(always)
			cancelList := v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: 500})
			if _, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatal("leased")
			} else {
				mustHold(t, err.Error(), "rollback")
			}
			if n := v.countCalls("CreateAccessKey"); n != 1 {
				t.Errorf("%d creates although the first one's fate was unknown", n)
			}
			v.invariant()
			cancelCreate()
			cancelList()
			v.advance(begunAge + 2*rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		}
	}
	tests["a part of the cloud that does not know the new key yet does not prove it gone"] = func(t *testing.T, v *testVault) {
		v.configure("ttl=10m")
		created := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})
		nothing, notFound := `{"AccessKeys":[]}`, cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Code: "4000"}
		if v.domain != nil {
			nothing, notFound.Status, notFound.Code = `{"credentials":[]}`, 404, "IAM.0004"
		}
		var cancel []func()
		for _, op := range []string{"UpdateAccessKey", "DeleteAccessKey"} {
			notFound.Op = op
			cancel = append(cancel, v.order(notFound))
		}
		cancel = append(cancel, v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RubbishAnswer, Body: nothing, Skip: 1}))
		if _, err := v.tryLease(t.Context(), "app"); err == nil {
			t.Fatal("leased")
		}
		v.mustHaveLive(1)
		v.invariant()
		for _, stop := range append(cancel, created) {
			stop()
		}
		v.advance(begunAge + 2*rollbackPeriod)
		v.mustHaveLive(0)
		v.mustHaveNothingBegun()
	}
	tests["a key that appears in the cloud after its request has failed is found by the rollback"] = func(t *testing.T, v *testVault) {
		v.configure("ttl=10m")
		cancel := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropRequest})
		if _, err := v.tryLease(t.Context(), "app"); err == nil {
			t.Fatal("leased")
		}
		cancel()
		pending := v.begun()
		if len(pending) == 0 {
			t.Fatal("no entry is left")
		}
		v.addKey("app", pending[0].Label, time.Now().Add(time.Hour))
		v.mustHaveLive(1)
		v.advance(begunAge + 2*rollbackPeriod)
		v.mustHaveLive(0)
		v.mustHaveNothingBegun()
	}
	inBothClouds(t, tests)
}

// TestStorageFaults fails each storage call of an issue in turn, and then lets the
// process die there.
func TestStorageFaults(t *testing.T) {
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, point := range []struct {
		nth  int
		name string
	}{{1, "writing the entry of a key that is begun"}, {2, "writing the entry of a key that is made"}} {
		fail := func(v *testVault) { v.failWrites(ledger.Prefix, point.nth) }
		tests[point.name+" fails: an error, and no key"] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			fail(v)
			if _, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatal("leased")
			}
			v.mustHaveLive(0)
			v.storage.before = nil
			v.advance(begunAge + 2*rollbackPeriod)
			v.mustHaveNothingBegun()
			v.mustHaveLedger(0)
		}
		tests[point.name+" fails and the cloud cannot be reached to clean up: the next ticks do"] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			fail(v)
			v.order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.RefuseConnection, Times: 4})
			if _, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatal("leased")
			}
			v.storage.before = nil
			v.advance(begunAge + 3*rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
			v.mustHaveLedger(0)
		}
	}
	inBothClouds(t, tests)
}

// TestCrashes lets the process die at every call of an issue: whatever it had done by
// then stays, and a new process takes over.
func TestCrashes(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"a death at any storage or cloud step of an issue leaves no key for longer than its lease would": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			steps := 0
			for ; v.dieAt(steps, func(ctx context.Context) { _, _ = v.tryLease(ctx, "app") }); steps++ {
				v.leases = nil // the answer never arrived
				v.restart()
				v.invariant()
				v.advance(begunAge + 2*rollbackPeriod)
				v.advance(10*time.Minute + time.Minute + 2*rollbackPeriod)
				v.mustHaveLive(0)
				v.mustHaveLedger(0)
				v.mustHaveNothingBegun()
			}
			if steps < 6 {
				t.Errorf("only %d steps", steps)
			}
		},
		"a death at any step of a renewal keeps the lease within its key": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for step := 0; ; step++ {
				l := v.lease("app")
				v.advance(time.Minute)
				died := v.dieAt(step, func(context.Context) { _ = v.renew(l, 0) })
				if !died {
					return
				}
				v.restart()
				if key, _ := v.key(l.AccessKey()); key.Expires.Before(l.Expires) {
					t.Errorf("step %d: the lease ends after its key", step)
				}
				if err := v.renew(l, 0); err != nil {
					t.Errorf("step %d: renewing again: %v", step, err)
				}
				v.mustFit(l, time.Minute)
				v.advance(15 * time.Minute)
				v.mustHaveLive(0)
				v.mustHaveLedger(0)
			}
		},
		"a death at any step of a revoke is finished by the next attempt": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for step := 0; ; step++ {
				l := v.lease("app")
				v.settleNew()
				died := v.dieAt(step, func(context.Context) { _ = v.revoke(l) })
				if !died {
					return
				}
				v.restart()
				v.mustRevoke(l)
				v.mustHaveLive(0)
				v.mustHaveLedger(0)
			}
		},
	})
}

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
