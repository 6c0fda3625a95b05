// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import "slices"

// book is what is known of one account.
type book struct {
	items  map[string]*Item   // by label; an item is never changed, but replaced, and by put alone
	owners map[string][]*Item // the same by user
	roles  map[string]int     // how many leased keys each role has
	unseen map[string]bool    // labels of items that storage did not give
	open   map[*Item]bool     // the unfinished ones of every account: there are few at any time, and each account's tick looks at all of them

	listed  bool
	unread  []string        // labels that are listed, and still to be read
	removed map[string]bool // labels that went while the book is filled
	turn    chan struct{}   // whose turn it is to fill it
}

func newBook(listed bool, open map[*Item]bool) *book {
	return &book{
		open:  open,
		items: map[string]*Item{}, owners: map[string][]*Item{}, roles: map[string]int{}, unseen: map[string]bool{},
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
		b.roles[item.Role]++
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
		if b.roles[item.Role]--; b.roles[item.Role] == 0 {
			delete(b.roles, item.Role)
		}
	}
	delete(b.unseen, label)
	delete(b.open, item)
}
