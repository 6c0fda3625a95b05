// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"sync"
	"time"
)

// fullFor is how long a user without a free slot is not asked again, so that a crash
// loop does not become a storm of creates and lists.
const fullFor = 30 * time.Second

// fullUsers remembers the users whose slots were all taken, with what was said of it, and
// how many slots of each user the keys of others take.
type fullUsers struct {
	mu      sync.Mutex
	users   map[string]fullUser // by ledger prefix
	foreign map[string]int      // by ledger prefix, as last listed
}

type fullUser struct {
	refusal string
	until   time.Time
}

func newFullUsers() *fullUsers {
	return &fullUsers{users: map[string]fullUser{}, foreign: map[string]int{}}
}

func (f *fullUsers) remember(account, user, refusal string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[ledgerIdentityPrefix(account, user)] = fullUser{refusal: refusal, until: time.Now().Add(fullFor)}
}

// recall returns the refusal of a user that was full a moment ago.
func (f *fullUsers) recall(account, user string) (refusal string, full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	prefix := ledgerIdentityPrefix(account, user)
	known, full := f.users[prefix]
	if full && !time.Now().Before(known.until) {
		delete(f.users, prefix)
		return "", false
	}
	return known.refusal, full
}

// forget is called when a slot has become free.
func (f *fullUsers) forget(account, user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, ledgerIdentityPrefix(account, user))
}

// learn keeps the count of foreign keys from a list that was made anyway.
func (f *fullUsers) learn(account, user string, foreign int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.foreign[ledgerIdentityPrefix(account, user)] = foreign
}

// foreignKeys is that count; known is false where the user was never listed.
func (f *fullUsers) foreignKeys(account, user string) (count int, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count, known = f.foreign[ledgerIdentityPrefix(account, user)]
	return count, known
}

// unlearn drops a count that has proved wrong.
func (f *fullUsers) unlearn(account, user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.foreign, ledgerIdentityPrefix(account, user))
}
