// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// rewrite changes what is stored, as a process under another clock would have written it.
func rewrite[T any](v *testVault, path string, change func(*T)) {
	v.t.Helper()
	entry, err := load[T](v.t.Context(), v.storage, path)
	if err != nil || entry == nil {
		v.t.Fatalf("%s: %v, %v", path, entry, err)
	}
	change(entry)
	if err := save(v.t.Context(), v.storage, path, entry); err != nil {
		v.t.Fatal(err)
	}
}

// TestDatesOfAClockThatWasAYearAheadAreNotBelieved is E23: it stores what a process wrote while its clock was wrong, sets the
// clock right, and starts another.
func TestDatesOfAClockThatWasAYearAheadAreNotBelieved(t *testing.T) {
	t.Parallel()
	const year = 365 * day
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"the access policy is read": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			rewrite(v, policyPrefix+"default", func(view *policyView) { view.TriedAt, view.ReadAt = time.Now().Add(year), time.Now().Add(year) })
			v.restart()
			v.sim.ResetCalls()
			v.advance(3 * policyRefresh)
			if n := v.sim.CountCalls("ReadApiAccessPolicy"); n < 2 {
				t.Errorf("it was read %d times", n)
			}
		},
		"cloud and ledger are compared": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.advance(2 * rollbackPeriod)
			rewrite(v, reconcilePrefix+"default", func(state *reconcileState) { state.Next = time.Now().Add(year) })
			v.restart()
			v.sim.ResetCalls()
			v.advance(time.Hour)
			if v.sim.CountCalls("ReadAccessKeys") == 0 {
				t.Error("no keys were listed")
			}
			if state, err := load[reconcileState](t.Context(), v.storage, reconcilePrefix+"default"); err != nil ||
				time.Until(state.Next) > reconcilePeriod {
				t.Errorf("the next is at %v, %v", state, err)
			}
		},
		"a removal that failed is tried again": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.leases = nil
			stop := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "8"})
			v.advance(15 * time.Minute)
			rewrite(v, ledger.Path("default", l.Secret.InternalData["label"].(string)), func(e *ledger.Entry) {
				if e.Problem == "" {
					t.Fatal("nothing has failed")
				}
				e.RetryAt = time.Now().Add(year)
			})
			stop()
			v.restart()
			v.advance(2 * time.Hour)
			if _, there := v.account.Key(l.AccessKey()); there {
				t.Error("the key is there after two hours")
			}
		},
		"a replaced key of the engine's is deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.rotate()
			rewrite(v, configPrefix+"default", func(c *accountConfig) { c.Previous[0].DeleteAfter = time.Now().Add(year) })
			v.restart()
			v.advance(2*lifetime.RotationOverlap + rollbackPeriod)
			v.mustHaveOwnKeys(1)
		},
		"a static role is rotated, and its replaced key deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.account.AddUser("legacy")
			v.write("static-roles/legacy", "user_name=legacy", "rotation_period=1h", "rotation_grace_period=10m")
			before := v.read("static-creds/legacy")["access_key"]
			rewrite(v, staticCredsPrefix+"legacy", func(c *staticCreds) { c.LastRotation = time.Now().Add(year) })
			v.restart()
			v.advance(3 * rollbackPeriod)
			after := v.read("static-creds/legacy")["access_key"]
			if after == before {
				t.Fatal("it was not rotated")
			}
			rewrite(v, staticCredsPrefix+"legacy", func(c *staticCreds) { c.Previous[0].DeleteAfter = time.Now().Add(year) })
			v.restart()
			v.advance(3 * rollbackPeriod)
			if _, there := v.account.Key(before.(string)); there {
				t.Error("the replaced key is still there")
			}
			v.advance(20 * time.Minute)
			if again := v.read("static-creds/legacy")["access_key"]; again != after {
				t.Error("it was rotated again before its time")
			}
		},
	})
}
