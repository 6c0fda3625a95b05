// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// begunAge is how old an entry must be before a label that nothing carries is believed never
	// to come: past the budgets of a request and of its own clean-up, since the cloud may still be
	// at work on a create whose answer was lost.
	begunAge = 90 * time.Second

	// hungLongest is the longest pause before the clean-up of an unfinished request over which
	// the cloud hangs is tried again.
	hungLongest = 16 * time.Minute
)

// rollback ends what the unfinished requests of an account have left. last is the tick before the
// mount is disabled or moved: nothing is put off then. The requests that still run in this process
// are none of them, whatever the clock says.
func (b *backend) rollback(ctx context.Context, s logical.Storage, account string, last bool) error {
	if last {
		if err := b.ledger.Load(ctx, s, account); err != nil {
			return err
		}
	}
	var problems []error
	for _, item := range b.ledger.Unfinished(account, time.Now(), last) {
		if item.First() {
			continue // see tendFirstKeys
		}
		if ctx.Err() != nil {
			problems = append(problems, errors.New("unfinished requests are left to the next tick, since this one has taken long enough"))
			break
		}
		if err := b.takeUpInTime(ctx, s, item); err != nil {
			problems = append(problems, fmt.Errorf("cleaning up a key of account %q: %w", account, err))
		}
	}
	return errors.Join(problems...)
}

// takeUpInTime gives an entry a part of the tick. One that has used it up lets others go first, for
// twice as long each time: entries over which the cloud hangs would leave no time to them. A search
// that came further does not hang: it goes on soon, however many ticks it takes.
func (b *backend) takeUpInTime(ctx context.Context, s logical.Storage, item ledger.Item) error {
	ctx, cancel := context.WithTimeout(ctx, rollbackBudget/2)
	defer cancel()
	a, err := b.identified(ctx, s, item.Account)
	if err != nil {
		b.ledger.Stuck(item.Account, item.Label, err, 0, time.Now())
		return err
	}
	looked := a.searches.count(item.Label)
	if err = b.takeUp(ctx, s, a, item); err == nil {
		return nil
	}
	tries, pause := 0, time.Duration(0)
	if timeLeft(ctx) <= time.Second { // the pacer does not wait for a turn that comes too late
		if a.searches.count(item.Label) == looked {
			tries = item.Tries
		}
		tries++
		pause = min(hungLongest, 30*time.Second<<min(tries, 6))
	}
	b.ledger.Stuck(item.Account, item.Label, err, tries, time.Now().Add(pause))
	return err
}

// takeUp ends what one request that did not end well has left:
//
//	(1) look at the entry again → gone, or made: nothing is to be done
//	(2) where storage names its key (configuration, static role): entry, made
//	    → crash: the next tick comes to the same end
//	(3) cloud: remove the key or the user that carries the label
//	    → crash: the next tick finds what is left, or nothing
//	(4) entry: remove. Where nothing carried the label, not before no create can be under way
//	    → crash: the next tick finds nothing to remove
//
// Whoever may still store the key, or hand it over, is kept out meanwhile by the lock of its
// account or static role, and storage is read, not what is in memory.
func (b *backend) takeUp(ctx context.Context, s logical.Storage, a *account, item ledger.Item) error {
	unlock, err := b.lockNamer(ctx, item)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := ledger.Read(ctx, s, item.Account, item.Label)
	switch {
	case err != nil:
		return err
	case e == nil:
		b.ledger.Drop(item.Account, item.Label)
		return nil
	case e.State == ledger.Made && !item.Failed():
		b.ledger.Learn(e)
		return nil
	case a.config.AccountID != e.AccountID:
		return fmt.Errorf("account %q is now cloud account %s, and the key to be cleaned up is in %s", a.name, a.config.AccountID, e.AccountID)
	}
	id, err := namedKey(ctx, s, e)
	if err != nil {
		return err
	}
	if id != "" {
		e.AccessKey = id
		return b.ledger.Finish(ctx, s, e)
	}
	found, err := removeUnfinished(ctx, a, e)
	if err != nil {
		return err
	}
	if !found && time.Since(item.Issued).Abs() < begunAge {
		b.ledger.PutOff(item.Account, item.Label, time.Now().Add(begunAge-time.Since(item.Issued).Abs()))
		return nil
	}
	if err := b.removeEntry(ctx, s, e); err != nil {
		return err
	}
	if found {
		b.Logger().Info("removed what an unfinished request had made", "account", e.Account, "user", e.User)
	}
	return nil
}

// lockNamer keeps whoever may name a key in storage from doing so: a rotation, or a hand-over. The
// key of a lease is named by its entry alone.
func (b *backend) lockNamer(ctx context.Context, item ledger.Item) (unlock func(), err error) {
	switch item.Kind {
	case keylabel.KindStatic:
		return b.lock(ctx, staticRolePrefix+item.Role)
	case keylabel.KindRoot:
		return b.lock(ctx, configPrefix+item.Account)
	default:
		return func() {}, nil
	}
}

// namedKey is the access key that storage names by an entry's label: a rotation that has stored its
// key did all that matters. Empty: it names none.
func namedKey(ctx context.Context, s logical.Storage, e *ledger.Entry) (id string, err error) {
	switch e.Kind {
	case keylabel.KindRoot:
		config, err := load[accountConfig](ctx, s, configPrefix+e.Account)
		if err != nil || config == nil {
			return "", err
		}
		return named(e.Label, config.asPrevious(time.Time{}), config.Previous), nil
	case keylabel.KindStatic:
		role, err := load[staticRole](ctx, s, staticRolePrefix+e.Role)
		if err != nil || role == nil {
			return "", err // what a role that is gone has left in storage names nothing
		}
		creds, err := load[staticCreds](ctx, s, staticCredsPrefix+e.Role)
		if err != nil || creds == nil {
			return "", err
		}
		return named(e.Label, creds.asPrevious(role, time.Time{}), creds.Previous), nil
	default:
		return "", nil
	}
}

func named(label string, current previousKey, previous []previousKey) string {
	for _, key := range append([]previousKey{current}, previous...) {
		if key.Label == label {
			return key.ID
		}
	}
	return ""
}

// removeUnfinished removes what an entry's request has made, and tells whether there was anything.
func removeUnfinished(ctx context.Context, a *account, e *ledger.Entry) (found bool, err error) {
	if e.AccessKey != "" {
		return true, a.destroy(ctx, e)
	}
	return removeLabelled(ctx, a, e)
}

// removeLabelled removes the key or the user that carries exactly the entry's label. The lists are
// searched here: whether the cloud's own Tag filter compares exactly is not documented.
func removeLabelled(ctx context.Context, a *account, e *ledger.Entry) (found bool, err error) {
	if e.Kind == keylabel.KindUser {
		return removeLabelledUsers(ctx, a, e)
	}
	user, keys, err := a.cloudKeys(ctx, e)
	if err != nil {
		return false, fmt.Errorf("looking for a key to clean up: %w", err)
	}
	for _, key := range keys {
		if key.Label != e.Label {
			continue
		}
		ref := provider.KeyRef{AccountID: e.AccountID, User: user, ID: key.ID, Label: key.Label, Expires: key.End()}
		if err := a.cloud.RevokeKey(ctx, ref); err != nil {
			return found, fmt.Errorf("deleting access key %s of an unfinished request: %w", key.ID, err)
		}
		found = true
	}
	a.searches.end(e.Label)
	return found, nil
}

// cloudKeys are the keys of an entry's owner, by the name that it has today.
func (a *account) cloudKeys(ctx context.Context, e *ledger.Entry) (user string, keys []provider.Key, err error) {
	keys, err = a.cloud.ListKeys(ctx, e.User)
	if provider.KindOf(err) == provider.KindNotFound && e.User != "" {
		return userRenamed(ctx, a, e, err) // no keys where the user is gone
	}
	return e.User, keys, err
}

func removeLabelledUsers(ctx context.Context, a *account, e *ledger.Entry) (found bool, err error) {
	users, err := labelledUsers(ctx, a, func(label keylabel.Label) bool { return label.String() == e.Label })
	if err != nil {
		return false, fmt.Errorf("looking for a user to clean up: %w", err)
	}
	for _, user := range users {
		ref := provider.UserRef{AccountID: e.AccountID, ID: user.ID, Name: user.Name, Label: user.Label}
		if err := a.cloud.RemoveUser(ctx, ref); err != nil {
			return found, fmt.Errorf("removing the user of an unfinished request: %w", err)
		}
		found = true
	}
	return found, nil
}

// searches remember which users were looked at for the key of a label: an account can have
// more of them than one tick has time for.
type searches struct {
	mu     sync.Mutex // never held while waiting
	looked map[string]map[string]bool
}

// begin makes sure, once a search, that the account that is asked is the key's.
func (s *searches) begin(ctx context.Context, a *account, e *ledger.Entry, cause error) error {
	if s.has(e.Label, "") {
		return nil
	}
	account, err := a.cloud.AccountID(ctx)
	if err != nil {
		return err
	}
	if account != e.AccountID {
		return fmt.Errorf("the configured key is of another account (%s): %w", account, cause)
	}
	s.add(e.Label, "")
	return nil
}

func (s *searches) has(label, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looked[label][user]
}

func (s *searches) add(label, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked == nil {
		s.looked = map[string]map[string]bool{}
	}
	if s.looked[label] == nil {
		s.looked[label] = map[string]bool{}
	}
	s.looked[label][user] = true
}

// count grows as a search comes further.
func (s *searches) count(label string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.looked[label])
}

func (s *searches) end(label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.looked, label)
}

// userRenamed finds the key of a user that is not there under its name, since the user may
// have been renamed after the key was made: it looks at the users of the account one by one.
// No keys: the user is gone, and the key with it, as far as the right account says so.
func userRenamed(ctx context.Context, a *account, e *ledger.Entry, cause error) (name string, keys []provider.Key, err error) {
	if err := a.searches.begin(ctx, a, e, cause); err != nil {
		return "", nil, err
	}
	names, err := otherUsers(ctx, a, e.User)
	if provider.KindOf(err) == provider.KindDenied {
		return "", nil, nil // the engine's key may not list users, which roles of keys alone do not need
	}
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		if a.searches.has(e.Label, name) {
			continue
		}
		keys, err := a.cloud.ListKeys(ctx, name)
		if err != nil && provider.KindOf(err) != provider.KindNotFound { // gone meanwhile
			return "", nil, err
		}
		if slices.ContainsFunc(keys, func(key provider.Key) bool { return key.Label == e.Label }) {
			return name, keys, nil
		}
		a.searches.add(e.Label, name)
	}
	return "", nil, nil
}

// otherUsers names the account's users, where its whole list lacks one that was not found.
// "Not found" alone is not believed: parts of a cloud may say so of a user that is there.
func otherUsers(ctx context.Context, a *account, missing string) (names []string, err error) {
	for user, err := range a.cloud.ListUsers(ctx) {
		if err != nil {
			return nil, fmt.Errorf("whether user %q is gone cannot be confirmed: %w", missing, err)
		}
		if user.Name == missing {
			return nil, fmt.Errorf("user %q was not found a moment ago, and is listed now", missing)
		}
		names = append(names, user.Name)
	}
	return names, nil
}
