// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import "testing"

// More than five refusals in a row lock a key of Huawei Cloud: two calls, the one that is tried again,
// and the two of a try that was under way.
func TestFewCallsAreUnderWayAtOnce(t *testing.T) {
	for perSecond, want := range map[float64]int{0.5: 2, 5: 2, 10: 4, 50: 20} {
		if got := cap(NewSlots(perSecond)); got != want {
			t.Errorf("%v calls a second: %d at once, want %d", perSecond, got, want)
		}
	}
}
