// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// When the keys of static roles are rotated and deleted: by a server's ticks, and by a timer between them.

// staticRetry is the pause before a rotation is tried again that never came to its turn.
const staticRetry = 5 * time.Second

// staticTries is when each static role is tried next, on the node that rotates them: at its time,
// or, after failures, when its pause is over. It is in memory: after a restart all that is due is
// tried at once.
type staticTries struct {
	mu    sync.Mutex // never held across a storage or cloud call
	roles map[string]staticTry
	timer *time.Timer
	armed time.Time                // for when; zero: not at all
	ended bool                     // the mount is unmounted, or the process ends: nothing is armed any more
	seen  map[string][]staticDates // by account, at its last tick
}

// staticDates are those of one role, for the metrics: a scrape reads no key.
type staticDates struct {
	account, name string
	rotated, due  time.Time
}

func (d staticDates) labels() []label {
	return []label{{"account", d.account}, {"static_role", d.name}}
}

// staticTry is the next try of one role.
type staticTry struct {
	at       time.Time
	failures int    // in a row
	heldIn   string // the account whose engine key was held back then; empty: none was
}

// saw keeps the dates of an account's roles.
func (t *staticTries) saw(account string, dates []staticDates) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[account] = dates
}

// schedule are the dates of all roles that this node looks after.
func (t *staticTries) schedule() (all []staticDates) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, account := range slices.Sorted(maps.Keys(t.seen)) {
		all = append(all, t.seen[account]...)
	}
	return all
}

// next is when a role that is due at a time is tried.
func (t *staticTries) next(name string, due time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if try, known := t.roles[name]; known && try.at.After(due) {
		return try.at
	}
	return due
}

// failed puts a role off, for longer each time: those whose users are gone would else take each
// tick's time from all others. What fails while the engine key is held back waits for the end of that, which tells nothing of the role.
func (t *staticTries) failed(name string, now time.Time, account string, hold provider.Hold) (again time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.roles[name].failures
	pause, try := lifetime.RotationPause(before+1), staticTry{failures: before + 1}
	switch left := hold.Until.Sub(now); {
	case left > 0:
		pause, try = left, staticTry{failures: before, heldIn: account}
	case hold.Trying: // another's call tries the key, and will tell
		pause, try.heldIn = min(pause, lifetime.Backoff(staticRetry, lifetime.LongestPause, before+1)), account
	}
	try.at = now.Add(pause)
	t.roles[name] = try
	return try.at
}

// forget is called when a role was rotated, written or deleted: it is tried at its time again.
func (t *staticTries) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.roles, name)
}

// followHold has what waits for an account's engine key be tried when its hold ends, and at once where there is none any more.
func (t *staticTries) followHold(account string, hold provider.Hold) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, try := range t.roles {
		switch {
		case try.heldIn != account:
		case hold == provider.Hold{}:
			delete(t.roles, name)
		case !hold.Trying:
			try.at = earlier(try.at, hold.Until)
			t.roles[name] = try
		}
	}
}

// arm has run be called at a time, in place of what was armed before; zero: never.
func (t *staticTries) arm(at time.Time, run func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer, t.armed = nil, time.Time{}
	}
	if !at.IsZero() && !t.ended {
		t.timer, t.armed = time.AfterFunc(time.Until(at), run), at
	}
}

// armedFor is when what was armed runs, or ran last; zero: never.
func (t *staticTries) armedFor() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.armed
}

// end disarms for good.
func (t *staticTries) end() {
	t.arm(time.Time{}, nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// armRotations has what comes due before the next tick be rotated at its time: the server ticks once
// a minute, and an operator that waits for a new key is told to come back at that time. The schedule
// is in storage: a restart or a failover changes nothing.
func (b *backend) armRotations(s logical.Storage, next time.Time) {
	if next.IsZero() || time.Until(next) > 2*tickPeriod || b.System().Tainted() {
		b.static.arm(time.Time{}, nil)
		return
	}
	b.static.arm(next, func() {
		if err := b.safely("the rotation of static roles", func() error { return b.rotateOnTime(s) }); err != nil {
			b.Logger().Warn("static roles cannot be rotated yet", "error", err)
		}
	})
}

// hastenRotation arms earlier for a role that was just written, and may come due before the next tick.
func (b *backend) hastenRotation(s logical.Storage, role *staticRole, creds *staticCreds) {
	next, err := role.nextWork(creds, time.Now())
	if err != nil {
		return // the tick says so
	}
	if armed := b.static.armedFor(); armed.IsZero() || next.Before(armed) || time.Until(armed) <= 0 {
		b.armRotations(s, next)
	}
}

// rotateOnTime rotates what is due between two ticks. The accounts are tended side by side, as in a tick.
func (b *backend) rotateOnTime(s logical.Storage) error {
	ctx, cancel := context.WithTimeout(transport.WithClass(context.Background(), transport.ClassBackground), tickBudget)
	defer cancel()
	roles, err := staticRolesByAccount(ctx, s)
	if err != nil {
		return err
	}
	accounts := slices.Sorted(maps.Keys(roles))
	var tended sync.WaitGroup
	problems, next := make([]error, len(accounts)), make([]time.Time, len(accounts))
	for i, account := range accounts {
		tended.Go(func() {
			problems[i] = b.besideOthers(ctx, s, "the rotation of static roles of account "+account, func() (err error) {
				next[i], err = b.tendStaticRoles(ctx, s, account, roles[account])
				return err
			})
		})
	}
	tended.Wait()
	var first time.Time
	for _, at := range next {
		first = earlier(first, at)
	}
	b.armRotations(s, first)
	return errors.Join(problems...)
}

// staticWork is something that is to be done for one static role.
type staticWork struct {
	name string
	at   time.Time
}

// tendStaticRoles does what is due of an account's roles, on the node that may: the one that armed the timer may have stepped
// down since. The rotations come first, the longest overdue before the others: a replaced key that the cloud does not let go keeps no
// role from its next one. Of the replaced keys those come first whose grace ended last: what hangs stands behind the others. It returns
// when something is to be done next; zero: never.
func (b *backend) tendStaticRoles(
	ctx context.Context, s logical.Storage, account string, roles map[string]*staticRole,
) (next time.Time, err error) {
	if len(roles) > 0 && !b.WriteSafeReplicationState() { // which are two calls to the server
		return time.Time{}, nil
	}
	b.static.followHold(account, b.holdOf(account))
	rotations, deletes, err := b.staticWork(ctx, s, account, roles)
	problems := []error{err}
	for _, work := range rotations {
		if time.Now().Before(work.at) || ctx.Err() != nil {
			next = earlier(next, work.at) // the next tick goes on
			continue
		}
		at, err := b.rotateStaticIfDue(ctx, s, work.name)
		if err != nil {
			problems = append(problems, fmt.Errorf("static role %q: %w", work.name, err))
		}
		next = earlier(next, at)
	}
	for i, work := range deletes {
		if time.Now().Before(work.at) {
			next = earlier(next, work.at)
			continue
		}
		b.deletePreviousInTime(ctx, s, work.name, i == len(deletes)-1)
	}
	return next, errors.Join(problems...)
}

// staticWork lists what is to be done for an account's roles, now or later, in the order in which it is done.
func (b *backend) staticWork(
	ctx context.Context, s logical.Storage, account string, roles map[string]*staticRole,
) (rotations, deletes []staticWork, err error) {
	now := time.Now()
	var problems []error
	var dates []staticDates
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		role := roles[name]
		creds, err := loadOrNew[staticCreds](ctx, s, staticCredsPrefix+name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		due := now // a crash between the role and its first key
		if creds.AccessKey != "" {
			due, err = role.due(creds, now)
			problems = append(problems, err)
			dates = append(dates, staticDates{account: account, name: name, rotated: creds.LastRotation, due: due})
		}
		rotations = append(rotations, staticWork{name, b.static.next(name, due)})
		if len(creds.Previous) > 0 {
			deletes = append(deletes, staticWork{name, role.nextDelete(creds, now)})
		}
	}
	b.static.saw(account, dates)
	inOrder := func(x, y staticWork) int { return cmp.Or(x.at.Compare(y.at), strings.Compare(x.name, y.name)) }
	slices.SortFunc(rotations, inOrder)
	slices.SortFunc(deletes, func(x, y staticWork) int { return inOrder(y, x) })
	return rotations, deletes, errors.Join(problems...)
}

// nextWork is when something is to be done for a role: a rotation, or the end of a replaced key.
func (r *staticRole) nextWork(creds *staticCreds, now time.Time) (time.Time, error) {
	if creds.AccessKey == "" { // a crash between the role and its first key
		return now, nil
	}
	next, err := r.due(creds, now)
	for _, previous := range creds.Previous {
		if !lifetime.Waits(previous.DeleteAfter, now, r.longestGrace()) {
			return now, err
		}
		next = earlier(next, previous.DeleteAfter)
	}
	return next, err
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// nextDelete is when a replaced key is to be deleted: the last of those times that have come, or the first of those to come.
func (r *staticRole) nextDelete(creds *staticCreds, now time.Time) time.Time {
	var last, first time.Time
	for _, previous := range creds.Previous {
		if lifetime.Waits(previous.DeleteAfter, now, r.longestGrace()) {
			first = earlier(first, previous.DeleteAfter)
		} else {
			last = earlier(previous.DeleteAfter, now)
		}
	}
	return cmp.Or(last, first)
}

// rotateStaticIfDue rotates one role whose time has come, and returns when it is to be tried next.
func (b *backend) rotateStaticIfDue(ctx context.Context, s logical.Storage, name string) (next time.Time, err error) {
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	role, creds, err := loadStatic(ctx, s, name)
	if err != nil || role == nil {
		return time.Time{}, err
	}
	now := time.Now()
	if creds.AccessKey != "" {
		due, err := role.due(creds, now)
		if err != nil || now.Before(due) {
			return b.static.next(name, due), err
		}
	}
	if creds, err = b.rotateStatic(ctx, s, name, role); err == nil {
		return role.nextWork(creds, now)
	}
	if errors.Is(err, transport.ErrNoTurn) {
		return now.Add(staticRetry), err // the tick is over, and nothing was learned of the role
	}
	return b.static.failed(name, time.Now(), role.Account, b.holdOf(role.Account)), err
}

// holdOf is what holds the calls of an account back; zero: nothing does.
func (b *backend) holdOf(account string) provider.Hold {
	a := b.openedAccount(account)
	if a == nil {
		return provider.Hold{}
	}
	holder, ok := a.cloud.(provider.Holder)
	if !ok {
		return provider.Hold{}
	}
	hold, _ := holder.Hold()
	return hold
}

// deletePreviousInTime deletes a role's replaced keys whose grace is over, in a part of the time that is left where others
// come after it.
func (b *backend) deletePreviousInTime(ctx context.Context, s logical.Storage, name string, last bool) {
	if ctx.Err() != nil {
		return // the next tick goes on
	}
	left := timeLeft(ctx)
	if !last {
		left /= 2
	}
	ctx, cancel := context.WithTimeout(ctx, min(reapBudget, left))
	defer cancel()
	if err := b.deletePreviousStatic(ctx, s, name); err != nil {
		b.Logger().Warn("a replaced key cannot be deleted yet", "static_role", name, "error", err)
	}
}

// deletePreviousStatic is step (5) of rotateStatic.
func (b *backend) deletePreviousStatic(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	role, creds, err := loadStatic(ctx, s, name)
	if err != nil || role == nil || !anyDue(creds.Previous, time.Now(), role.longestGrace()) {
		return err
	}
	a, err := b.accountOf(ctx, s, role.Account, creds.AccountID, creds.AccessKey)
	if err != nil {
		return err
	}
	left, err := b.deleteDue(ctx, s, a, creds.Previous, role.longestGrace())
	if len(left) == len(creds.Previous) {
		return err
	}
	creds.Previous = left
	ctx, cancel := cleanupContext(ctx) // what was deleted at the last moment is not named any more
	defer cancel()
	return errors.Join(err, save(ctx, s, staticCredsPrefix+name, creds))
}
