// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package lifetime

import "time"

// Waits tells whether the time of something has not come. A date that lies further ahead than the longest pause that there
// is was written under a clock that was wrong, and is not believed: it would keep what waits for it from ever being done.
func Waits(until, now time.Time, longest time.Duration) bool {
	return now.Before(until) && until.Sub(now) <= longest
}

// LongestPause is the longest before what has failed is tried again: a rotation, or the removal of a key.
const LongestPause = time.Hour

// RotationPause is the pause before a rotation is tried again that has failed so many times in a row.
func RotationPause(failures int) time.Duration { return Backoff(time.Minute, LongestPause, failures) }

// Backoff is the pause after so many failures in a row: the first one's, twice as long after each more, and longest at most.
func Backoff(first, longest time.Duration, failures int) time.Duration {
	return min(longest, first<<min(max(failures-1, 0), 6))
}
