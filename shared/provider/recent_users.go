// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

// MaxRecentUsers is how many users a cloud's list remembers, and who goes on with it under another key: no list may go back further,
// so that both yield each user once.
const MaxRecentUsers = 1200

// RecentUsers are the ids of the users that a list has had last, Max at most. An account has any number of users, and a list that
// begins anew, or goes back a few pages, passes over those that it knows.
type RecentUsers struct {
	Max int

	ids   map[string]bool
	order []string
}

// Has tells whether a user is one of them.
func (r *RecentUsers) Has(id string) bool { return r.ids[id] }

// Add remembers a user, and forgets the oldest beyond Max. It returns false where the user was known already.
func (r *RecentUsers) Add(id string) bool {
	if r.ids[id] {
		return false
	}
	if r.ids == nil {
		r.ids = map[string]bool{}
	}
	r.ids[id], r.order = true, append(r.order, id)
	if len(r.order) > r.Max {
		delete(r.ids, r.order[0])
		r.order = r.order[1:]
	}
	return true
}
