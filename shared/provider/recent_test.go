// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatWasJustMadeIsForgottenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Recent
		r.Add("a")
		<-time.After(Settling - time.Second)
		r.Add("b")
		if !r.Has("a") || !r.Has("b") || r.Has("c") {
			t.Error("it forgets too early")
		}
		<-time.After(time.Second)
		r.Add("c")
		if r.Has("a") || !r.Has("b") || !r.Has("c") { // TestWhatHasSettledTakesNoMemory holds what is kept all the same
			t.Errorf("got %v", r.made)
		}
	})
}

// A key and a user know when they were made, also where the client does not.
func TestWhatAnotherClientHasMadeIsHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Recent
		r.Hear("", time.Now())
		r.Hear("old", time.Now().Add(-Settling))
		r.Hear("new", time.Now().Add(-time.Second))
		if len(r.made) != 1 || !r.Has("new") {
			t.Errorf("got %v", r.made)
		}
		r.Hear("new", time.Now())
		<-time.After(Settling - time.Second)
		if r.Has("new") {
			t.Error("it counts from when it was heard of last")
		}
		r.Add("deleted")
		r.Drop("deleted", "unknown")
		r.Hear("deleted", time.Now())
		if r.Has("deleted") || r.Has("unknown") {
			t.Errorf("what was deleted is new again: %v", r.made)
		}
		r.Add("another")
		r.Hear("deleted", time.Now())
		if r.Has("deleted") {
			t.Error("what was deleted is new again once something else was made")
		}
		r.Hear("by a clock that was ahead", time.Now().Add(time.Hour))
		<-time.After(time.Hour)
		if r.Has("by a clock that was ahead") {
			t.Error("it is young when the clock gets there")
		}
	})
}
