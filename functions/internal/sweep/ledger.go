// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// leastLedger is how many keys a ledger must have had before its shrinking means anything.
const leastLedger = 10

// record is what the ledger knows of one user's keys, or of the engine's own identity.
type record struct {
	keys map[string]LedgerKey
	size int
}

func (r record) of(key provider.Key) *LedgerKey {
	entry, ok := r.keys[key.ID]
	if !ok {
		return nil
	}
	return &entry
}

// lookUp asks the ledger for a user's keys. It must be called after the cloud was listed:
// the other way round, a key issued in between would look like an orphan. The ledger calls
// the engine's own identity by no name, whoever that is to us: see lookUpOwn.
func (w *walk) lookUp(ctx context.Context, user string, keys []provider.Key) look {
	l := look{user: user, keys: keys}
	if user != "" && slices.ContainsFunc(keys, w.concernsLedger) {
		l.known, l.err = w.readLedger(ctx, user)
	}
	return l
}

// lookUpOwn asks the ledger for the keys of the engine's own identity, where some keys that
// it could tell something of are in none of their users' parts.
func (w *walk) lookUpOwn(ctx context.Context, looks []look) (record, error) {
	lacking := slices.ContainsFunc(looks, func(l look) bool {
		return slices.ContainsFunc(l.keys, func(key provider.Key) bool { return l.known.of(key) == nil && w.concernsLedger(key) })
	})
	if !lacking {
		return record{}, nil
	}
	return w.readLedger(ctx, "")
}

func (w *walk) readLedger(ctx context.Context, user string) (record, error) {
	entries, err := w.job.Ledger.Keys(ctx, w.rules.account.Name, user)
	if err != nil {
		return record{}, fmt.Errorf("the ledger of Vault cannot be read, and without it every leased key would look like an orphan: %w", err)
	}
	r := record{keys: make(map[string]LedgerKey, len(entries)), size: len(entries)}
	for _, entry := range entries {
		r.keys[entry.AccessKey] = entry
	}
	return r, nil
}

// concernsLedger tells whether the ledger could make a difference: for a key with a label,
// and for one that would be changed. A key may have lost its label and be leased still.
func (w *walk) concernsLedger(key provider.Key) bool {
	if w.job.Ledger == nil {
		return false
	}
	_, err := keylabel.Parse(key.Label)
	return err == nil || w.rules.decide(key, nil).action.Changes()
}

// doubtful refuses a ledger that would make orphans by being empty, or by having lost more
// than half of its keys since the last run over the whole account.
func (w *walk) doubtful(ctx context.Context) error {
	orphans := w.counts.ByClass[ClassOrphan]
	if w.job.Settings.AllowEmptyLedger || orphans == 0 {
		return nil
	}
	ledgerKeys := w.ledgerKeys + w.ownKeys
	if ledgerKeys == 0 {
		vouched, err := w.vouched(ctx)
		if vouched || err != nil {
			return err
		}
		return fmt.Errorf("the ledger of Vault is empty, but the cloud has %d keys of this engine: see whether this is the right mount and namespace; if the ledger is right, set ALLOW_EMPTY_LEDGER", orphans)
	}
	if last := w.state.LedgerKeys; w.whole() && last >= leastLedger && ledgerKeys*2 < last {
		return fmt.Errorf("the ledger of Vault has %d keys and had %d when last seen, and %d keys would become orphans: if the ledger is right, set ALLOW_EMPTY_LEDGER", ledgerKeys, last, orphans)
	}
	return nil
}

// vouched looks for a single key that the ledger knows of users that this walk did not
// reach: a part of an account may well have orphans alone.
func (w *walk) vouched(ctx context.Context) (bool, error) {
	if w.whole() {
		return false, nil
	}
	for user, err := range w.cloud.ListUsers(ctx) {
		if err != nil {
			return false, fmt.Errorf("listing the account's users: %w", err)
		}
		if known, err := w.readLedger(ctx, user.Name); known.size > 0 || err != nil {
			return known.size > 0, err
		}
	}
	return false, nil
}

// usedSince asks clouds that can tell whether a key that would be changed is in use. An
// answer can only save the key. One that the engine has made is not saved beyond its date:
// where the cloud ends no key (Huawei), whoever uses it would have it for ever.
func (w *walk) usedSince(ctx context.Context, key provider.Key, d decision) (decision, error) {
	usage, ok := w.cloud.(Usage)
	overdue := d.class == ClassExpired && !isForeign(key)
	if !ok || overdue || !d.action.Changes() || w.job.Settings.UsedWithin == 0 {
		return d, nil
	}
	last, err := usage.LastUsed(ctx, key.User, key.ID)
	if provider.KindOf(err) == provider.KindNotFound {
		return d, nil // the key is gone: nobody can use it
	}
	if err != nil {
		return decision{}, fmt.Errorf("when access key %s was last used cannot be read: %w", Mask(key.ID), err)
	}
	if last.IsZero() || w.rules.now.Sub(last) >= w.job.Settings.UsedWithin {
		return d, nil
	}
	return decision{ClassUsed, fmt.Sprintf("%s, but used on %s", d.reason, last.UTC().Format(time.DateOnly)), ActionKeep}, nil
}

// isGone tells a user or key that does not exist (any more) from a failure.
func isGone(err error) bool {
	var known *provider.Error
	return errors.As(err, &known) && known.Kind == provider.KindNotFound
}
