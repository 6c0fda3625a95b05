// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import "time"

// Lives counts the keys of an account by what is left of their lives, as they were found; and of
// each group those that are in the way of the wanted policy.
type Lives struct {
	Keys     LifeCounts `json:"keys"`
	InTheWay LifeCounts `json:"in_the_way"`
}

// LifeCounts are numbers of the groups that LifeGroups names.
type LifeCounts [9]int

// LifeGroups are the names of the groups, the shortest lives first.
func LifeGroups() [9]string {
	return [9]string{"ended", "under 1 hour", "1–24 hours", "1–7 days", "7–30 days", "30–90 days", "90–365 days", "over 1 year", "never ends"}
}

// LifeGroup is the index in LifeGroups of a remaining life, or of a limit. A limit of 0 is none.
func LifeGroup(left time.Duration) int {
	const day = 24 * time.Hour
	for i, limit := range []time.Duration{1, time.Hour, day, 7 * day, 30 * day, 90 * day, 365 * day} {
		if left < limit {
			return i
		}
	}
	return 7
}

func (l *Lives) add(expires, now time.Time, inTheWay bool) {
	group := len(l.Keys) - 1
	if !expires.IsZero() {
		group = LifeGroup(expires.Sub(now))
	}
	l.Keys[group]++
	if inTheWay {
		l.InTheWay[group]++
	}
}
