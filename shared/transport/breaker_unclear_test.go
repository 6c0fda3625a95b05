// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnUnclearRefusalIsTriedOnceMoreAfterTwoSecondsWhileOthersWait(t *testing.T) {
	cases := map[string]struct {
		second int
		sent   int
		good   int // calls that end well
	}{
		"and the key turns out good": {second: 200, sent: 8, good: 7},
		"and is unclear again":       {second: 400, sent: 2},
		"and is refused":             {second: 401, sent: 2},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := plays(status(400), status(test.second))
				rt := chainTo(cloud)
				start := time.Now()
				var r results
				r.call(t, rt, 1)
				pass(time.Second)
				r.call(t, rt, 6)
				if cloud.count() != 1 {
					t.Fatalf("%d calls were sent within the pause", cloud.count()-1)
				}
				if got := r.wait(); got[200] != test.good {
					t.Errorf("got %v, want %d successes", got, test.good)
				}
				if cloud.count() != test.sent {
					t.Errorf("%d calls were sent, want %d", cloud.count(), test.sent)
				}
				if second := cloud.attempts[1].at.Sub(start); second != 2*time.Second {
					t.Errorf("the key was tried again after %s, want 2s", second)
				}
				if test.second != 200 {
					mustBeHeld(t, rt, time.Now().Add(time.Minute))
				}
			})
		})
	}
}

func TestACallIsTriedOnceMoreAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(status(400))
		mustAnswer(t, chainTo(cloud), 400)
		if cloud.count() != 2 {
			t.Fatalf("the call was sent %d times, want 2", cloud.count())
		}
		if cloud.attempts[0].body != cloud.attempts[1].body || cloud.attempts[0].signature == cloud.attempts[1].signature {
			t.Errorf("got attempts %+v, want the same body under a new signature", cloud.attempts)
		}
	})
}

func TestACallThatWasQueuedOverAnUnclearRefusalStillCounts(t *testing.T) {
	b := NewBreaker()
	old := ticket{}
	b.leave(ticket{}, Unclear, 0)
	if b.renew(&old) {
		t.Fatal("a ticket outlived the refusal")
	}
	b.become(closed, time.Time{})
	if !b.renew(&old) {
		t.Fatal("a ticket is refused by a closed breaker")
	}
	b.leave(old, Refused, 0)
	if b.state != open {
		t.Error("the refusal of a call sent after the last change was taken for old news")
	}
}
