// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import "time"

// Finding is one key with what was decided and done.
type Finding struct {
	Account   string    `json:"account"`
	AccessKey string    `json:"access_key"`
	User      string    `json:"user"`
	Label     string    `json:"label,omitempty"`
	Active    bool      `json:"active"`
	Created   time.Time `json:"created,omitzero"`
	End       time.Time `json:"end,omitzero"`
	Class     Class     `json:"class"`
	Reason    string    `json:"reason"`
	Action    Action    `json:"action"`
	Outcome   Outcome   `json:"outcome,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

// Class says what a key is to the sweep.
type Class string

// Action is what the plan wants done with a key.
type Action string

// Outcome is what became of an action.
type Outcome string

// Counts are the numbers of a run.
type Counts struct {
	Seen, Flagged, Protected, Planned          int
	Deactivated, Deleted, Undeletable, Drifted int
	Failed, NotReached                         int
	ByClass                                    map[Class]int
}
