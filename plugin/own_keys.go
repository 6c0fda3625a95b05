// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// ownKeys knows which keys the ledger has of the users of pools: a pool of eight would else list
// the ledger eight times a lease. It holds ids and not a count, so that what is noted twice, or
// was listed already, does no harm. It lives in memory on the active node, the only one that
// writes the ledger.
type ownKeys struct {
	mu      sync.Mutex // never held across a storage call
	users   map[string]*ownedKeys
	pending map[string]int // requests that are about to make a key
}

// ownedKeys are those of one user.
type ownedKeys struct {
	ids     map[string]bool // nil: to be listed
	changes int
}

func newOwnKeys() *ownKeys {
	return &ownKeys{users: map[string]*ownedKeys{}, pending: map[string]int{}}
}

// reserve counts a key that is about to be made, until it is released: it is in the ledger then,
// or was not made.
func (o *ownKeys) reserve(account, user string) (release func()) {
	prefix := ledgerIdentityPrefix(account, user)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending[prefix]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.pending[prefix]--; o.pending[prefix] == 0 {
			delete(o.pending, prefix)
		}
	}
}

// count is how many keys the ledger has on an identity, and requests are about to make.
func (o *ownKeys) count(ctx context.Context, s logical.Storage, account, user string) (int, error) {
	prefix := ledgerIdentityPrefix(account, user)
	o.mu.Lock()
	known, ok := o.users[prefix]
	if !ok {
		known = &ownedKeys{}
		o.users[prefix] = known
	}
	count, listed, changes, pending := len(known.ids), known.ids != nil, known.changes, o.pending[prefix]
	o.mu.Unlock()
	if listed {
		return count + pending, nil
	}
	ids, err := s.List(ctx, prefix)
	if err != nil {
		return 0, fmt.Errorf("counting the ledger's keys of account %q: %w", account, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if known.changes == changes { // else the list may miss what was written meanwhile
		known.ids = make(map[string]bool, len(ids))
		for _, id := range ids {
			known.ids[id] = true
		}
	}
	return len(ids) + pending, nil
}

// added is called after an entry was written, removed after one was deleted.
func (o *ownKeys) added(entry *ledgerEntry) {
	o.change(entry.Account, entry.User, func(ids map[string]bool) { ids[entry.AccessKey] = true })
}

func (o *ownKeys) removed(entry *ledgerEntry) {
	o.change(entry.Account, entry.User, func(ids map[string]bool) { delete(ids, entry.AccessKey) })
}

// change applies to users that somebody has counted: the others are of no pool.
func (o *ownKeys) change(account, user string, apply func(ids map[string]bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.users[ledgerIdentityPrefix(account, user)]; ok {
		known.changes++
		if known.ids != nil {
			apply(known.ids)
		}
	}
}

// forget has a user listed again, whose entries were changed some other way.
func (o *ownKeys) forget(account, user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.users[ledgerIdentityPrefix(account, user)]; ok {
		known.changes++
		known.ids = nil
	}
}
