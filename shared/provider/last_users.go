// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

// lastUsers is how many users LastUsers knows: twelve pages of OUTSCALE's.
const lastUsers = 1200

// LastUsers are the ids of the users that a list has had last. An account has any number of users, and a list that begins anew, or goes
// back a few pages, passes over those that it knows.
type LastUsers struct {
	ids   map[string]bool
	order []string
}

// Has tells whether a user is one of them.
func (l *LastUsers) Has(id string) bool { return l.ids[id] }

// Add tells whether the user is new.
func (l *LastUsers) Add(id string) bool {
	if l.ids[id] {
		return false
	}
	if l.ids == nil {
		l.ids = map[string]bool{}
	}
	l.ids[id], l.order = true, append(l.order, id)
	if len(l.order) > lastUsers {
		delete(l.ids, l.order[0])
		l.order = l.order[1:]
	}
	return true
}
