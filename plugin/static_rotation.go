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

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// rotateStatic replaces a static role's key, or makes the first one:
//
//	(1) entry, begun → (2) create
//	    → crash: the next tick finds the key by its label. The role's entry does not name
//	      it, so it is deleted
//	(3) store the role's entry {current: new, previous: old until the grace is over}
//	    → crash: the role's entry names the new key, so the next tick does (4)
//	(4) entry, made
//	(5) at a later tick, past the grace: delete the old key, store the role's entry without it
//
// A failure at (3) deletes nothing: the write may have been stored all the same. The
// next tick decides by what is stored then. At the quota the role's own keys that nobody needs
// make room (freeOwnSlot), never a foreign one.
func (b *backend) rotateStatic(ctx context.Context, s logical.Storage, name string, role *staticRole) (creds *staticCreds, err error) {
	ctx = urgently(ctx)
	defer func() {
		b.announceRotation(ctx, eventRotate, name, "rotate-role/"+name, staticCredsPrefix+name, err)
	}()
	a, err := b.identified(ctx, s, role.Account)
	if err != nil {
		return nil, err
	}
	if a.isOwnIdentity(role.UserName, role.UserID) {
		return nil, userError("user %q owns the engine's own access key: a static role cannot have it", role.UserName)
	}
	if err := b.refuseEngineUsers(ctx, s, a, []string{role.UserName}, map[string]string{role.UserName: role.UserID}); err != nil {
		return nil, err
	}
	if err := b.refuseAnother(ctx, a, role.UserName, role.UserID, "static-roles/"+name); err != nil {
		return nil, err
	}
	before, err := loadOrNew[staticCreds](ctx, s, staticCredsPrefix+name)
	if err != nil {
		return nil, err
	}
	r, err := b.staticRotation(ctx, s, a, name, role)
	if err != nil {
		return nil, err
	}
	r.store = func(ctx context.Context, key recordedKey) error {
		creds = before.followedBy(a, role, key)
		if err := save(ctx, s, staticCredsPrefix+name, creds); err != nil {
			return fmt.Errorf("storing the new key of static role %q: %w", name, err)
		}
		return nil
	}
	err = b.rotate(ctx, r)
	for provider.KindOf(err) == provider.KindQuota {
		freed, problem := b.freeOwnSlot(ctx, s, a, role, before)
		if problem != nil {
			return nil, problem
		}
		if !freed {
			break
		}
		err = b.rotate(ctx, r)
	}
	switch kind := provider.KindOf(err); {
	case err == nil:
		b.Logger().Info("rotated a static role", "static_role", name, "access_key", creds.AccessKey, "previous", before.AccessKey)
		b.static.forget(name)
		return creds, nil
	case kind == provider.KindQuota:
		refusal, foreign := b.explainQuota(ctx, r.issuance, role.UserName, err)
		return nil, userError("static role %q cannot be rotated: %s. Delete a key that is not used%s", name, refusal, foreign)
	case kind == provider.KindNotFound:
		return nil, userError("user %q of static role %q does not exist in the cloud account (%s)", role.UserName, name, err)
	default:
		return nil, explain(a.name, err)
	}
}

// freeOwnSlot deletes one key of a static role's own where others leave its user no slot: the oldest that was replaced, and where none is
// left, the current one if the cloud has ended it by its date. That key works for nobody, and would keep its successor out for ever.
//
//	delete the key, in the cloud and in the ledger
//	→ crash: the role names a key that is gone, which the next rotation, or the next comparison, replaces
func (b *backend) freeOwnSlot(
	ctx context.Context, s logical.Storage, a *account, role *staticRole, creds *staticCreds,
) (freed bool, err error) {
	if len(creds.Previous) > 0 {
		if err := b.deletePrevious(ctx, s, a, creds.Previous[0]); err != nil {
			return false, err
		}
		creds.Previous = creds.Previous[1:]
		return true, nil
	}
	keys, _ := a.cloud.ListKeys(ctx, role.UserName) // without a list, the refusal for the quota stands, which says what to do
	ended := func(key provider.Key) bool { return key.ID == creds.AccessKey && a.hasEnded(key) }
	if !slices.ContainsFunc(keys, ended) {
		return false, nil
	}
	if err := b.deletePrevious(ctx, s, a, creds.asPrevious(role, time.Time{})); err != nil {
		return false, err
	}
	creds.AccessKey = ""
	return true, nil
}

// staticRotation is the order of a static role's next key.
func (b *backend) staticRotation(ctx context.Context, s logical.Storage, a *account, name string, role *staticRole) (rotation, error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return rotation{}, err
	}
	view, err := b.refreshPolicy(ctx, s, a) // the new key's date must hold under the policy of now
	if err != nil {
		return rotation{}, err
	}
	now := time.Now()
	expires, err := role.times().KeyExpiry(now, view.Policy.MaxKeyLifetime)
	return rotation{
		issuance: issuance{storage: s, account: a, roleName: name, instance: instance},
		order:    keyOrder{kind: keylabel.KindStatic, user: role.UserName, issued: now, expires: a.lastingEnd(expires)},
	}, err
}

// followedBy is the state of a static role once a new key has taken the place of the present one.
func (c *staticCreds) followedBy(a *account, role *staticRole, key recordedKey) *staticCreds {
	now, skew := time.Now(), a.skew()
	next := &staticCreds{
		AccountID: a.config.AccountID, AccessKey: key.ID, SecretKey: key.Secret.Reveal(), Label: key.Label,
		Created: byThisClock(key.Created, skew), Expires: byThisClock(key.Expires, skew), Previous: slices.Clone(c.Previous), LastRotation: now,
		Compared: c.Compared,
	}
	if c.AccessKey != "" {
		next.Previous = append(next.Previous, c.asPrevious(role, now))
	}
	return next
}

// byThisClock is a date of the cloud's in this machine's clock, which a schedule is kept in.
func byThisClock(date time.Time, skew time.Duration) time.Time {
	if date.IsZero() {
		return date
	}
	return date.Add(-skew)
}

// maxStaticPause is the longest pause before a static role whose rotation fails is tried again.
const maxStaticPause = time.Hour

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
	failures int // in a row
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
	if try, known := t.roles[name]; known && try.failures > 0 && try.at.After(due) {
		return try.at
	}
	return due
}

// failed puts a role off, for longer each time: those whose users are gone would else take each
// tick's time from all others.
func (t *staticTries) failed(name string, now time.Time) (again time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	failures := t.roles[name].failures + 1
	again = now.Add(min(maxStaticPause, time.Minute<<min(failures-1, 6)))
	t.roles[name] = staticTry{at: again, failures: failures}
	return again
}

// forget is called when a role was rotated, written or deleted: it is tried at its time again.
func (t *staticTries) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.roles, name)
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

// rotateOnTime rotates what is due between two ticks.
func (b *backend) rotateOnTime(s logical.Storage) error {
	ctx, cancel := context.WithTimeout(transport.WithClass(context.Background(), transport.ClassBackground), tickBudget)
	defer cancel()
	roles, err := staticRolesByAccount(ctx, s)
	if err != nil {
		return err
	}
	var problems []error
	var next time.Time
	for _, account := range slices.Sorted(maps.Keys(roles)) {
		first, err := b.tendStaticRoles(ctx, s, account, roles[account])
		problems = append(problems, err)
		next = earlier(next, first)
	}
	b.armRotations(s, next)
	return errors.Join(problems...)
}

// tendStaticRoles rotates what is due of an account's roles, the longest overdue first, and deletes what
// is past its grace, on the node that may: the one that armed the timer may have stepped down since. It returns when the
// next of them is to be tried; zero: never.
func (b *backend) tendStaticRoles(
	ctx context.Context, s logical.Storage, account string, roles map[string]*staticRole,
) (next time.Time, err error) {
	if len(roles) > 0 && !b.WriteSafeReplicationState() { // which are two calls to the server
		return time.Time{}, nil
	}
	type try struct {
		name string
		at   time.Time
	}
	var tries []try
	var problems []error
	var dates []staticDates
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		role := roles[name]
		creds, err := loadOrNew[staticCreds](ctx, s, staticCredsPrefix+name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if creds.AccessKey != "" {
			due, _ := role.due(creds, time.Now())
			dates = append(dates, staticDates{account: account, name: name, rotated: creds.LastRotation, due: due})
		}
		due, err := role.nextWork(creds, time.Now())
		problems = append(problems, err)
		tries = append(tries, try{name, b.static.next(name, due)})
	}
	b.static.saw(account, dates)
	slices.SortFunc(tries, func(x, y try) int { return cmp.Or(x.at.Compare(y.at), strings.Compare(x.name, y.name)) })
	for _, try := range tries {
		if time.Now().Before(try.at) || ctx.Err() != nil {
			next = earlier(next, try.at) // the next tick goes on
			continue
		}
		at, err := b.tendStaticRole(ctx, s, try.name)
		if err != nil {
			problems = append(problems, fmt.Errorf("static role %q: %w", try.name, err))
		}
		next = earlier(next, at)
	}
	return next, errors.Join(problems...)
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

// tendStaticRole does what is to be done for one role now, and returns when it is to be tried next.
func (b *backend) tendStaticRole(ctx context.Context, s logical.Storage, name string) (next time.Time, err error) {
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
		if err := b.deletePreviousStatic(ctx, s, name, role, creds); err != nil {
			b.Logger().Warn("a replaced key cannot be deleted yet", "static_role", name, "error", err)
		}
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
	return b.static.failed(name, now), err
}

func (b *backend) deletePreviousStatic(ctx context.Context, s logical.Storage, name string, role *staticRole, creds *staticCreds) error {
	if !anyDue(creds.Previous, time.Now(), role.longestGrace()) {
		return nil
	}
	a, err := b.accountOf(ctx, s, role.Account, creds.AccountID, creds.AccessKey)
	if err != nil {
		return err
	}
	creds.Previous, err = b.deleteDue(ctx, s, a, creds.Previous, role.longestGrace())
	return errors.Join(err, save(ctx, s, staticCredsPrefix+name, creds))
}
