// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	l.update(account, label, func(item *Item) { item.Running = false })
}

// Fail ends a key's request whose key is to go, whatever storage says of it: the last write may
// have been carried out, though it is said to have failed.
func (l *Ledger) Fail(account, label string) {
	l.update(account, label, func(item *Item) { item.Running, item.Failed, item.Due = false, true, time.Now() })
}

// Abandon does so for a request that goes and has not said how it ended: it met a panic. It is
// deferred where a key is begun, and does nothing after End, Fail or Remove.
func (l *Ledger) Abandon(account, label string) {
	l.update(account, label, func(item *Item) {
		if item.Running {
			item.Running, item.Failed, item.Due = false, true, time.Now()
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

// Forget drops all but the requests under way: another node has changed the entries of an account,
// or, where it is empty, this node is not the active one.
func (l *Ledger) Forget(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed = l.listed && account != ""
	for name, b := range l.books {
		if account == "" || name == account {
			for label, item := range b.items {
				if !item.Running {
					b.put(label, nil)
				}
			}
			b.listed, b.unread, b.removed = false, nil, map[string]bool{}
		}
	}
}

// accountsIn lists the accounts that storage has entries of.
func accountsIn(ctx context.Context, s logical.Storage) ([]string, error) {
	names, err := s.List(ctx, Prefix)
	if err != nil {
		return nil, fmt.Errorf("listing the ledger: %w", err)
	}
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, "/")
	}
	return names, nil
}

// Accounts are those that storage has entries of, and those that keys were begun for since.
func (l *Ledger) Accounts(ctx context.Context, s logical.Storage) (names []string, err error) {
	l.mu.Lock()
	listed := l.listed
	l.mu.Unlock()
	if !listed {
		if names, err = accountsIn(ctx, s); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		l.book(name)
	}
	l.listed = true
	return slices.Sorted(maps.Keys(l.books)), nil
}

// Load makes the index of an account whole, or of every account of the mount where it is empty,
// for a request that needs it.
func (l *Ledger) Load(ctx context.Context, s logical.Storage, account string) error {
	return l.fill(ctx, s, account, true)
}

// LoadLabels makes sure that the label of every entry of the mount is known: one that storage does
// not give is known by its label alone.
func (l *Ledger) LoadLabels(ctx context.Context, s logical.Storage) error {
	return l.fill(ctx, s, "", false)
}

func (l *Ledger) fill(ctx context.Context, s logical.Storage, account string, need bool) error {
	names, err := l.Accounts(ctx, s)
	if err != nil {
		return err
	}
	for _, name := range names {
		for more := account == "" || account == name; more; {
			if more, err = l.step(ctx, s, name, need); err != nil && !more {
				return err
			}
		}
	}
	return nil
}

// LoadSome fills the index of an account as far as the context lets it: the next tick goes on
// where this one ends. An entry that cannot be read keeps no other from being seen.
func (l *Ledger) LoadSome(ctx context.Context, s logical.Storage, account string) error {
	var problems []error
	for more := true; more && !isOver(ctx); {
		var err error
		if more, err = l.step(ctx, s, account, false); err != nil && !isOver(ctx) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// isOver tells that a context's time is up. On a busy machine its own timer is late, and the protocol by
// which a plugin reads its storage goes by the clock: each read of the moments between would be one that
// has failed.
func isOver(ctx context.Context) bool {
	deadline, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && !time.Now().Before(deadline)
}

// Whole tells whether every entry of an account was looked at.
func (l *Ledger) Whole(account string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book(account).whole()
}

// step reads one entry of an account, or lists them. need is a request's: it wants every entry,
// and those that storage did not give before are read once more.
func (l *Ledger) step(ctx context.Context, s logical.Storage, account string, need bool) (more bool, err error) {
	l.mu.Lock()
	b := l.book(account)
	l.mu.Unlock()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	label, list := l.next(b, need)
	switch {
	case list:
		labels, err := s.List(ctx, accountPrefix(account))
		if err != nil {
			return false, fmt.Errorf("listing the ledger of account %q: %w", account, err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		b.listed, b.unread = true, labels
		return true, nil
	case label == "":
		return false, nil
	}
	e, err := read(ctx, s, Path(account, label))
	var unreadable *UnreadableError
	if err != nil && !errors.As(err, &unreadable) && (need || isOver(ctx)) {
		return false, err // the request cannot do without it, or nothing was learned of it
	}
	return true, l.learn(b, account, label, e, err)
}

// next is the entry to read next: those that were listed, then those that storage did not give
// before; empty: none is left.
func (l *Ledger) next(b *book, need bool) (label string, list bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !b.listed:
		return "", true
	case len(b.unread) > 0:
		return b.unread[0], false
	}
	now := time.Now()
	for label := range b.unseen {
		if need || !now.Before(b.items[label].Due) {
			return label, false
		}
	}
	return "", false
}

// learn takes over what a read of an entry has given. What this process has written or removed
// since is newer.
func (l *Ledger) learn(b *book, account, label string, e *Entry, problem error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b.unread) > 0 && b.unread[0] == label {
		b.unread = b.unread[1:]
	}
	known := b.items[label]
	var unreadable *UnreadableError
	switch {
	case b.removed[label] || known != nil && !known.unread:
	case errors.As(problem, &unreadable):
		b.put(label, l.blank(account, label, problem.Error()))
		problem = nil
	case problem != nil:
		item := l.blank(account, label, "")
		item.unread, item.Due = true, time.Now().Add(RereadAfter)
		b.put(label, item)
	case e == nil:
		b.put(label, nil) // removed since it was listed
	default:
		b.put(label, l.itemOf(e))
	}
	if b.whole() {
		b.removed = map[string]bool{}
	}
	return problem
}
