// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fail makes n calls that must be refused with the code.
func fail(t *testing.T, c client, n, status int, code string) {
	t.Helper()
	for range n {
		c.mustRefuse(t, "ReadVms", "{}", status, code)
	}
}

func TestFourFailedAuthenticationsLockTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, root := newCloud()
		wrong := root.as(Credentials{root.creds.AccessKey, strings.Repeat("X", 40)})

		fail(t, wrong, 3, 401, "1")
		if a.Locked() {
			t.Fatal("locked after three")
		}
		root.mustSucceed(t, "ReadVms", "{}") // resets

		for minutes := 1; minutes <= 12; minutes++ {
			fail(t, wrong, 4, 401, "1")
			if !a.Locked() {
				t.Fatalf("round %d: not locked after four", minutes)
			}
			refused := root.mustRefuse(t, "ReadVms", "{}", 401, "13")
			if minutes == 1 && refused.Errors[0].Details != "locked for 60 seconds" {
				t.Errorf("got details %q", refused.Errors[0].Details)
			}
			pass(time.Duration(min(minutes, 10))*time.Minute - time.Second)
			if !a.Locked() {
				t.Fatalf("round %d: unlocked too early", minutes)
			}
			pass(time.Second)
		}
		root.mustSucceed(t, "ReadVms", "{}")
		fail(t, wrong, 4, 401, "1")
		pass(time.Minute)
		root.mustSucceed(t, "ReadVms", "{}")
	})
}

func TestADeletedKeyStillCountsAgainstItsAccount(t *testing.T) {
	_, a, root := newCloud()
	gone := root.as(a.AddKey(KeySpec{}))
	a.DeleteKey(gone.creds.AccessKey)

	fail(t, gone, 4, 400, "4120")
	if !a.Locked() {
		t.Error("the account is not locked")
	}
	root.mustRefuse(t, "ReadVms", "{}", 401, "13")
}

func TestAKeyThatNeverExistedLocksOnlyItself(t *testing.T) {
	_, a, root := newCloud()
	never := root.as(Credentials{strings.Repeat("N", 20), strings.Repeat("N", 40)})

	fail(t, never, 4, 400, "4120")
	never.mustRefuse(t, "ReadVms", "{}", 401, "13")
	if a.Locked() {
		t.Error("the account is locked")
	}
	root.mustSucceed(t, "ReadVms", "{}")
}

func TestABurst4120DoesNotCountTowardsTheLockOut(t *testing.T) {
	c, a, root := newCloud()
	cancel := c.Order(Fault{Kind: Burst4120})
	fail(t, root, 9, 400, "4120")
	cancel()
	if a.Locked() {
		t.Error("the account is locked")
	}
	root.mustSucceed(t, "ReadVms", "{}")
}
