// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

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

	maxActive int // the role's max_active_keys; 0: no cap
}

// keyOrder is the key that is to be made.
type keyOrder struct {
	kind    keylabel.Kind
	user    string
	issued  time.Time
	expires time.Time // zero: never
}

// recordedKey is a new key that WAL and ledger know.
type recordedKey struct {
	provider.IssuedKey
	entry *ledgerEntry
	walID string
}

// makeKey makes one access key for a lease and records it, so that it is never lost:
//
//	(1) WAL entry {account, identity, label}
//	    → crash: the rollback finds no key and drops the entry
//	(2) create, with label and date
//	    → crash: the rollback finds the key by its label and deletes it
//	(3) ledger entry
//	    → crash: the rollback deletes key and ledger entry; nobody got an answer
//	(4) delete the WAL entry
//	    → crash: no lease knows the key, the ledger does, and reaps it at its date
//	(5) answer
//
// A failure after (2) deletes the key at once; if that fails too, the WAL entry
// stays and the rollback tries again.
func (b *backend) makeKey(ctx context.Context, i issuance, user string, plan lifetime.IssuePlan) (recordedKey, error) {
	key, err := b.makeRecordedKey(ctx, i, keyOrder{kind: keylabel.KindLease, user: user, issued: plan.Issued, expires: plan.Expiry})
	if err != nil {
		return recordedKey{}, err
	}
	if err := framework.DeleteWAL(ctx, i.storage, key.walID); err != nil {
		b.undoKey(ctx, i, key)
		return recordedKey{}, fmt.Errorf("completing the WAL entry of access key %s: %w", key.ID, err)
	}
	return key, nil
}

// makeRecordedKey is steps (1) to (3).
func (b *backend) makeRecordedKey(ctx context.Context, i issuance, order keyOrder) (recordedKey, error) {
	key, err := b.beginKey(ctx, i, order)
	if err != nil {
		return recordedKey{}, err
	}
	key.IssuedKey, err = i.account.cloud.CreateKey(ctx, key.entry.keySpec())
	if err != nil {
		return recordedKey{}, b.afterFailedCreate(ctx, i, key, err)
	}
	key.entry.AccessKey, key.entry.Made = key.ID, time.Now()
	if err := b.recordKey(ctx, i, key); err != nil {
		b.undoKey(ctx, i, key)
		return recordedKey{}, err
	}
	return key, nil
}

// countKey counts a key towards its role's max_active_keys before it is made.
func (b *backend) countKey(ctx context.Context, i issuance, label string) error {
	if i.maxActive > 0 {
		if err := b.active.ensure(ctx, i.storage); err != nil {
			return fmt.Errorf("counting the keys of role %q: %w", i.roleName, err)
		}
	}
	if count, taken := b.active.take(i.roleName, label, i.maxActive); !taken {
		return mendable("role %q cannot get an access key: %d of its keys are out or being made or cleaned up, and max_active_keys is %d: "+
			"revoke leases, or raise it in roles/%s", i.roleName, count, i.maxActive, i.roleName)
	}
	return nil
}

// beginKey is step (1), which every kind of key begins with.
func (b *backend) beginKey(ctx context.Context, i issuance, order keyOrder) (recordedKey, error) {
	entry := i.ledgerEntry(order)
	if entry.leased() {
		if err := b.countKey(ctx, i, entry.Label); err != nil {
			return recordedKey{}, err
		}
	}
	pending := entry.pending()
	walID, err := framework.PutWAL(ctx, i.storage, pending.walKind(), pending)
	if err != nil {
		b.active.drop(entry.Label)
		return recordedKey{}, fmt.Errorf("writing the WAL entry, without which no key is made: %w", err)
	}
	key := recordedKey{entry: entry, walID: walID}
	if err := b.stillConfigured(ctx, i, key); err != nil {
		return recordedKey{}, err
	}
	return key, nil
}

// stillConfigured looks at the account once more now that the WAL entry keeps it from being
// deleted or pointed elsewhere: what was done just before would strand the key.
func (b *backend) stillConfigured(ctx context.Context, i issuance, key recordedKey) error {
	current, givenUp := b.standing(i.account)
	if current && !givenUp {
		return nil
	}
	var err error
	if !givenUp {
		var config *accountConfig
		config, err = load[accountConfig](ctx, i.storage, configPrefix+i.account.name)
		if err == nil && config != nil && config.isOf(i.account.config) {
			return nil
		}
	}
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	b.active.drop(key.entry.Label)
	if err == nil {
		err = mendable("account %q was changed while the request ran: ask again", i.account.name)
	}
	return errors.Join(err, framework.DeleteWAL(ctx, i.storage, key.walID))
}

// ledgerEntry is what is known of a key before it exists.
func (i issuance) ledgerEntry(order keyOrder) *ledgerEntry {
	entry := &ledgerEntry{
		Kind:      order.kind,
		Account:   i.account.name,
		AccountID: i.account.config.AccountID,
		User:      order.user,
		Role:      i.roleName,
		Label:     keylabel.New(i.instance, order.kind).String(),
		Issued:    order.issued,
		Expires:   order.expires,
	}
	if i.req != nil {
		entry.Accessor, entry.EntityID = i.req.ClientTokenAccessor, i.req.EntityID
		entry.DisplayName, entry.RequestID = i.req.DisplayName, i.req.ID
	}
	return entry
}

// recordKey writes the ledger entry.
func (b *backend) recordKey(ctx context.Context, i issuance, key recordedKey) error {
	if err := b.record(ctx, i.storage, key.entry); err != nil {
		return fmt.Errorf("recording access key %s in the ledger: %w", key.ID, err)
	}
	return nil
}

// undoKey removes a key that nobody will get, as far as it was made, and tells whether
// the cloud is rid of it. What it cannot do is left to the rollback, or to the reaper.
func (b *backend) undoKey(ctx context.Context, i issuance, key recordedKey) (gone bool) {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	err := i.account.destroy(ctx, key.entry)
	gone = err == nil
	if err == nil && key.entry.AccessKey != "" {
		err = remove(ctx, i.storage, key.entry.path())
	}
	if err == nil {
		err = framework.DeleteWAL(ctx, i.storage, key.walID)
	}
	if err != nil {
		b.Logger().Warn("access key of a failed request is left to the rollback",
			"account", i.account.name, "user", key.entry.User, "access_key", key.entry.AccessKey, "error", err)
		return gone
	}
	b.active.drop(key.entry.Label)
	b.full.forget(i.account.name, key.entry.User)
	b.own.forget(i.account.name, key.entry.User)
	return gone
}

// afterFailedCreate cleans up after step (2) and returns the error to go on with.
// Where the cloud surely made nothing, the WAL entry goes. Where nobody knows, what
// carries the label is removed; if nothing does, the entry stays all the same: the cloud
// may still be at work on the call.
func (b *backend) afterFailedCreate(ctx context.Context, i issuance, key recordedKey, cause error) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if provider.KindOf(cause) == provider.KindAmbiguous {
		removed, err := removeLabelled(ctx, i.storage, i.account, key.entry.pending())
		if err != nil {
			b.Logger().Warn("an access key or user may have been made and is left to the rollback", "account", i.account.name, "user", key.entry.User, "error", err)
			return fmt.Errorf("%w; whether a key was made could not be found out: %w", errLeftToRollback, cause)
		}
		if removed == 0 {
			return cause
		}
	}
	if err := framework.DeleteWAL(ctx, i.storage, key.walID); err != nil {
		b.Logger().Warn("WAL entry without a key is left to the rollback", "account", i.account.name, "error", err)
		return cause
	}
	b.active.drop(key.entry.Label)
	return cause
}

// errLeftToRollback marks a create whose fate could not be settled in the request.
// A second attempt could leave a second key.
var errLeftToRollback = fmt.Errorf("the request failed and its clean-up is left to the next rollback, at most %s away", walMinAge+2*time.Minute)

// cleanupContext outlives the request: a client that hangs up must not leave a key
// behind.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupBudget)
}

// destroy ends a key in the cloud, and the user that was made for it. It is idempotent.
func (a *account) destroy(ctx context.Context, e *ledgerEntry) error {
	if e.AccessKey != "" {
		if err := a.cloud.RevokeKey(ctx, e.ref()); err != nil {
			return err
		}
	}
	if e.Kind != keylabel.KindUser {
		return nil
	}
	return a.cloud.RemoveUser(ctx, provider.UserRef{AccountID: e.AccountID, ID: e.UserID, Name: e.User, Label: e.Label, Made: e.Made})
}

// tryTwice makes a key, and tries a second time in three cases: the cloud refused the
// date because the access policy was changed, it lost the answer and what it had made is
// removed again, or the name of a new user is taken.
func (b *backend) tryTwice(ctx context.Context, i issuance, plan func() (lifetime.IssuePlan, error), attempt func(lifetime.IssuePlan) (recordedKey, error)) (recordedKey, lifetime.IssuePlan, error) {
	p, err := plan()
	if err != nil {
		return recordedKey{}, lifetime.IssuePlan{}, err
	}
	key, err := attempt(p)
	switch provider.KindOf(err) {
	case provider.KindInvalid:
		changed, refreshErr := b.policyChanged(ctx, i.storage, i.account)
		if refreshErr != nil || !changed {
			return key, p, err
		}
	case provider.KindAmbiguous:
		if errors.Is(err, errLeftToRollback) || ctx.Err() != nil {
			return key, p, err
		}
	case provider.KindConflict:
		if !errors.Is(err, errNameTaken) {
			return key, p, err
		}
	default:
		return key, p, err
	}
	if p, err = plan(); err != nil {
		return recordedKey{}, lifetime.IssuePlan{}, err
	}
	key, err = attempt(p)
	return key, p, err
}

func (b *backend) issue(ctx context.Context, i issuance, role *roleEntry, plan func() (lifetime.IssuePlan, error)) (recordedKey, lifetime.IssuePlan, error) {
	if role.CredentialType == credentialIAMUser {
		return b.issueWithUser(ctx, i, role, plan)
	}
	if err := b.refuseOwnIdentity(i.account, role); err != nil {
		return recordedKey{}, lifetime.IssuePlan{}, err
	}
	return b.issueFromPool(ctx, i, role.UserNames, plan)
}

// refuseOwnIdentity compares names once more at issue: the account may have got
// another key since the role was written.
func (b *backend) refuseOwnIdentity(a *account, role *roleEntry) error {
	if a.config.AllowRootIdentity && a.kind.LeasesOwnIdentity {
		return nil
	}
	for _, user := range role.UserNames {
		if a.isOwnIdentity(user) {
			return mendable("user %q owns the engine's own access key, which account %q does not allow to be leased: take it out of user_names", user, a.name)
		}
	}
	if len(role.UserNames) == 0 {
		return mendable("the role has no user_names, and account %q does not allow leases on the engine's own identity (allow_root_identity)", a.name)
	}
	return nil
}

// takeBack deletes a key that came too late to be leased. Its ledger entry stays
// until that has worked.
func (b *backend) takeBack(ctx context.Context, i issuance, key recordedKey) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if err := i.account.destroy(ctx, key.entry); err != nil {
		return explain(i.account.name, err)
	}
	return b.strike(ctx, i.storage, key.entry)
}
