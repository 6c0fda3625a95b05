// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"maps"
	"sync"
	"time"
)

// Settling is how long what was just made may be unknown to parts of a cloud. Users of Huawei Cloud were seen to take up to ten
// seconds (terraform-provider-huaweicloud waits for them); OUTSCALE promises nothing of its lists.
const Settling = 30 * time.Second

// Recent remembers what was made a moment ago, or may have been made: "not found" says nothing of it yet.
type Recent struct {
	mu   sync.Mutex // never held while waiting
	made map[string]making
	full int // how many there may be before those that have settled are taken out
}

// leastRecent is how many are kept without a look at them.
const leastRecent = 100

// making is one thing that was made.
type making struct {
	at      time.Time
	deleted bool // by a call that has found it: by now "not found" is the truth
}

// settling compares without the sign: a clock that was ahead when something was made must not keep it young.
func (m making) settling() bool { return time.Since(m.at).Abs() < Settling }

// Add takes an id, or the label of what has no known id.
func (r *Recent) Add(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(what, time.Now())
}

// Hear takes what another client has made, the one of a configuration that was replaced or
// of a process that is gone. What this one knows better stays.
func (r *Recent) Hear(what string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.made[what]; !known && what != "" && (making{at: at}).settling() {
		r.note(what, at)
	}
}

func (r *Recent) note(what string, at time.Time) {
	if r.made == nil {
		r.made = map[string]making{}
	}
	if len(r.made) >= r.full { // not each time: every lease adds one, and there can be thousands
		maps.DeleteFunc(r.made, func(_ string, m making) bool { return !m.settling() })
		r.full = max(leastRecent, 2*len(r.made))
	}
	r.made[what] = making{at: at}
}

// Has tells whether something was made a moment ago.
func (r *Recent) Has(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.made[what]
	return known && !m.deleted && m.settling()
}

// Drop makes what the cloud has known well enough to delete it a thing of the past.
func (r *Recent) Drop(whats ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range whats {
		if m, known := r.made[what]; known {
			m.deleted = true // and Hear must not bring it back
			r.made[what] = m
		}
	}
}

// NotYetKnown keeps "not found" from being believed of what has just been made.
func NotYetKnown(op string, err error) error {
	return &Error{
		Kind: KindUnknown, Op: op, Err: err, Details: "it was made seconds ago, and the cloud may not know it everywhere yet: try again",
	}
}
