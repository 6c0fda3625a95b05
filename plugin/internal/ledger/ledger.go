// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// retractBudget is how long it may take to remove an entry whose first write has failed.
const retractBudget = 5 * time.Second

// FullError refuses a key beyond a role's cap.
type FullError struct{ Count int }

// Error implements error.
func (e *FullError) Error() string { return fmt.Sprintf("%d keys of the role are counted", e.Count) }

// Begin writes the entry of a key that is about to be made, and counts the key from now on. most
// is the role's cap; 0: none. Until End, the key's request runs: nobody else takes the entry up.
//
// The index comes first, since a write that is said to have failed may have been carried out. One
// that has failed is taken back; where that fails too, the next look at the entry settles it.
func (l *Ledger) Begin(ctx context.Context, s logical.Storage, e *Entry, most int) error {
	e.State = Begun
	if count, taken := l.take(e, most); !taken {
		return &FullError{Count: count}
	}
	err := write(ctx, s, e)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), retractBudget)
	defer cancel()
	defer l.End(e.Account, e.Label)
	return errors.Join(err, l.Remove(ctx, s, e.Account, e.Label))
}

// End tells that a key's request has ended. What is still begun is taken up by the next tick.
func (l *Ledger) End(account, label string) {
	l.update(account, label, func(item *Item) { item.running = false })
}

// Fail ends a key's request whose key is to go, whatever storage says of it: the last write may
// have been carried out, though it is said to have failed.
func (l *Ledger) Fail(account, label string) {
	l.update(account, label, func(item *Item) { item.running, item.failed, item.Due = false, true, time.Now() })
}

// Abandon does so for a request that goes and has not said how it ended: it met a panic. It is
// deferred where a key is begun, and does nothing after End, Fail or Remove.
func (l *Ledger) Abandon(account, label string) {
	l.update(account, label, func(item *Item) {
		if item.running {
			item.running, item.failed, item.Due = false, true, time.Now()
		}
	})
}

// Save writes an entry that has changed. Where that fails, storage may hold either form: the
// entry is read again at the earlier of both times.
func (l *Ledger) Save(ctx context.Context, s logical.Storage, e *Entry) error {
	before := l.note(e)
	err := write(ctx, s, e)
	if err != nil {
		l.restore(e, before)
	}
	return err
}

// Learn takes over an entry that was just read from storage.
func (l *Ledger) Learn(e *Entry) { l.note(e) }

// Finish marks a key as made.
func (l *Ledger) Finish(ctx context.Context, s logical.Storage, e *Entry) error {
	e.State = Made
	if e.MadeAt.IsZero() {
		e.MadeAt = time.Now()
	}
	return l.Save(ctx, s, e)
}

// Remove takes an entry out of storage, and then out of what is counted.
func (l *Ledger) Remove(ctx context.Context, s logical.Storage, account, label string) error {
	path := Path(account, label)
	if err := s.Delete(ctx, path); err != nil {
		return fmt.Errorf("deleting %s from storage: %w", path, err)
	}
	l.Drop(account, label)
	return nil
}

// Known tells which labels have an entry in storage, under any account of the mount. It asks
// storage, not the index: what it does not know is taken for an orphan. An entry that cannot be
// understood is one.
func Known(ctx context.Context, s logical.Storage, labels []string) (map[string]bool, error) {
	accounts, err := accountsIn(ctx, s)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, label := range labels {
		for _, account := range accounts {
			raw, err := s.Get(ctx, Path(account, label))
			if err != nil {
				return nil, fmt.Errorf("reading %s from storage: %w", Path(account, label), err)
			}
			if raw != nil {
				known[label] = true
				break
			}
		}
	}
	return known, nil
}
