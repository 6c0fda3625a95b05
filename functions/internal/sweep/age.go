// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import "time"

// Ages are the names of the age groups that keys are counted in, the youngest first. The
// last is for keys whose age the cloud does not tell.
func Ages() [8]string {
	return [8]string{"under 1 day", "1–7 days", "7–30 days", "30–90 days", "90–180 days", "180–365 days", "over 1 year", "unknown"}
}

// AgeGroup is the index in Ages of a key made at that time.
func AgeGroup(created, now time.Time) int {
	if created.IsZero() {
		return 7
	}
	const day = 24 * time.Hour
	age := now.Sub(created)
	for i, limit := range []time.Duration{day, 7 * day, 30 * day, 90 * day, 180 * day, 365 * day} {
		if age < limit {
			return i
		}
	}
	return 6
}
