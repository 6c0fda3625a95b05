// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"time"
)

// A key's date means two things. OUTSCALE refuses the key from then on, whatever becomes of
// Vault. Huawei Cloud knows no such date: it stands in the key's description, moves with the
// lease, and only tells from when on the key should be gone. What follows from that for the
// engine is decided here, and nowhere else.

// reapRetryLive is the longest pause before the reaper tries again to delete a key that works
// until it is deleted.
const reapRetryLive = 5 * time.Minute

// endsKeys tells whether the cloud itself ends a key at its date.
func (a *account) endsKeys() bool { return a.cloud.ExpiresKeys() }

// isDead tells whether a key has ended by its date, so that its removal can wait.
func (a *account) isDead(e *ledgerEntry, now time.Time) bool {
	return a.endsKeys() && now.After(e.Expires.Add(clockMargin))
}

// retryReap is the pause after so many failures to remove a key that is past its date.
func (a *account) retryReap(failures int) time.Duration {
	longest := reapRetryMax
	if !a.endsKeys() {
		longest = reapRetryLive
	}
	return min(longest, time.Minute<<min(failures, 6))
}

// lastingEnd is the date of a key that is replaced on time, the engine's own or a static
// role's: none where the cloud would not end it. Whoever enforced such a date in the cloud's
// place would lock the engine or the application out.
func (a *account) lastingEnd(date time.Time) time.Time {
	if !a.endsKeys() {
		return time.Time{}
	}
	return date
}

// worksUntil says how long a key that could not be removed may still be used.
func (a *account) worksUntil(e *ledgerEntry) string {
	if !a.endsKeys() || e.Expires.IsZero() {
		return "works until it is deleted"
	}
	return fmt.Sprintf("may work until %s", showTime(e.Expires))
}
