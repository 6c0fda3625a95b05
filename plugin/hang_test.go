// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
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
	})
}
