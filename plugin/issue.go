// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// issuance is one request for an access key.
type issuance struct {
	req      *logical.Request // of a lease; nil: the engine acts by itself
	storage  logical.Storage
	account  *account
	roleName string
	instance string

	role      roleEntry                          // of a lease; empty: the engine acts by itself
	requested time.Duration                      // the TTL that was asked for; 0: none
	plan      func() (lifetime.IssuePlan, error) // of a lease, as things are when it is called
}

// keyOrder is the key that is to be made.
type keyOrder struct {
	kind    keylabel.Kind
	user    string
	issued  time.Time
	expires time.Time // zero: never

	endpoint string // of a first key, which no account is configured for; empty: any other key
}

// recordedKey is a new key that the ledger knows.
type recordedKey struct {
	provider.IssuedKey
	entry *ledger.Entry
	plan  lifetime.IssuePlan // of a lease
}

// makeKey makes one access key for a lease, and before it what it stands on, where prepare is given:
//
//	(1) entry, begun {account, identity, label}
//	    → crash: no key carries the label. The entry goes once no create can be under way
//	(2) create, with label and date
//	    → crash: the next tick finds the key by its label and deletes it
//	(3) entry, made {access key}
//	    → crash: no lease knows the key, the ledger does, and the reaper removes it at its date
//	(4) answer
//
// A failure after (1) removes the key and its entry at once (undo). What that leaves, the next
// tick removes: this process knows that the request has failed, whatever is stored of (3).
func (b *backend) makeKey(ctx context.Context, i issuance, order keyOrder, prepare func(*recordedKey) error) (recordedKey, error) {
	key, err := b.beginKey(ctx, i, order)
	if err != nil {
		return recordedKey{}, err
	}
	defer b.ledger.Abandon(key.entry.Account, key.entry.Label)
	if prepare != nil {
		err = prepare(&key)
	}
	if err == nil {
		err = b.createKey(ctx, i, &key)
	}
	if err == nil {
		err = b.finishKey(ctx, i, key)
	}
	if err != nil {
		return recordedKey{}, b.undo(ctx, i, key.entry, err)
	}
	return key, nil
}

// beginKey is step (1), which every kind of key begins with. The key counts towards its role's
// max_active_keys from now on.
func (b *backend) beginKey(ctx context.Context, i issuance, order keyOrder) (recordedKey, error) {
	if i.role.MaxActiveKeys > 0 {
		if err := b.ledger.Load(ctx, i.storage, ""); err != nil {
			return recordedKey{}, fmt.Errorf("counting the keys of role %q: %w", i.roleName, err)
		}
	}
	if i.account.config.Deleting {
		return recordedKey{}, userError("account %q is being deleted: delete it again, or write it to keep it", i.account.name)
	}
	key := recordedKey{entry: i.newEntry(order)}
	begun := false
	defer func() {
		if !begun {
			b.ledger.Abandon(key.entry.Account, key.entry.Label)
		}
	}()
	err := b.ledger.Begin(ctx, i.storage, key.entry, i.role.MaxActiveKeys)
	var full *ledger.FullError
	if errors.As(err, &full) {
		return recordedKey{}, userError("role %q cannot get an access key: %d of its keys exist, including those being created or deleted, and "+
			"max_active_keys is %d: revoke leases, or raise it in roles/%s", i.roleName, full.Count, i.role.MaxActiveKeys, i.roleName)
	}
	if err != nil {
		return recordedKey{}, fmt.Errorf("writing the ledger's entry, without which no key is made: %w", err)
	}
	if order.endpoint == "" { // a first key has no account yet
		err = b.stillConfigured(ctx, i, key.entry)
	}
	begun = err == nil
	return key, err
}

// createKey is step (2).
func (b *backend) createKey(ctx context.Context, i issuance, key *recordedKey) (err error) {
	if key.IssuedKey, err = i.account.cloud.CreateKey(ctx, key.entry.Spec()); err == nil {
		key.entry.AccessKey, key.entry.MadeAt = key.ID, time.Now()
		if key.UserID != "" { // the cloud has told it of this very key
			key.entry.UserID, key.entry.Certain = key.UserID, true
		}
		err = i.correctDate(ctx, key)
	}
	return err
}

// finishKey is step (3).
func (b *backend) finishKey(ctx context.Context, i issuance, key recordedKey) error {
	if err := b.ledger.Finish(ctx, i.storage, key.entry); err != nil {
		return fmt.Errorf("recording access key %s in the ledger: %w", key.ID, err)
	}
	b.ledger.End(key.entry.Account, key.entry.Label)
	return nil
}

// stillConfigured looks at the account once more now that the entry keeps it from being deleted
// or pointed elsewhere: what was done just before would strand the key.
func (b *backend) stillConfigured(ctx context.Context, i issuance, e *ledger.Entry) error {
	current, frozen := b.standing(i.account)
	if current && !frozen {
		return nil
	}
	err := changedMeanwhile(i.account.name)
	if !frozen {
		config, loadErr := load[accountConfig](ctx, i.storage, configPrefix+i.account.name)
		if loadErr == nil && config != nil && !config.Deleting && config.isOf(i.account.config) &&
			(e.User != "" || i.account.config.sameIdentity(config)) {
			return nil
		}
		err = cmp.Or(loadErr, err)
	}
	return b.undo(ctx, i, e, err)
}

func changedMeanwhile(account string) error {
	return userError("account %q was changed while the request ran: ask again", account)
}

// newEntry is what is known of a key before it exists.
func (i issuance) newEntry(order keyOrder) *ledger.Entry {
	e := &ledger.Entry{
		Kind:      order.kind,
		Account:   i.account.name,
		AccountID: i.account.config.AccountID,
		User:      order.user,
		Role:      i.roleName,
		Label:     keylabel.New(i.instance, order.kind).String(),
		Issued:    order.issued,
		Expires:   order.expires,
	}
	if !e.Expires.IsZero() {
		e.Skew = i.account.skew()
		e.Expires = e.Expires.Add(e.Skew)
	}
	switch {
	case order.endpoint != "":
		e.AccountID, e.Endpoint = "", order.endpoint
	case e.User == "":
		e.Identity = i.account.config.Identity
	case i.account.users != nil:
		e.UserID = i.account.users.idOf(e.User)
	}
	if i.req != nil {
		e.Accessor, e.EntityID = i.req.ClientTokenAccessor, i.req.EntityID
		e.DisplayName, e.RequestID = i.req.DisplayName, i.req.ID
	}
	return e
}

// undo removes what a request that has failed has made, as far as it was made, then its entry,
// and returns the error to go on with:
//
//	(1) cloud: remove the key, and the user that was made for it. Where nobody knows whether
//	    there is one, what carries the label
//	    → crash: the next tick does the same
//	(2) entry: remove. It stays where nothing carries the label: the cloud may still be at work
//	    → crash: the next tick finds nothing to remove
//
// What it cannot do is left to the next tick, and the request is not repeated before.
func (b *backend) undo(ctx context.Context, i issuance, e *ledger.Entry, cause error) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	found, err := true, error(nil)
	switch {
	case e.AccessKey != "" || e.Kind == keylabel.KindUser && e.UserID != "":
		err = i.account.destroy(ctx, e)
	case provider.KindOf(cause) == provider.KindAmbiguous:
		found, err = removeLabelled(ctx, i.account, e, i.account.listed)
	}
	if err != nil {
		b.ledger.Fail(e.Account, e.Label)
		b.Logger().Warn("an access key or user may have been made by a request that failed, and is left to the rollback",
			"account", i.account.name, "user", e.User, "access_key", e.AccessKey, "error", err)
		return fmt.Errorf("%w; whether a key was made could not be found out, or it could not be removed: %w", errLeftToRollback, cause)
	}
	if !found {
		b.ledger.End(e.Account, e.Label)
		return cause
	}
	if err := b.removeEntry(ctx, i.storage, e); err != nil {
		b.ledger.Fail(e.Account, e.Label)
		b.Logger().Warn("an entry of the ledger without a key is left to the rollback", "account", i.account.name, "error", err)
	}
	return cause
}

// removeEntry takes a key out of the ledger once the cloud is known to have lost it.
func (b *backend) removeEntry(ctx context.Context, s logical.Storage, e *ledger.Entry) error {
	if !e.Unrecorded {
		if err := b.ledger.Remove(ctx, s, e.Account, e.Label); err != nil {
			return err
		}
	}
	b.revokedBefore.Delete(e.AccessKey)
	if e.Kind == keylabel.KindUser { // a comparison may have listed its keys
		b.slots.unlearn(e.Account, e.User)
	}
	b.slots.forget(e.Account, e.User)
	return nil
}

// errLeftToRollback marks a create whose fate could not be settled in the request. A second attempt could leave a second key. The
// server sends a rollback each minute, and one tick may have no time for it.
var errLeftToRollback = errors.New("the request failed and its clean-up is left to the next rollback, within two minutes")

// cleanupContext outlives the request: a client that hangs up must not leave a key
// behind.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupBudget)
}

// destroy ends a key in the cloud, and the user that was made for it. It is idempotent.
func (a *account) destroy(ctx context.Context, e *ledger.Entry) error {
	if e.AccessKey != "" {
		ref, err := a.ref(e)
		if err == nil {
			err = a.cloud.RevokeKey(ctx, ref)
		}
		if err != nil {
			return err
		}
	}
	if e.Kind != keylabel.KindUser {
		return nil
	}
	return a.cloud.RemoveUser(ctx, e.UserRef())
}

// tryTwice makes a key, and tries a second time in three cases: the cloud refused the
// date because the access policy was changed, it lost the answer and what it had made is
// removed again, or the name of a new user is taken.
func (b *backend) tryTwice(ctx context.Context, i issuance, attempt func(lifetime.IssuePlan) (recordedKey, error)) (recordedKey, error) {
	var skew time.Duration
	once := func() (recordedKey, error) {
		p, err := i.plan()
		if err != nil {
			return recordedKey{}, err
		}
		skew = i.account.skew()
		key, err := attempt(p)
		key.plan = p
		return key, err
	}
	key, err := once()
	switch provider.KindOf(err) {
	case provider.KindInvalid:
		if i.account.skewMoved(skew) {
			break // the refusal was the first answer to show it
		}
		changed, refreshErr := b.policyChanged(ctx, i.storage, i.account)
		if refreshErr != nil || !changed {
			return key, err
		}
	case provider.KindAmbiguous:
		if errors.Is(err, errLeftToRollback) || ctx.Err() != nil {
			return key, err
		}
	case provider.KindConflict:
		if !errors.Is(err, errNameTaken) {
			return key, err
		}
	default:
		return key, err
	}
	return once()
}

func (b *backend) issue(ctx context.Context, i issuance) (recordedKey, error) {
	if i.role.CredentialType == credentialIAMUser {
		key, err := b.tryTwice(ctx, i, func(p lifetime.IssuePlan) (recordedKey, error) { return b.makeUserKey(ctx, i, p) })
		if err != nil {
			err = explainUser(i, err)
		}
		return key, err
	}
	if err := i.account.refuseOwnIdentity(i.roleName, &i.role); err != nil {
		return recordedKey{}, err
	}
	if err := b.refuseEngineUsersOf(ctx, i.storage, i.account, &i.role); err != nil {
		return recordedKey{}, err
	}
	return b.issueFromPool(ctx, i)
}
