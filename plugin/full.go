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

// fullUsers remembers the users whose slots were all taken, with what was said of it.
type fullUsers struct {
	mu    sync.Mutex
	users map[string]fullUser // by ledger prefix
}

type fullUser struct {
	refusal string
	until   time.Time
}

func newFullUsers() *fullUsers { return &fullUsers{users: map[string]fullUser{}} }

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
