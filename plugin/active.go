// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"maps"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// activeKeys counts the keys of each role, for max_active_keys. A key counts from
// before its create until the cloud is known to have lost it: the label that stands
// in WAL and ledger is taken first, so that requests in flight, and creates whose
// fate is unknown, count as well. It lives in memory on the active node, the only
// one that issues, and takes up what an earlier process left at the first use.
type activeKeys struct {
	mu      sync.Mutex // never held across storage or cloud calls
	roles   map[string]string
	counts  map[string]int
	walked  bool
	dropped map[string]bool // while walking: labels that are gone, though the walk may have seen them
	settled []string        // labels that the rollback is done with

	walking chan struct{} // a semaphore: one walk at a time
}

func newActiveKeys() *activeKeys {
	return &activeKeys{roles: map[string]string{}, counts: map[string]int{}, walking: make(chan struct{}, 1)}
}

// take counts a key that is about to be made, unless the role has as many as it may;
// 0 is no cap. It returns how many the role has.
func (k *activeKeys) take(role, label string, most int) (count int, taken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if most > 0 && k.counts[role] >= most {
		return k.counts[role], false
	}
	k.add(role, label)
	return k.counts[role], true
}

// knows tells whether a key is counted.
func (k *activeKeys) knows(label string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, counted := k.roles[label]
	return counted
}

// byRole returns how many keys of each role are counted, and whether those of earlier processes are among them.
func (k *activeKeys) byRole() (counts map[string]int, all bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.counts), k.walked
}

// drop takes a key that is gone, or was never made, out of the count.
func (k *activeKeys) drop(label string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dropped != nil {
		k.dropped[label] = true
	}
	role, counted := k.roles[label]
	if !counted {
		return
	}
	delete(k.roles, label)
	if k.counts[role]--; k.counts[role] == 0 {
		delete(k.counts, role)
	}
}

// rolledBack notes a label whose WAL entry Vault deletes next. It counts until the
// tick after: dropped at once, it could be counted again, for ever, by a walk that
// still finds the entry.
func (k *activeKeys) rolledBack(label string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settled = append(k.settled, label)
}

// dropRolledBack drops what the tick before has rolled back.
func (k *activeKeys) dropRolledBack() {
	k.mu.Lock()
	settled := k.settled
	k.settled = nil
	k.mu.Unlock()
	for _, label := range settled {
		k.drop(label)
	}
}

// add counts a label once. The lock is held.
func (k *activeKeys) add(role, label string) {
	if _, counted := k.roles[label]; !counted {
		k.roles[label] = role
		k.counts[role]++
	}
}

// ensure takes up, once, what WAL and ledger know: the keys of the process before.
func (k *activeKeys) ensure(ctx context.Context, s logical.Storage) error {
	select {
	case k.walking <- struct{}{}:
		defer func() { <-k.walking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.begin() {
		return nil
	}
	found, err := issuedLabels(ctx, s)
	k.end(found, err)
	return err
}

// begin tells whether the walk was done before, and remembers from now on what is
// dropped.
func (k *activeKeys) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.walked {
		k.dropped = map[string]bool{}
	}
	return k.walked
}

func (k *activeKeys) end(found map[string]string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		for label, role := range found {
			if !k.dropped[label] {
				k.add(role, label)
			}
		}
		k.walked = true
	}
	k.dropped = nil
}

// issuedLabels maps the label of every key in WAL and ledger to its role. The WAL is
// read first: a key is in the ledger before it leaves the WAL.
func issuedLabels(ctx context.Context, s logical.Storage) (map[string]string, error) {
	labels := map[string]string{}
	pending, err := pendingKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, key := range pending {
		labels[key.Label] = key.Role
	}
	paths, err := allLedgerPaths(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		entry, err := load[ledgerEntry](ctx, s, path)
		if err != nil {
			return nil, err
		}
		if entry != nil && entry.leased() {
			labels[entry.Label] = entry.Role
		}
	}
	return labels, nil
}
