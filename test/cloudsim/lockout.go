// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"fmt"
	"math"
	"time"
)

const (
	refusalsToLock = 4
	maxLockMinutes = 10
)

// lockout counts failed authentications in a row: the fourth locks for a minute, every further four for a minute more, up
// to ten minutes. Attempts while locked are turned away uncounted. A lock lasts its minutes, whatever somebody sets the clock to.
type lockout struct {
	failures int
	until    time.Time
}

func (l *lockout) locked(now time.Time) bool { return now.Before(l.until) }

func (l *lockout) fail(now time.Time) {
	l.failures++
	if l.failures%refusalsToLock == 0 {
		minutes := min(l.failures/refusalsToLock, maxLockMinutes)
		l.until = now.Add(time.Duration(minutes) * time.Minute)
	}
}

func (l *lockout) succeed() { *l = lockout{} }

func (l *lockout) refusal(now time.Time) *apiError {
	seconds := math.Ceil(l.until.Sub(now).Seconds())
	return accessDenied(codeLocked, fmt.Sprintf("locked for %.0f seconds", seconds))
}

// Locked reports whether failed authentications have locked the account's API.
func (a *Account) Locked() bool {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	return a.lock.locked(time.Now())
}

// UseDeadKey is what another program of the account does that has a key which is dead: one failed authentication.
func (a *Account) UseDeadKey() {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if now := time.Now(); !a.lock.locked(now) {
		a.lock.fail(now)
	}
}
