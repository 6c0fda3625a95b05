// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestStaticRolesAreRotatedOnTime is E41, and E30, what is said while a rotation is due.
func TestStaticRolesAreRotatedOnTime(t *testing.T) {
	t.Parallel()
	current := func(v *testVault) string { v.t.Helper(); return v.read("static-creds/db")["access_key"].(string) }
	onTime := func(tests map[string]func(t *testing.T, v *testVault)) map[string]func(t *testing.T, v *testVault) {
		for name, test := range tests {
			tests[name] = func(t *testing.T, v *testVault) {
				v.onTime = true
				v.restart()
				test(t, v)
			}
		}
		return tests
	}
	inBothClouds(t, onTime(map[string]func(t *testing.T, v *testVault){
		"E41: within five seconds, however the server's ticks fall": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=5m", "rotation_grace_period=30s")
			v.settleNew()
			made := time.Now()
			<-time.After(37 * time.Second)
			for round := range 5 {
				due, err := time.Parse(time.RFC3339Nano, v.read("static-creds/db")["last_vault_rotation"].(string))
				if err != nil {
					t.Fatal(err)
				}
				due = due.Add(5 * time.Minute)
				before := current(v)
				for time.Until(due) > rollbackPeriod {
					<-time.After(rollbackPeriod)
					_ = v.tick()
				}
				<-time.After(time.Until(due) - time.Second)
				if current(v) != before {
					t.Errorf("round %d: rotated early, %s after the role was written", round, time.Since(made))
				}
				<-time.After(6 * time.Second)
				if current(v) == before {
					t.Errorf("round %d: five seconds after its time the key is not rotated", round)
				}
			}
		},
		"a role that is written shortly before its time, without a tick in between": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			due := time.Now().UTC().Truncate(time.Minute).Add(time.Minute)
			schedule := func(at time.Time) string { return fmt.Sprintf("rotation_schedule=%d %d * * *", at.Minute(), at.Hour()) }
			v.write("static-roles/db", "user_name=app", schedule(due), "rotation_grace_period=1h")
			first := current(v)
			<-time.After(time.Until(due) + 5*time.Second)
			second := current(v)
			if second == first {
				t.Error("five seconds after the time of a new role its key is not rotated")
			}
			due = due.Add(time.Minute)
			v.write("static-roles/db", schedule(due))
			<-time.After(time.Until(due) + 5*time.Second)
			if current(v) == second {
				t.Error("five seconds after the time of a new schedule the key is not rotated")
			}
		},
		"not by a node that has stepped down, nor after an unmount": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=5m")
			v.settle(4*time.Minute + 30*time.Second)
			before := current(v)
			v.system.become(consts.ReplicationPerformanceStandby)
			v.backend.armRotations(v.storage, time.Now().Add(30*time.Second)) // as the tick before has: the timer may look from now on
			<-time.After(time.Minute)
			synctest.Wait()
			v.system.become(0)
			if current(v) != before {
				t.Error("a standby has rotated the key")
			}
			_ = v.tick() // the node is active again, and what is due is rotated
			if before = current(v); v.read("static-creds/db")["ttl"].(int64) < 290 {
				t.Fatal("the tick has not rotated what was due")
			}
			v.settle(4*time.Minute + 30*time.Second)
			v.backend.Cleanup(t.Context())
			v.backend.armRotations(v.storage, time.Now().Add(30*time.Second)) // as a tick does that was under way
			<-time.After(time.Minute)
			if current(v) != before {
				t.Error("the key was rotated after the unmount")
			}
		},
		"E30: ttl is never 0: while a rotation is due, it is the time to the next try": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=5m")
			defer v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.RefuseConnection})()
			for range 60 {
				<-time.After(17 * time.Second)
				if ttl := v.read("static-creds/db")["ttl"].(int64); ttl < 1 || ttl > 3600 {
					t.Fatalf("a ttl of %d", ttl)
				}
				_ = v.tick() // which fails
			}
		},
		"one that was put off is tried at once when it is written": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=5m")
			works := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.RefuseConnection})
			for range 180 {
				<-time.After(tickPeriod)
				_ = v.tick() // which fails
			}
			works()
			key := current(v)
			v.write("static-roles/db", "rotation_grace_period=1m")
			v.settle(2 * rollbackPeriod)
			if current(v) == key {
				t.Error("it is not rotated")
			}
		},
		"one whose rotation fails is put off, for longer each time, and comes back at once when it works": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=5m")
			works := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.RefuseConnection})
			v.settle(65 * time.Minute)
			before := v.countCalls("CreateAccessKey")
			v.settle(30 * time.Minute)
			if tries := v.countCalls("CreateAccessKey") - before; tries > 12 {
				t.Errorf("%d calls in half an hour, after an hour of failures", tries)
			}
			works()
			key := current(v)
			v.write("rotate-role/db")
			if current(v) == key {
				t.Error("asked for, it is not rotated")
			}
			key = current(v)
			v.settle(5*time.Minute + 2*rollbackPeriod)
			if current(v) == key {
				t.Error("it is not rotated on time any more")
			}
		},
	}))
}

// TestDeadStaticRolesKeepNothingFromItsTurn is E6: 28 static roles whose users are gone, a search for a key that may be
// anybody's, a comparison with 500 users, and 1,000 keys that work until they are deleted. The account's other work goes on
// all the same.
func TestDeadStaticRolesKeepNothingFromItsTurn(t *testing.T) {
	t.Parallel()
	const users, pace = 500, 5
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"expired keys are gone within 1.3 times what the pace allows": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			for i := range 28 {
				name := fmt.Sprintf("gone%d", i)
				v.addUser(name)
				v.write("static-roles/"+name, "user_name="+name, "rotation_period=5m")
			}
			names := ""
			for i := range users {
				name := fmt.Sprintf("pool%d", i)
				v.addUser(name)
				names += "," + name
			}
			v.addUser("healthy")
			v.write("static-roles/healthy", "user_name=healthy", "rotation_period=1h")
			v.write("roles/app", "user_names="+names[1:], "ttl=20m")
			for range 2 * users {
				v.lease("app")
			}
			v.leases = nil // nobody revokes them
			for i := range 28 {
				v.deleteUser(fmt.Sprintf("gone%d", i))
			}
			label := keylabel.New(v.read("info")["instance_id"].(string), keylabel.KindLease).String()
			search := &ledger.Entry{
				Version: 1, State: ledger.Begun, Kind: keylabel.KindLease, Label: label, Account: "default",
				AccountID: v.accountConfig().AccountID, User: "nobody", Role: "app", Issued: time.Now(), Expires: time.Now().Add(time.Hour),
			}
			if err := save(t.Context(), v.storage, ledger.Path("default", label), search); err != nil {
				t.Fatal(err)
			}
			// The comparison begins at a random time of the day, if it is left to that.
			if err := save(t.Context(), v.storage, reconcilePrefix+"default", &reconcileState{Next: time.Now()}); err != nil {
				t.Fatal(err)
			}
			v.restart()
			v.write("config/default", fmt.Sprintf("max_requests_per_second=%d", pace))
			healthy := v.read("static-creds/healthy")["access_key"]
			left := func() (n int) {
				for _, key := range v.liveKeys() {
					if key.User != "vault" && key.User != "healthy" {
						n++
					}
				}
				return n
			}
			<-time.After(21*time.Minute + 10*time.Second)
			began := time.Now()
			var took, searched, compared time.Duration
			for (took == 0 || searched == 0 || compared == 0) && time.Since(began) < 3*time.Hour {
				if searched == 0 && len(v.begun()) == 0 {
					searched = time.Since(began)
				}
				if took == 0 && left() == 0 {
					took = time.Since(began)
				}
				if state, err := load[reconcileState](t.Context(), v.storage, reconcilePrefix+"default"); err != nil {
					t.Fatal(err)
				} else if compared == 0 && state.Next.After(time.Now()) {
					compared = time.Since(began)
				}
				<-time.After(time.Second)
				if int(time.Since(began)/time.Second)%60 == 0 {
					_ = v.tick()
				}
			}
			// A key takes two calls, and the server gives the periodic work ten seconds of each minute.
			allowed := 2 * 2 * users * time.Second / pace * time.Duration(tickPeriod/tickBudget)
			t.Logf("gone after %s, of %s that the pace allows; the search took %s, the comparison %s", took, allowed, searched, compared)
			if left() > 0 || took > allowed*13/10 {
				t.Errorf("%d keys are left after %s, want none after %s", left(), took, allowed*13/10)
			}
			if searched < took/2 {
				t.Errorf("a search was under way for %s alone, or it never ended", searched)
			}
			if compared < took {
				t.Errorf("a comparison was under way for %s alone, or it never ended", compared)
			}
			v.settle(2 * time.Hour)
			if now := v.read("static-creds/healthy")["access_key"]; now == healthy {
				t.Error("the healthy static role was not rotated")
			}
			resp, err := v.try(logical.ReadOperation, "policy/default")
			v.mustSucceed("read the policy", resp, err)
		},
	})
}
