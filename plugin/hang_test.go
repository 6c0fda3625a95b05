// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestADeleteThatHangsKeepsNoKeyFromBeingRotated has the cloud leave the delete of one replaced key unanswered.
func TestADeleteThatHangsKeepsNoKeyFromBeingRotated(t *testing.T) {
	t.Parallel()
	// underPolicy gives the engine a key that ends within an hour, as the account's policy demands.
	underPolicy := func(v *testVault) {
		v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600})
		v.rootKeyWithDate(time.Hour - lifetime.ClockMargin)
		v.deleteKey(v.account.RootKey().AccessKey)
		v.configure("ttl=10m")
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"the engine's own key is rotated in time, and what is replaced later is deleted": func(t *testing.T, v *testVault) {
			hang := v.hangAt("DeleteAccessKey")
			underPolicy(v)
			stuck := v.root.AccessKey
			v.rotate()
			hang([]string{stuck})
			for hour := range 12 {
				v.settle(time.Hour)
				v.mustBeLive(true, v.accountConfig().AccessKey)
				if previous := len(v.accountConfig().Previous); previous > 2 {
					t.Errorf("hour %d: %d replaced keys are still there, want the one that hangs, and one that was just replaced", hour, previous)
				}
			}
			v.mustRevoke(v.lease("app"))
			hang(nil)
			v.settle(lifetime.RotationOverlap + 2*rollbackPeriod)
			if _, there := v.key(stuck); there {
				t.Error("once the cloud answers again the replaced key is still there")
			}
		},
		"the static roles of an account are rotated beside the engine's own key": func(t *testing.T, v *testVault) {
			hang := v.hangAt("DeleteAccessKey")
			underPolicy(v)
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=30m", "rotation_grace_period=5m")
			hang([]string{v.root.AccessKey})
			v.rotate()
			for range 12 {
				before := v.staticKey("db")
				v.settle(30*time.Minute + 2*rollbackPeriod)
				if v.staticKey("db") == before {
					t.Fatal("the static role was not rotated")
				}
				v.mustBeLive(true, v.staticKey("db"))
			}
		},
		"a static role is rotated on time while its own replaced key cannot be deleted": func(t *testing.T, v *testVault) {
			hang := v.hangAt("DeleteAccessKey")
			v.configure("ttl=10m")
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=1h", "rotation_grace_period=5m")
			stuck := v.staticKey("db")
			v.write("rotate-role/db")
			hang([]string{stuck})
			for hour := range 10 {
				before := v.staticKey("db")
				v.settle(time.Hour + 2*rollbackPeriod)
				if v.staticKey("db") == before {
					t.Errorf("hour %d: the static role was not rotated", hour)
				}
				v.mustBeLive(true, v.staticKey("db"))
			}
			v.settle(10 * time.Minute)
			if previous := stored[staticCreds](v, staticCredsPrefix+"db").Previous; len(previous) != 1 || previous[0].ID != stuck {
				t.Errorf("the replaced keys %v are still there, want the one that hangs alone", idsOf(previous))
			}
			hang(nil)
			v.settle(2 * rollbackPeriod)
			v.mustHaveLive(1)
			v.mustHaveLedger(1)
		},
		"other static roles of the account are rotated on time, and their replaced keys deleted": func(t *testing.T, v *testVault) {
			hang := v.hangAt("DeleteAccessKey")
			v.configure("ttl=10m")
			var stuck []string
			for i := range 5 {
				name := fmt.Sprintf("db%d", i)
				v.addUser(name)
				v.write("static-roles/"+name, "user_name="+name, "rotation_period=1h", "rotation_grace_period=5m")
				if i < 4 {
					stuck = append(stuck, v.staticKey(name))
					v.write("rotate-role/" + name)
				}
			}
			hang(stuck)
			for range 5 {
				before := v.staticKey("db4")
				v.settle(time.Hour + 2*rollbackPeriod)
				if v.staticKey("db4") == before {
					t.Error("the static role was not rotated")
				}
				v.settle(10 * time.Minute)
				if previous := stored[staticCreds](v, staticCredsPrefix+"db4").Previous; len(previous) != 0 {
					t.Errorf("the replaced keys %v are still there after their grace", idsOf(previous))
				}
			}
		},
		"between two ticks it keeps the timer from nothing, and the timer does not run on and on": func(t *testing.T, v *testVault) {
			hang := v.hangAt("DeleteAccessKey")
			v.onTime = true
			v.restart()
			v.configure("ttl=10m")
			v.write("config/second", v.accountFields()...)
			v.addUser("db")
			v.addUser("other")
			v.write("static-roles/db", "user_name=db", "rotation_period=1h", "rotation_grace_period=5m")
			stuck := v.staticKey("db")
			v.write("rotate-role/db")
			hang([]string{stuck})
			v.settle(10 * time.Minute)
			v.write("static-roles/other", "user_name=other", "account=second", "rotation_period=5m")
			v.settle(4*time.Minute + 30*time.Second)
			before, calls := v.staticKey("other"), len(v.sim.Calls())
			<-time.After(35 * time.Second)
			if v.staticKey("other") == before {
				t.Error("five seconds after its time the role of the other account is not rotated")
			}
			if made := len(v.sim.Calls()) - calls; made > 20 {
				t.Errorf("%d calls in half a minute", made)
			}
		},
	})
}
