// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"maps"
	"time"
)

// census is what a walk through the ledger counts on its way, for the metrics: nobody else may read the whole ledger.
type census struct {
	inherited map[string]int       // by role: keys of earlier processes, of the walk that goes on; the walk's own
	published map[string]int       // the same of the last whole walk, less what was revoked since; nil: there was none
	stuck     map[string]time.Time // paths of entries that the reaper could not remove -> the end of the key
}

// censusView is what the metrics show of an account.
type censusView struct {
	inherited map[string]int
	stuck     int
	oldest    time.Time // when the key ended that has been stuck for the longest; zero: none is
	whole     bool      // a walk has come to its end
}

func (c *census) noteStuck(entry *ledgerEntry) {
	if entry.Problem == "" {
		delete(c.stuck, entry.path())
		return
	}
	c.stuck[entry.path()] = entry.Expires
}

// count takes a key that was leased before this process began.
func (d *dueKeys) count(known *dueAccount, entry *ledgerEntry) {
	if entry.leased() && !d.counted(entry.Label) {
		known.inherited[entry.Role]++
	}
}

func (d *dueKeys) endCensus(known *dueAccount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known.published = known.inherited
}

// struck drops an entry that is gone from the ledger. It comes before the key leaves the counts of this process.
func (d *dueKeys) struck(entry *ledgerEntry) {
	d.forget(entry.Account, entry.path())
	if !entry.leased() || d.counted(entry.Label) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.of(entry.Account); known.published[entry.Role] > 0 {
		known.published[entry.Role]--
	}
}

// look returns what is known of an account. It reads nothing.
func (d *dueKeys) look(account string) censusView {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.accounts[account]
	if !ok {
		return censusView{}
	}
	view := censusView{inherited: maps.Clone(known.published), stuck: len(known.stuck), whole: known.published != nil}
	for _, since := range known.stuck {
		if view.oldest.IsZero() || since.Before(view.oldest) {
			view.oldest = since
		}
	}
	return view
}
