// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// issuance is one request for a leased access key.
type issuance struct {
	req      *logical.Request
	account  *account
	roleName string
	instance string

	maxActive int // the role's max_active_keys; 0: no cap
}

// makeKey makes one access key for one user and records it, so that it is never
// lost:
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
func (b *backend) makeKey(ctx context.Context, i issuance, user string, plan issuePlan) (provider.IssuedKey, error) {
	pending := pendingKey{
		Account:   i.account.name,
		AccountID: i.account.config.AccountID,
		User:      user,
		Role:      i.roleName,
		Label:     keylabel.New(i.instance, keylabel.KindLease).String(),
	}
	if err := b.countKey(ctx, i, pending.Label); err != nil {
		return provider.IssuedKey{}, err
	}
	walID, err := framework.PutWAL(ctx, i.req.Storage, walAccessKey, pending)
	if err != nil {
		b.active.drop(pending.Label)
		return provider.IssuedKey{}, fmt.Errorf("writing the WAL entry, without which no key is made: %w", err)
	}
	key, err := i.account.cloud.CreateKey(ctx, provider.KeySpec{User: user, Label: pending.Label, Expires: plan.Expiry})
	if err != nil {
		return provider.IssuedKey{}, b.afterFailedCreate(ctx, i, pending, walID, err)
	}
	if err := b.recordKey(ctx, i, pending, walID, key, plan); err != nil {
		b.undoKey(ctx, i, pending, walID, key)
		return provider.IssuedKey{}, err
	}
	return key, nil
}

// countKey counts a key towards its role's max_active_keys before it is made.
func (b *backend) countKey(ctx context.Context, i issuance, label string) error {
	if i.maxActive > 0 {
		if err := b.active.ensure(ctx, i.req.Storage); err != nil {
			return fmt.Errorf("counting the keys of role %q: %w", i.roleName, err)
		}
	}
	if count, taken := b.active.take(i.roleName, label, i.maxActive); !taken {
		return mendable("role %q cannot get an access key: %d of its keys are out or being made or cleaned up, and max_active_keys is %d: "+
			"revoke leases, or raise it in roles/%s", i.roleName, count, i.maxActive, i.roleName)
	}
	return nil
}

// recordKey is steps (3) and (4).
func (b *backend) recordKey(ctx context.Context, i issuance, pending pendingKey, walID string, key provider.IssuedKey, plan issuePlan) error {
	entry := &ledgerEntry{
		Kind:        keylabel.KindLease,
		AccessKey:   key.ID,
		Account:     pending.Account,
		AccountID:   pending.AccountID,
		User:        pending.User,
		Role:        i.roleName,
		Label:       pending.Label,
		Issued:      plan.Issued,
		Expires:     plan.Expiry,
		Accessor:    i.req.ClientTokenAccessor,
		EntityID:    i.req.EntityID,
		DisplayName: i.req.DisplayName,
		RequestID:   i.req.ID,
	}
	if err := save(ctx, i.req.Storage, entry.path(), entry); err != nil {
		return fmt.Errorf("recording access key %s in the ledger: %w", key.ID, err)
	}
	if err := framework.DeleteWAL(ctx, i.req.Storage, walID); err != nil {
		return fmt.Errorf("completing the WAL entry of access key %s: %w", key.ID, err)
	}
	return nil
}

// undoKey deletes a key that nobody will get. What it cannot do is left to the
// rollback, or to the reaper.
func (b *backend) undoKey(ctx context.Context, i issuance, pending pendingKey, walID string, key provider.IssuedKey) {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	ref := provider.KeyRef{AccountID: pending.AccountID, User: pending.User, ID: key.ID, Expires: key.Expires}
	err := i.account.cloud.RevokeKey(ctx, ref)
	if err == nil {
		err = remove(ctx, i.req.Storage, ledgerPath(pending.Account, pending.User, key.ID))
	}
	if err == nil {
		err = framework.DeleteWAL(ctx, i.req.Storage, walID)
	}
	if err != nil {
		b.Logger().Warn("access key of a failed request is left to the rollback", "account", pending.Account, "access_key", key.ID, "error", err)
		return
	}
	b.active.drop(pending.Label)
	b.full.forget(pending.Account, pending.User)
}

// afterFailedCreate cleans up after step (2) and returns the error to go on with.
// Where the cloud surely made no key, the WAL entry goes. Where nobody knows, what
// carries the label is deleted, its secret being lost; if nothing does, the entry
// stays all the same: the cloud may still be at work on the call.
func (b *backend) afterFailedCreate(ctx context.Context, i issuance, pending pendingKey, walID string, cause error) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if provider.KindOf(cause) == provider.KindAmbiguous {
		removed, err := removeLabelled(ctx, i.req.Storage, i.account, pending)
		if err != nil {
			b.Logger().Warn("an access key may have been made and is left to the rollback", "account", pending.Account, "user", pending.User, "error", err)
			return fmt.Errorf("%w; whether a key was made could not be found out: %w", errLeftToRollback, cause)
		}
		if removed == 0 {
			return cause
		}
	}
	if err := framework.DeleteWAL(ctx, i.req.Storage, walID); err != nil {
		b.Logger().Warn("WAL entry without a key is left to the rollback", "account", pending.Account, "error", err)
		return cause
	}
	b.active.drop(pending.Label)
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
