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

// idsOf are the ids of replaced keys.
func idsOf(keys []previousKey) (ids []string) {
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// ref names the key to the cloud.
func (p previousKey) ref(accountID, user string) provider.KeyRef {
	return provider.KeyRef{AccountID: accountID, User: user, ID: p.ID, Label: p.Label, Expires: p.Expires}
}

// urgently puts the calls of a rotation before all others: a storm of revokes must not
// keep the key that they need from being replaced.
func urgently(ctx context.Context) context.Context {
	return transport.WithNext(transport.WithClass(ctx, transport.ClassIssue))
}

// rotation is one run of the protocol by which the engine makes the keys that it replaces by itself:
// its own, those of static roles, and first keys. They differ in whose the key is, its date, how it
// is tried, and where it is stored.
type rotation struct {
	issuance
	order  keyOrder
	verify func(context.Context, recordedKey) error // nil: the create is proof enough
	store  func(context.Context, recordedKey) error
}

// rotate makes a key that storage names from then on:
//
//	(1) entry, begun → (2) create
//	    → crash: the next tick finds the key by its label. Storage does not name it, so it is deleted
//	(3) verify
//	    → crash: the same
//	(4) store {current: new, previous: old}
//	    → crash: storage names the new key, so the next tick does (5)
//	(5) entry, made
//	    → crash: nothing is left to do, until the time of the old key has come: see deleteDue
//
// A failure up to (3) deletes the new key at once. One at (4) does not: the write may have been
// stored all the same, and the next tick decides by what is stored then.
func (b *backend) rotate(ctx context.Context, r rotation) error {
	key, err := b.beginKey(ctx, r.issuance, r.order)
	if err != nil {
		return err
	}
	e := key.entry
	defer func() { b.ledger.End(e.Account, e.Label) }()
	if err = b.createKey(ctx, r.issuance, &key); err == nil && r.verify != nil {
		err = r.verify(ctx, key)
	}
	if err != nil {
		return b.undo(ctx, r.issuance, e, err)
	}
	if err := r.store(ctx, key); err != nil {
		return err
	}
	if err := b.ledger.Finish(ctx, r.storage, e); err != nil {
		b.Logger().
			Warn("the ledger's entry of a finished rotation is left to the next tick", "account", e.Account, "access_key", e.AccessKey, "error", err)
	}
	return nil
}

// anyDue tells whether the time of a replaced key has come, which goes on working for overlap at most.
func anyDue(keys []previousKey, now time.Time, overlap time.Duration) bool {
	return slices.ContainsFunc(keys, func(p previousKey) bool { return !lifetime.Waits(p.DeleteAfter, now, overlap) })
}

// deleteDue deletes the replaced keys whose time has come, and returns those that are left: the
// others, and what the cloud does not let go. A key over which the cloud hangs has been due for longer than the others:
// it comes last, and has half of the time that is left where others come after it.
func (b *backend) deleteDue(
	ctx context.Context, s logical.Storage, a *account, keys []previousKey, overlap time.Duration,
) (left []previousKey, err error) {
	now := time.Now()
	var problems []error
	for i, key := range slices.Backward(keys) {
		if lifetime.Waits(key.DeleteAfter, now, overlap) {
			left = append(left, key)
			continue
		}
		own, cancel := ctx, func() {}
		if _, ends := ctx.Deadline(); ends && anyDue(keys[:i], now, overlap) {
			own, cancel = context.WithTimeout(ctx, timeLeft(ctx)/2)
		}
		err := b.deletePrevious(own, s, a, key)
		cancel()
		if err != nil {
			left = append(left, key)
			problems = append(problems, err)
		}
	}
	slices.Reverse(left)
	return left, errors.Join(problems...)
}

// deletePrevious deletes a replaced key from cloud and ledger. Where the ledger fails, the key stays
// one of the replaced ones: nobody else looks for it there, the reaper least of all. One that another
// account signs with by now is that account's, and only forgotten.
func (b *backend) deletePrevious(ctx context.Context, s logical.Storage, a *account, key previousKey) error {
	other, err := "", error(nil)
	if label, bad := keylabel.Parse(key.Label); bad != nil || label.Kind == keylabel.KindRoot { // a static role's signs for no account
		other, err = b.signsWith(ctx, s, a.name, key.ID)
	}
	switch {
	case err != nil:
		return err
	case other != "":
		b.Logger().Warn("a replaced key is not deleted, since another account has it now", "account", a.name, "access_key", key.ID,
			"other_account", other)
		return b.forgetKey(ctx, s, a.name, "", key)
	}
	user, err := a.mayDeletePrevious(key)
	if err != nil {
		found, there, searchErr := b.searchPrevious(ctx, s, a, key, err)
		switch {
		case searchErr != nil:
			return fmt.Errorf("deleting the replaced key %s: %w", key.ID, searchErr)
		case !there:
			b.Logger().Info("forgot a replaced key that the cloud has ended, or that is gone", "account", a.name, "access_key", key.ID)
			return b.forgetKey(ctx, s, a.name, "", key)
		}
		user = found.User
	}
	ref, err := b.refOf(ctx, s, a, key, user)
	if err == nil {
		err = a.cloud.RevokeKey(ctx, ref)
	}
	switch {
	case provider.KindOf(err) == provider.KindDenied && a.hasEndedPrevious(key):
		b.Logger().Info("forgot a replaced key that the cloud has ended", "account", a.name, "access_key", key.ID)
	case err != nil:
		return fmt.Errorf("deleting the replaced key %s: %w", key.ID, noRightIfDenied(err, explain(a.name, err)))
	}
	return b.forgetKey(ctx, s, a.name, user, key)
}

// forgetReplaced drops a replaced key that its account cannot delete, on an operator's word. Where only the cloud knows that, it is
// asked first, once the key's time has come:
//
//	(1) ledger → (2) store the configuration without it
//	    → crash: the configuration still names it, and the operator does it again
//
// It returns false where no account has such a key.
func (b *backend) forgetReplaced(ctx context.Context, s logical.Storage, id string) (done bool, err error) {
	name, err := b.replacedIn(ctx, s, id)
	if err != nil || name == "" {
		return false, err
	}
	if _, err := b.identified(ctx, s, name); err != nil {
		return false, err
	}
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return false, err
	}
	defer unlock()
	a, err := b.account(ctx, s, name)
	if err != nil {
		return false, err
	}
	at := slices.Index(idsOf(a.config.Previous), id)
	if at < 0 { // a tick has deleted it meanwhile
		return true, nil
	}
	key := a.config.Previous[at]
	if _, noRight := a.mayDeletePrevious(key); noRight == nil {
		if lifetime.Waits(key.DeleteAfter, time.Now(), lifetime.MaxOverlap) {
			return false, replacedKeyError(id, name)
		}
		err := b.deletePrevious(ctx, s, a, key)
		if err != nil && !isNoRight(err) && !isUnprovable(err) {
			return false, err
		}
	}
	if err := b.forgetKey(ctx, s, name, "", key); err != nil {
		return false, err
	}
	config := *a.config
	config.Previous = slices.Delete(slices.Clone(config.Previous), at, at+1)
	if err := b.storeAccount(ctx, s, name, &config); err != nil {
		return false, err
	}
	b.Logger().Warn("forgot a replaced key, as an operator said", "account", name, "access_key", id)
	return true, nil
}

// replacedIn names the account that is still to delete a replaced key; empty: none is.
func (b *backend) replacedIn(ctx context.Context, s logical.Storage, id string) (account string, err error) {
	configs, err := b.accountConfigs(ctx, s)
	for name, config := range configs {
		if slices.Contains(idsOf(config.Previous), id) {
			return name, nil
		}
	}
	return "", err
}

func replacedKeyError(id, account string) error {
	return userError("access key %s was replaced in account %q, which deletes it by itself. If the account's present key has no right to it "+
		"(a key of another user or another cloud account): delete it in the cloud, then its record: delete keys/%s with force=true",
		id, account, id)
}

// forgetKey takes a key that is gone, or handed over, out of the ledger. One that an operator gave
// was never in it.
func (b *backend) forgetKey(ctx context.Context, s logical.Storage, account, user string, key previousKey) error {
	e := &ledger.Entry{Account: account, User: user, AccessKey: key.ID, Label: key.Label, Unrecorded: key.Label == ""}
	return b.removeEntry(ctx, s, e)
}

// madeAt is when the cloud has surely made what an entry stands for. Where what would say it is not stored yet, that may have been a moment
// ago: a list that shows it does not keep another part of the cloud from not knowing it, whose "not found" is no proof then.
func madeAt(e *ledger.Entry) time.Time {
	if e.MadeAt.IsZero() && e.State == ledger.Begun {
		return time.Now()
	}
	return e.MadeAt
}

// refOf names a replaced key to the cloud, with what the ledger knows of its owner, and of when it was made: a list need not show
// one of seconds ago.
func (b *backend) refOf(ctx context.Context, s logical.Storage, a *account, key previousKey, user string) (provider.KeyRef, error) {
	ref := key.ref(a.config.AccountID, user)
	e, err := ledger.Read(ctx, s, a.name, key.Label)
	if err != nil || e == nil {
		return ref, err
	}
	ref.Made = madeAt(e)
	if user == "" {
		return ref, nil
	}
	recorded, err := a.ref(e)
	ref.UserID, ref.UserIDCertain = recorded.UserID, recorded.UserIDCertain
	return ref, err
}
