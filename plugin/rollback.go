// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const (
	// begunAge is how old an entry must be before a label that nothing carries is believed never
	// to come: past the budgets of a request and of its own clean-up, since the cloud may still be
	// at work on a create whose answer was lost.
	begunAge = 90 * time.Second

	// longestPause is the longest pause before the clean-up of an unfinished request over which
	// the cloud hangs is tried again.
	longestPause = 16 * time.Minute
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
		if item.First {
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
	if err = b.takeUp(ctx, s, a, item); err == nil {
		return nil
	}
	tries, pause := 0, time.Duration(0)
	var notSent *transport.NotSentError                            // the call never left: nothing was learned about the key
	if timeLeft(ctx) <= time.Second && !errors.As(err, &notSent) { // the pacer does not wait for a turn that comes too late
		var search *provider.UnprovenError
		if !errors.As(err, &search) || !search.Further {
			tries = item.Tries
		}
		tries++
		pause = lifetime.Backoff(time.Minute, longestPause, tries)
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
	case e.State == ledger.Made && !item.Failed:
		b.ledger.Learn(e)
		return nil
	case a.config.isOfAnother(&item) && e.AccessKey == "": // whoever gave it up was told, and nothing names it to an operator
		return b.removeEntry(ctx, s, e)
	case a.config.isOfAnother(&item):
		return b.ledger.Finish(ctx, s, e)
	}
	if err := a.mustBe(e.AccountID, e.Label); err != nil {
		return err
	}
	id, err := namedKey(ctx, s, e)
	if err != nil {
		return err
	}
	if id != "" {
		e.AccessKey = id
		return b.ledger.Finish(ctx, s, e)
	}
	age := time.Since(item.Issued).Abs()
	if age >= begunAge && e.UserID != "" && !a.users.certain(e) {
		_, _ = b.listUsers(ctx, a) // one list may spare a look at the keys of all users
	}
	found, err := removeUnfinished(ctx, a, e, age)
	if err != nil {
		return err
	}
	if !found && age < begunAge {
		b.ledger.PutOff(item.Account, item.Label, time.Now().Add(begunAge-age))
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
		role, creds, err := loadStatic(ctx, s, e.Role)
		if err != nil || role == nil {
			return "", err // what a role that is gone has left in storage names nothing
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
// That there is nothing is proven where the entry would go for it. The engine's key may not list
// users, which roles of keys alone do not need: then the keys under the owner's name, listed right
// before, must do.
func removeUnfinished(ctx context.Context, a *account, e *ledger.Entry, age time.Duration) (found bool, err error) {
	if e.AccessKey != "" {
		return true, a.destroy(ctx, e)
	}
	found, listErr := removeLabelled(ctx, a, e, a.listed)
	if found || e.Kind == keylabel.KindUser || age < begunAge && provider.KindOf(listErr) != provider.KindNotFound {
		return found, listErr
	}
	found, err = removeLabelled(ctx, a, e, a.proven)
	if !found && listErr == nil && provider.KindOf(err) == provider.KindDenied {
		return false, nil
	}
	return found, err
}

// removeLabelled removes the key or the user that carries exactly the entry's label, as find finds it: proven, or listed.
func removeLabelled(
	ctx context.Context, a *account, e *ledger.Entry, find func(context.Context, provider.KeyRef) ([]provider.Key, error),
) (found bool, err error) {
	if e.Kind == keylabel.KindUser {
		return removeLabelledUsers(ctx, a, e)
	}
	ref, err := a.ref(e)
	if err != nil {
		return false, err
	}
	keys, err := find(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("looking for a key to clean up: %w", err)
	}
	for _, key := range keys {
		ref.User, ref.ID, ref.Expires = key.User, key.ID, key.End()
		ref.Made = madeAt(e)
		if err := a.cloud.RevokeKey(ctx, ref); err != nil {
			return true, fmt.Errorf("deleting access key %s of an unfinished request: %w", key.ID, err)
		}
	}
	return len(keys) > 0, nil
}

// proven finds a key by its label. That there is none is proven: its user may bear another name by now.
func (a *account) proven(ctx context.Context, ref provider.KeyRef) ([]provider.Key, error) {
	key, found, err := a.cloud.FindKey(ctx, ref)
	if err != nil || !found {
		return nil, err
	}
	return []provider.Key{key}, nil
}

// listed finds those that are listed under their owner's name, and proves nothing: for requests, which have no time for more.
func (a *account) listed(ctx context.Context, ref provider.KeyRef) ([]provider.Key, error) {
	keys, err := a.cloud.ListKeys(ctx, ref.User)
	return slices.DeleteFunc(keys, func(key provider.Key) bool { return key.Label != ref.Label }), err
}

func removeLabelledUsers(ctx context.Context, a *account, e *ledger.Entry) (found bool, err error) {
	users, err := labelledUsers(ctx, a, func(label keylabel.Label) bool { return label.String() == e.Label })
	if err != nil {
		return false, fmt.Errorf("looking for a user to clean up: %w", err)
	}
	for _, user := range users {
		ref := provider.UserRef{AccountID: e.AccountID, ID: user.ID, Name: user.Name, Label: user.Label, Made: madeAt(e)}
		if err := a.cloud.RemoveUser(ctx, ref); err != nil {
			return true, fmt.Errorf("removing the user of an unfinished request: %w", err)
		}
		found = true
	}
	return found, nil
}
