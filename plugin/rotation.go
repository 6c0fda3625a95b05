// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// previousKey is a key that was replaced and is still to be deleted.
type previousKey struct {
	ID          string            `json:"id"`
	Label       string            `json:"label,omitempty"`
	AccountID   string            `json:"account_id"`
	Identity    provider.Identity `json:"identity"`    // an operator may give the account a key of another user
	ByOperator  bool              `json:"by_operator"` // it was not rotation that replaced it
	Expires     time.Time         `json:"expires"`
	DeleteAfter time.Time         `json:"delete_after"`
}

// ref names the key to the cloud.
func (p previousKey) ref(accountID, user string) provider.KeyRef {
	return provider.KeyRef{AccountID: accountID, User: user, ID: p.ID, Label: p.Label, Expires: p.Expires}
}

// owner is the user to name when the key is deleted with a key of the given identity.
func (p previousKey) owner(signer provider.Identity) (string, error) {
	switch {
	case p.Identity == signer && !(p.ByOperator && signer.Kind == provider.IdentityUnknown):
		return "", nil
	case p.Identity.Kind == provider.IdentityUser:
		return p.Identity.User, nil
	default:
		return "", fmt.Errorf("it belongs to another identity (%s), whose keys the account's present key cannot delete: delete it in the cloud", p.Identity.Kind)
	}
}

// urgently puts the calls of a rotation before all others: a storm of revokes must not
// keep the key that they need from being replaced.
func urgently(ctx context.Context) context.Context {
	return transport.WithNext(transport.WithClass(ctx, transport.ClassIssue))
}

// deletePrevious deletes the replaced keys whose overlap has passed, with the current
// one. It keeps those that the cloud does not let go, for the next tick.
func (b *backend) deletePrevious(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := b.account(ctx, s, name)
	if err != nil {
		return err
	}
	return b.deleteReplacedKeys(ctx, s, a)
}

// deleteReplacedKeys does so under the account's lock.
func (b *backend) deleteReplacedKeys(ctx context.Context, s logical.Storage, a *account) error {
	config, now := *a.config, time.Now()
	var left []previousKey
	var problems []error
	for _, previous := range config.Previous {
		if now.Before(previous.DeleteAfter) {
			left = append(left, previous)
			continue
		}
		if err := b.deleteReplaced(ctx, s, a, previous); err != nil {
			left = append(left, previous)
			problems = append(problems, fmt.Errorf("deleting the replaced key %s: %w", previous.ID, err))
		}
	}
	if len(left) == len(config.Previous) {
		return errors.Join(problems...)
	}
	config.Previous = left
	return errors.Join(append(problems, b.storeAccount(ctx, s, a.name, &config))...)
}

// deleteReplaced deletes a key from cloud and ledger. Where the ledger fails, the key stays one
// of the replaced ones: nobody else looks for it there, the reaper least of all.
func (b *backend) deleteReplaced(ctx context.Context, s logical.Storage, a *account, previous previousKey) error {
	if previous.AccountID != a.config.AccountID {
		return fmt.Errorf("it belongs to cloud account %s, and account %q is now %s: delete it there", previous.AccountID, a.name, a.config.AccountID)
	}
	user, err := previous.owner(a.config.Identity)
	if err != nil {
		return err
	}
	ref, err := b.refOf(ctx, s, a, previous, user)
	if err == nil {
		err = a.cloud.RevokeKey(ctx, ref)
	}
	if err != nil {
		return explain(a.name, err)
	}
	return b.forgetKey(ctx, s, a.name, user, previous)
}

// forgetKey takes a key that is gone, or handed over, out of the ledger. One that an operator gave
// was never in it.
func (b *backend) forgetKey(ctx context.Context, s logical.Storage, account, user string, key previousKey) error {
	e := &ledger.Entry{Account: account, User: user, AccessKey: key.ID, Label: key.Label, Unrecorded: key.Label == ""}
	return b.removeEntry(ctx, s, e)
}

// refOf names a replaced key to the cloud, with what the ledger knows of its owner.
func (b *backend) refOf(ctx context.Context, s logical.Storage, a *account, key previousKey, user string) (provider.KeyRef, error) {
	ref := key.ref(a.config.AccountID, user)
	e, err := ledger.Read(ctx, s, a.name, key.Label)
	if err != nil || e == nil || user == "" {
		return ref, err
	}
	recorded, err := a.ref(e)
	ref.UserID, ref.UserIDCertain = recorded.UserID, recorded.UserIDCertain
	return ref, err
}

// makeNextKey is the beginning of every rotation: entry, begun → create. The entry stays begun until
// storage names the key.
func (b *backend) makeNextKey(ctx context.Context, i issuance, order keyOrder) (recordedKey, error) {
	key, err := b.beginKey(ctx, i, order)
	if err != nil {
		return recordedKey{}, err
	}
	if err := b.createKey(ctx, i, &key); err != nil {
		return recordedKey{}, b.undo(ctx, i, key.entry, err)
	}
	return key, nil
}

// settleKey marks a key as made that storage names now. The next tick does that where it fails.
func (b *backend) settleKey(ctx context.Context, s logical.Storage, e *ledger.Entry) {
	if err := b.ledger.Finish(ctx, s, e); err != nil {
		b.Logger().Warn("the ledger's entry of a finished rotation is left to the next tick", "account", e.Account, "access_key", e.AccessKey, "error", err)
	}
}
