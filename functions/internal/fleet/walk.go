// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Walk goes over the users of one account, some at a time and in the order in which the cloud
// lists them, so that the same cloud makes the same result.
type Walk struct {
	Cloud   Cloud
	Ledger  Ledger // nil: there is no Vault
	Account string
	Workers int
	Until   time.Time // after which no more users are taken; zero: none

	Start   string // the user after which it begins; emptied where that user does not exist any more
	Reached string // the user after which the next one begins
	Partial bool   // time ran out
	Gone    int    // users who were gone, or had another name, when their keys were looked at
}

// Whole tells whether the walk went over the whole account.
func (w *Walk) Whole() bool { return w.Start == "" && !w.Partial }

// Look is what is known of one user's keys.
type Look struct {
	User  string
	Keys  []provider.Key
	Known map[string]LedgerKey // by access key, as far as it was asked for
	Err   error

	gone bool
}

// errTime ends a walk that takes too long. It is no failure.
var errTime = errors.New("time is up")

// Users looks at all users after the cursor, and hands over some of them at a time. concerns
// says of which keys the ledger is to be asked.
func (w *Walk) Users(ctx context.Context, concerns func(provider.Key) bool, take func([]Look) error) error {
	err := w.users(ctx, concerns, take)
	if errors.Is(err, errTime) || ctx.Err() != nil {
		w.Partial = true
		return nil
	}
	return err
}

func (w *Walk) users(ctx context.Context, concerns func(provider.Key) bool, take func([]Look) error) error {
	names := make([]string, 0, Chunk(w.Workers))
	flush := func() error {
		if len(names) == 0 {
			return nil
		}
		if !w.Until.IsZero() && !time.Now().Before(w.Until) {
			return errTime
		}
		looks := make([]Look, len(names))
		Each(w.Workers, len(names), func(i int) { looks[i] = w.Look(ctx, names[i], concerns) })
		for _, look := range looks {
			if look.gone {
				w.Gone++
			}
		}
		if err := take(looks); err != nil {
			return err
		}
		w.Reached, names = names[len(names)-1], names[:0]
		return nil
	}
	skipping := w.Start != ""
	for user, err := range w.Cloud.ListUsers(ctx) {
		if err != nil {
			return fmt.Errorf("listing the account's users: %w", err)
		}
		if skipping {
			skipping = user.Name != w.Start
			continue
		}
		if names = append(names, user.Name); len(names) == cap(names) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if skipping { // the user was removed: begin again with the first
		w.Start, w.Reached = "", ""
		return w.users(ctx, concerns, take)
	}
	return flush()
}

// Own lists the keys of the identity whose key signs, where it is not known to be a user: a
// user's come with the users, and a session has none.
func (w *Walk) Own(ctx context.Context, identity provider.Identity) ([]provider.Key, error) {
	if identity.Kind == provider.IdentityUser || identity.Kind == provider.IdentitySession {
		return nil, nil
	}
	keys, err := w.Cloud.ListKeys(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing the keys of the signing identity: %w", err)
	}
	return keys, nil
}

// Look lists a user's keys, and asks the ledger for them: the cloud first, the ledger second. The
// other way round, a key issued in between would look like an orphan.
func (w *Walk) Look(ctx context.Context, user string, concerns func(provider.Key) bool) Look {
	keys, err := w.Cloud.ListKeys(ctx, user)
	if provider.KindOf(err) == provider.KindNotFound {
		return Look{User: user, gone: true} // removed since it was listed, and its keys with it, or renamed
	}
	if err != nil {
		return Look{User: user, Err: fmt.Errorf("user %q: listing its keys: %w", user, err)}
	}
	return w.LookUp(ctx, user, keys, concerns)
}

// LookUp asks the ledger for keys that were listed: by the user first, which is one request for
// all of them, and then by the id of each that is not there. Names move, ids do not.
func (w *Walk) LookUp(ctx context.Context, user string, keys []provider.Key, concerns func(provider.Key) bool) Look {
	l := Look{User: user, Keys: keys, Known: map[string]LedgerKey{}}
	if w.Ledger == nil || !slices.ContainsFunc(keys, concerns) {
		return l
	}
	if user != "" {
		entries, err := w.Ledger.Keys(ctx, w.Account, user)
		if err != nil {
			return Look{User: user, Err: LedgerError(err)}
		}
		for _, entry := range entries {
			l.Known[entry.AccessKey] = entry
		}
	}
	for _, key := range keys {
		if _, known := l.Known[key.ID]; known || !concerns(key) {
			continue
		}
		entry, err := w.Ledger.Key(ctx, key.ID)
		if err != nil {
			return Look{User: user, Err: LedgerError(err)}
		}
		if entry != nil {
			l.Known[key.ID] = *entry
		}
	}
	return l
}

// ProtectionError tells that something cannot be read which may keep a key from being removed:
// Vault's ledger, or when the key was last used. It ends an account's part of a run.
type ProtectionError struct{ Err error }

// Error says what could not be read.
func (e *ProtectionError) Error() string { return e.Err.Error() }

// Unwrap returns what was said.
func (e *ProtectionError) Unwrap() error { return e.Err }

// LedgerError says what a ledger that cannot be read would mean.
func LedgerError(err error) error {
	return &ProtectionError{fmt.Errorf("the ledger of Vault cannot be read, and without it every leased key would look like an orphan, "+
		"or could be cut below its lease: %w", err)}
}

// OfUser tells an error that concerns one user, whom a run reports and passes over, from one that
// the others would meet as well, or that would lock the account if it were repeated.
func OfUser(err error) bool {
	var protection *ProtectionError
	if errors.As(err, &protection) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch provider.KindOf(err) {
	case provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindLockedOut, provider.KindUnreachable, provider.KindThrottled:
		return false
	default:
		return true
	}
}

// Each calls work for every index below n, at most so many at once, and returns when all
// are done.
func Each(workers, n int, work func(i int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, max(1, workers))
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			work(i)
		})
	}
	group.Wait()
}

// Chunk is how many users or keys are taken at a time: enough that the workers rarely wait
// for the slowest.
func Chunk(workers int) int { return max(1, workers) * 8 }
