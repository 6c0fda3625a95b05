// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// duePeriod is how often the whole ledger is read. A walk keeps in mind what comes due until the one after the next has
// begun, so it has a whole period to end in.
const duePeriod = 30 * time.Minute

// walkBudget is the part of a tick that a walk may take: the ledger of a large mount takes several, in which what is due
// must be reaped all the same.
const walkBudget = tickBudget / 2

// dueKeys knows which entries of the ledger the reaper has to look at, so that it need not read the whole ledger every
// minute: each entry read is a call to the server, a read from disk and a decryption. It lives in memory on the active
// node, the only one that reaps:
//
//	walk the ledger every duePeriod; keep what is due within two periods
//	an entry that is written meanwhile is noted before it is written
//	at its time the entry is read again: it may have been renewed, or be gone
//
// A new active node begins with a walk, which finds what is overdue as well.
type dueKeys struct {
	mu       sync.Mutex // never held across storage or cloud calls
	accounts map[string]*dueAccount

	counted func(label string) bool // tells keys that the counts of this process have
}

// dueAccount is what is known of one account. Its walk belongs to the one tick that tends the account.
type dueAccount struct {
	paths map[string]time.Time // of entries -> when they are due
	next  time.Time            // when the next walk begins
	left  []string             // identities of this walk that are still to be listed
	keys  []string             // entries of the identity in hand that are still to be read
	census
}

func newDueKeys(counted func(label string) bool) *dueKeys {
	return &dueKeys{accounts: map[string]*dueAccount{}, counted: counted}
}

// due is when the reaper should look at an entry.
func (e *ledgerEntry) due() time.Time {
	due := e.Expires.Add(lifetime.ClockMargin)
	if e.RetryAt.After(due) {
		return e.RetryAt
	}
	return due
}

// of returns what is known of an account. The lock is held.
func (d *dueKeys) of(account string) *dueAccount {
	known, ok := d.accounts[account]
	if !ok {
		known = &dueAccount{paths: map[string]time.Time{}, census: census{stuck: map[string]time.Time{}}}
		d.accounts[account] = known
	}
	return known
}

// note keeps in mind when an entry is due, unless a walk will come across it in time.
func (d *dueKeys) note(entry *ledgerEntry) {
	if !entry.leased() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.of(entry.Account)
	known.noteStuck(entry)
	if due := entry.due(); due.Before(time.Now().Add(2 * duePeriod)) {
		known.paths[entry.path()] = due
	} else {
		delete(known.paths, entry.path())
	}
}

// forget drops an entry that is gone.
func (d *dueKeys) forget(account, path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.of(account)
	delete(known.paths, path)
	delete(known.stuck, path)
}

// putBehind has an entry that is due stand behind all others that are.
func (d *dueKeys) putBehind(account, path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of(account).paths[path] = time.Now()
}

// retryRead has an entry that storage did not give be looked at again. Until the next walk its key would live on, past its
// date where the cloud does not end it; at once it would come before the others at each tick, and what cannot be read at all
// would keep them from being reaped.
func (d *dueKeys) retryRead(account, path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of(account).paths[path] = time.Now().Add(reapRetryLive)
}

// now returns the entries of an account that are due, the longest overdue first.
func (d *dueKeys) now(account string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	paths := d.of(account).paths
	now := time.Now()
	var due []string
	for path, at := range paths {
		if !now.Before(at) {
			due = append(due, path)
		}
	}
	slices.SortFunc(due, func(a, b string) int { return cmp.Or(paths[a].Compare(paths[b]), strings.Compare(a, b)) })
	return due
}

// walk reads the account's ledger, as far as its budget lets it: the next tick goes on where this one ends.
func (d *dueKeys) walk(ctx context.Context, s logical.Storage, account string) error {
	ctx, cancel := context.WithTimeout(ctx, walkBudget)
	defer cancel()
	d.mu.Lock()
	known := d.of(account)
	d.mu.Unlock()
	now := time.Now()
	if len(known.left) == 0 && len(known.keys) == 0 {
		if now.Before(known.next) {
			return nil
		}
		identities, err := s.List(ctx, ledgerAccountPrefix(account))
		if err != nil {
			return fmt.Errorf("listing the ledger of account %q: %w", account, err)
		}
		known.left, known.next = identities, now.Add(duePeriod)
		known.inherited = map[string]int{}
	}
	for ctx.Err() == nil {
		if len(known.keys) == 0 && len(known.left) == 0 {
			d.endCensus(known)
			return nil
		}
		if err := d.step(ctx, s, account, known); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// step reads one entry, or lists the next identity.
func (d *dueKeys) step(ctx context.Context, s logical.Storage, account string, known *dueAccount) error {
	if len(known.keys) == 0 {
		identity := ledgerAccountPrefix(account) + known.left[0]
		keys, err := s.List(ctx, identity)
		if err != nil {
			return fmt.Errorf("listing the ledger of account %q: %w", account, err)
		}
		for i, key := range keys {
			keys[i] = identity + key
		}
		known.keys, known.left = keys, known.left[1:]
		return nil
	}
	entry, err := load[ledgerEntry](ctx, s, known.keys[0])
	if err != nil && ctx.Err() != nil {
		return err // nothing was learned of it
	}
	// One that cannot be read does not keep the others from being seen.
	path := known.keys[0]
	known.keys = known.keys[1:]
	if err != nil {
		d.retryRead(account, path)
	}
	if entry != nil {
		d.note(entry)
		d.count(known, entry)
	}
	return err
}

// drop forgets an account.
func (d *dueKeys) drop(account string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.accounts, account)
}

// record writes an entry to the ledger. It is noted first: a write that is said to have failed may have been carried out.
func (b *backend) record(ctx context.Context, s logical.Storage, entry *ledgerEntry) error {
	b.due.note(entry)
	defer b.own.added(entry)
	return save(ctx, s, entry.path(), entry)
}
