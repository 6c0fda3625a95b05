// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"
)

// TestAComparisonEndsWhereTheCloudHangs has the cloud leave calls about one user unanswered, whom a comparison comes to first.
func TestAComparisonEndsWhereTheCloudHangs(t *testing.T) {
	t.Parallel()
	about := func(user string) []string { return []string{`"UserName":"` + user + `"`} }
	// configure has roles over the users aaa and app.
	configure := func(v *testVault) {
		v.account.AddUser("aaa")
		v.configure("ttl=10m")
		v.write("roles/first", "user_names=aaa")
		v.mustRevoke(v.lease("app")) // the mount has an instance id from then on
	}
	// beginRound has the next comparison begin now, and not at a time of chance.
	beginRound := func(v *testVault) {
		v.mustTick()
		edit(v, reconcilePrefix+"default", func(s *reconcileState) { s.Next = time.Now() })
		v.restart()
	}
	// ticks lets time pass, and returns what the ticks have said of a user who was left out.
	ticks := func(v *testVault, d time.Duration) (leftOut []string) {
		v.t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); {
			<-time.After(5 * rollbackPeriod)
			if err := v.tick(); err != nil && strings.Contains(err.Error(), "leaves out") {
				leftOut = append(leftOut, err.Error())
			}
		}
		return leftOut
	}
	state := func(v *testVault) *reconcileState {
		v.t.Helper()
		return stored[reconcileState](v, reconcilePrefix+"default")
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"the others are compared, and an operator is told once a day who was not": func(t *testing.T, v *testVault) {
			hang := v.hangAt("ReadAccessKeys")
			configure(v)
			orphan, unseen := v.orphan("app"), v.orphan("aaa")
			hang(about("aaa"))
			said := ticks(v, 3*day)
			v.mustBeLive(false, orphan)
			v.mustBeLive(true, unseen)
			if len(said) < 2 || len(said) > 3 {
				t.Fatalf("in three days it was said %d times that a user was left out: %q", len(said), said)
			}
			mustHold(t, said[0], `account "default"`, `leaves out user "aaa" until the next one`, "tried 3 times", "ReadAccessKeys")
			hang(nil)
			if said := ticks(v, day+time.Hour); len(said) != 0 {
				t.Errorf("once the cloud answers again a user was left out: %q", said)
			}
			v.mustBeLive(false, unseen)
		},
		"nothing that was left out is believed to be gone": func(t *testing.T, v *testVault) {
			hang := v.hangAt("ReadAccessKeys")
			role := v.staticRoles(1)[0]
			lost := v.staticKey(role)
			v.deleteKey(lost)
			hang(about(role))
			if said := ticks(v, 3*day); len(said) == 0 {
				t.Error("nobody was told that a user was left out")
			}
			if v.staticKey(role) != lost {
				t.Error("the static role was rotated, although nothing is known of its key")
			}
			hang(nil)
			ticks(v, day+time.Hour)
			v.mustBeLive(true, v.staticKey(role))
		},
		"so it ends where the rotation of a key that is gone hangs": func(t *testing.T, v *testVault) {
			hang := v.hangAt("CreateAccessKey")
			v.account.AddUser("zzz")
			role := v.staticRoles(1)[0]
			v.write("roles/last", "user_names=zzz")
			v.deleteKey(v.staticKey(role))
			orphan := v.orphan("zzz")
			hang(about(role))
			if said := ticks(v, 3*day); len(said) == 0 {
				t.Error("nobody was told that a user was left out")
			}
			v.mustBeLive(false, orphan)
			hang(nil)
			ticks(v, day+time.Hour)
			v.mustBeLive(true, v.staticKey(role))
		},
		"a cloud that hangs for one tick leaves out nobody": func(t *testing.T, v *testVault) {
			hang := v.hangAt("ReadAccessKeys")
			configure(v)
			orphan := v.orphan("aaa")
			beginRound(v)
			hang(about("aaa"))
			_ = v.tick()
			if tries := state(v).Tries["aaa"]; tries < 1 || tries >= maxCompareTries {
				t.Fatalf("%d tries in one tick", tries)
			}
			hang(nil)
			ticks(v, 20*time.Minute)
			v.mustBeLive(false, orphan)
			if tries := state(v).Tries; len(tries) != 0 {
				t.Errorf("the tries %v outlast the round", tries)
			}
		},
		"a pace that is too slow is no try": func(t *testing.T, v *testVault) {
			configure(v)
			orphan := v.orphan("aaa")
			v.write("config/default", "max_requests_per_second=0.5")
			beginRound(v)
			if said := ticks(v, 6*time.Hour); len(said) != 0 {
				t.Errorf("%q", said)
			}
			v.mustBeLive(false, orphan)
		},
	})
}
