// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import "slices"

// book is what is known of one account.
type book struct {
	items  map[string]*Item   // by label; an item is never changed, but replaced, and by put alone
	owners map[string][]*Item // the same by user
	roles  map[counted]int    // how many leased keys each role has
	unseen map[string]bool    // labels of items that storage did not give
	open   map[*Item]bool     // the unfinished ones of every account: there are few at any time, and each account's tick looks at all of them

	listed  bool
	unread  []string        // labels that are listed, and still to be read
	removed map[string]bool // labels that went while the book is filled
	turn    chan struct{}   // whose turn it is to fill it
}

// counted is a role, and the cloud account that keys of it were abandoned in, which count there alone; empty: they were not.
type counted struct{ role, abandonedIn string }

func newBook(listed bool, open map[*Item]bool) *book {
	return &book{
		open:  open,
		items: map[string]*Item{}, owners: map[string][]*Item{}, roles: map[counted]int{}, unseen: map[string]bool{},
		listed: listed, removed: map[string]bool{}, turn: make(chan struct{}, 1),
	}
}

func (b *book) whole() bool { return b.listed && len(b.unread) == 0 }

// put has a label stand for an item, or for none where it is nil.
func (b *book) put(label string, item *Item) {
	if before := b.items[label]; before != nil {
		b.leave(label, before)
	}
	if item == nil {
		delete(b.items, label)
		return
	}
	b.items[label] = item
	b.owners[item.User] = append(b.owners[item.User], item)
	if item.counts() {
		b.roles[counted{item.Role, item.AbandonedIn}]++
	}
	if item.unread {
		b.unseen[label] = true
	}
	if item.Unfinished() {
		b.open[item] = true
	}
}

// leave takes an item out of all that is counted.
func (b *book) leave(label string, item *Item) {
	others := b.owners[item.User]
	at := slices.Index(others, item)
	others[at], others[len(others)-1] = others[len(others)-1], nil
	if others = others[:len(others)-1]; len(others) == 0 {
		delete(b.owners, item.User)
	} else {
		b.owners[item.User] = others
	}
	if item.counts() {
		of := counted{item.Role, item.AbandonedIn}
		if b.roles[of]--; b.roles[of] == 0 {
			delete(b.roles, of)
		}
	}
	delete(b.unseen, label)
	delete(b.open, item)
}
