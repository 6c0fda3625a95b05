// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// walk goes over the users of one account and plans. It changes nothing in the cloud.
type walk struct {
	job   Job
	cloud Cloud
	rules rules
	until time.Time // after which no more users are taken; zero: none

	kept *spool // what is not to be changed
	plan *spool // what is

	identity   provider.Identity
	held       []provider.Key // of the signing identity, until it is known whose they are
	state      State          // as it was
	inactive   map[string]time.Time
	counts     Counts
	ledgerKeys int    // of the users
	ownKeys    int    // of the engine's own identity
	start      string // the user after which this walk began
	reached    string // the user after which the next one begins
	partial    bool
}

// errTime ends a walk that takes too long. It is no failure.
var errTime = errors.New("time is up")

// run plans for all users after the cursor.
func (w *walk) run(ctx context.Context, latest time.Time) error {
	if !latest.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, latest)
		defer cancel()
	}
	if w.identity.Kind != provider.IdentityUser && w.identity.Kind != provider.IdentitySession {
		keys, err := w.cloud.ListKeys(ctx, "")
		if err != nil {
			return fmt.Errorf("listing the keys of the signing identity: %w", err)
		}
		w.held = keys
	}
	err := w.users(ctx)
	if errors.Is(err, errTime) || ctx.Err() != nil {
		w.partial = true
	} else if err != nil {
		return err
	}
	if err := w.release(ctx); err != nil {
		return err
	}
	return w.doubtful(ctx)
}

// users plans for the users, some at a time and in the order in which the cloud lists
// them, so that the same cloud makes the same plan.
func (w *walk) users(ctx context.Context) error {
	size := chunk(w.job.Settings.Workers)
	batch := make([]string, 0, size)
	skipping := w.start != ""
	for user, err := range w.cloud.ListUsers(ctx) {
		if err != nil {
			return fmt.Errorf("listing the account's users: %w", err)
		}
		if skipping {
			skipping = user.Name != w.start
			continue
		}
		if batch = append(batch, user.Name); len(batch) == size {
			if err := w.batch(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if skipping { // the user was removed: begin again with the first
		w.start, w.reached = "", ""
		return w.users(ctx)
	}
	return w.batch(ctx, batch)
}

// look is what was found for one user.
type look struct {
	user      string
	keys      []provider.Key
	known     record
	decisions []decision
	err       error
}

func (w *walk) batch(ctx context.Context, users []string) error {
	if len(users) == 0 {
		return nil
	}
	if !w.until.IsZero() && !time.Now().Before(w.until) {
		return errTime
	}
	looks := make([]look, len(users))
	each(w.job.Settings.Workers, len(users), func(i int) { looks[i] = w.look(ctx, users[i]) })
	own, err := w.judge(ctx, looks)
	if err != nil {
		return err
	}
	w.ownKeys = max(w.ownKeys, own)
	for _, l := range looks {
		if err := w.record(l); err != nil {
			return err
		}
		w.reached = l.user
	}
	return nil
}

// look lists a user's keys, and asks the ledger for them: the cloud first, the ledger second.
func (w *walk) look(ctx context.Context, user string) look {
	keys, err := w.cloud.ListKeys(ctx, user)
	if isGone(err) {
		return look{user: user} // removed since it was listed, and its keys with it
	}
	if err != nil {
		return look{user: user, err: fmt.Errorf("listing its keys: %w", err)}
	}
	return w.lookUp(ctx, user, keys)
}

// judge decides on the keys of some users. What their parts of the ledger lack is looked for
// in the part of the engine's own identity, once for all of them; ownKeys is how many keys
// that has, 0 where nobody looked.
func (w *walk) judge(ctx context.Context, looks []look) (ownKeys int, err error) {
	for _, l := range looks {
		if l.err != nil {
			return 0, l.failed()
		}
	}
	own, err := w.lookUpOwn(ctx, looks)
	if err != nil {
		return 0, err
	}
	each(w.job.Settings.Workers, len(looks), func(i int) { w.decide(ctx, &looks[i], own) })
	for _, l := range looks {
		if l.err != nil {
			return 0, l.failed()
		}
	}
	return own.size, nil
}

func (l look) failed() error {
	if l.user == "" {
		return l.err
	}
	return fmt.Errorf("user %q: %w", l.user, l.err)
}

func (w *walk) decide(ctx context.Context, l *look, own record) {
	for _, key := range l.keys {
		entry := cmp.Or(l.known.of(key), own.of(key))
		d, err := w.usedSince(ctx, key, w.rules.decide(key, entry))
		if err != nil {
			l.err = err
			return
		}
		l.decisions = append(l.decisions, d)
	}
}

// record writes down what was found for a user.
func (w *walk) record(l look) error {
	w.ledgerKeys += l.known.size
	for i, key := range l.keys {
		w.held = slices.DeleteFunc(w.held, func(own provider.Key) bool { return own.ID == key.ID })
		if err := w.add(w.rules.finding(key, l.decisions[i])); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) add(f Finding) error {
	w.counts.plan(f, w.rules.now)
	if f.Action == ActionWait && f.Changed.IsZero() {
		w.inactive[f.AccessKey] = w.rules.now
		if since, ok := w.state.Inactive[f.AccessKey]; ok {
			w.inactive[f.AccessKey] = since
		}
	}
	if f.Action == ActionDelete && f.Changed.IsZero() {
		w.inactive[f.AccessKey] = w.state.Inactive[f.AccessKey]
	}
	if f.Action.Changes() {
		return w.plan.add(f)
	}
	return w.kept.add(f)
}

// release plans for the signing identity's keys that no user has. Where the identity is not
// known to be the account itself, they may belong to a user that this walk did not reach.
func (w *walk) release(ctx context.Context) error {
	if ctx.Err() == nil && (w.identity.Kind == provider.IdentityRoot || w.whole()) {
		// record takes out of held what it writes down.
		looks := []look{w.lookUp(ctx, "", slices.Clone(w.held))}
		own, err := w.judge(ctx, looks)
		if err != nil {
			return err
		}
		w.ownKeys = max(w.ownKeys, own)
		return w.record(looks[0])
	}
	for _, key := range w.held {
		d := decision{ClassUnclear, "whose key it is shows when one run reaches all users", ActionKeep}
		if err := w.add(w.rules.finding(key, d)); err != nil {
			return err
		}
	}
	return nil
}

// whole tells whether the walk went over the whole account.
func (w *walk) whole() bool { return w.start == "" && !w.partial }

// next is the state for the runs to come. finished tells whether all that was planned was
// dealt with; else the next run plans the same users again.
func (w *walk) next(finished bool) State {
	state := State{Cursor: w.start, LedgerKeys: w.state.LedgerKeys, Inactive: w.inactive}
	if finished && w.partial {
		state.Cursor = w.reached
	} else if finished {
		state.Cursor = ""
	}
	if w.whole() {
		state.LedgerKeys = w.ledgerKeys + w.ownKeys
		return state
	}
	state.Inactive = maps.Clone(w.state.Inactive)
	if state.Inactive == nil {
		state.Inactive = map[string]time.Time{}
	}
	maps.Copy(state.Inactive, w.inactive)
	return state
}
