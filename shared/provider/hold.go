// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import "time"

// Hold is what a client remembers of the refusals of its key: calls wait until then. It is handed from one client of a key to the
// next, or each process would use a dead key anew, and four refusals in a row lock an OUTSCALE account.
type Hold struct {
	Why      Kind      `json:"why"` // KeyRefused, KeyUnclear, LockedOut or ClockWrong
	Refusals int       `json:"refusals"`
	Since    time.Time `json:"since"`         // of the first refusal in a row; zero: the key was not refused
	Until    time.Time `json:"until"`         // when one call is tried
	Last     time.Time `json:"last,omitzero"` // when the key was refused last

	WantedFrom time.Time `json:"-"` // from when on a call is tried before its time, where somebody wants it
	Trying     bool      `json:"-"` // one is under way
}

// Equal tells whether two holds say the same, whichever process has read the times.
func (h Hold) Equal(other Hold) bool {
	return h.Why == other.Why && h.Refusals == other.Refusals && h.Since.Equal(other.Since) && h.Until.Equal(other.Until)
}

// Holder is a client that holds calls with a refused key back.
type Holder interface {
	// Hold tells what is remembered; held is false where calls go through.
	Hold() (hold Hold, held bool)
	// Resume begins with what another client of the key has remembered.
	Resume(hold Hold)
	// OnHold has changed called whenever Hold changes. It must not block.
	OnHold(changed func())
}
