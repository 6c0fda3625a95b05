// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// walk goes over the users of one account and plans. It changes nothing in the cloud.
type walk struct {
	job   Job
	cloud fleet.Cloud
	rules rules
	users fleet.Walk
	until time.Time // after which no more changes are begun; zero: none

	failed bool // it ended by an error, before it had seen all

	kept *spool // what is not to be changed
	plan *spool // what is

	identity provider.Identity
	held     []provider.Key // of the signing identity, until it is known whose they are
	state    State          // as it was
	inactive map[string]time.Time
	counts   Counts
	known    int // keys that the ledger knows

	readUsers  int
	problems   []string        // of users whose keys could not be read: the first of them
	protecting map[string]bool // patterns of KEEP_USERS and KEEP_KEYS that have matched
	refused    map[string]Refusal
	notified   map[string]time.Time
	drifted    map[string]int
	driftedAt  map[string]time.Time
	taken      map[string]bool // keys that the run has dealt with, of which earlier records are replaced by its own
}

// look is what was found for one user, and what is to be done with each of the keys.
type look struct {
	fleet.Look
	decisions []decision
	used      []time.Time // last, of each key; zero: not known
}

// run plans for all users after the cursor.
func (w *walk) run(ctx context.Context, latest time.Time) (err error) {
	if !latest.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, latest)
		defer cancel()
	}
	if w.held, err = w.users.Own(ctx, w.identity); err != nil {
		return err
	}
	if err := w.users.Users(ctx, w.concernsLedger, func(looks []fleet.Look) error { return w.record(ctx, looks...) }); err != nil {
		return err
	}
	if err := w.release(ctx); err != nil {
		return err
	}
	if w.readUsers == 0 && w.counts.UnreadUsers > 0 {
		return fmt.Errorf("nobody's keys can be read: %s", w.problems[0])
	}
	return nil
}

// shownProblems is how many users are named whose keys cannot be read; the others are counted.
const shownProblems = 100

// unread notes a user whose keys cannot be read. They are left as they are.
func (w *walk) unread(err error) {
	w.counts.UnreadUsers++
	if len(w.problems) < shownProblems {
		w.problems = append(w.problems, fleet.MaskIn(err.Error(), w.rules.own))
	}
}

// matched notes the patterns that a user, or a key of his, is protected by.
func (w *walk) matched(user string, keys ...string) {
	for _, pattern := range w.job.Settings.KeepUsers {
		if matches([]string{pattern}, w.rules.name(user)) {
			w.protecting["KEEP_USERS "+pattern] = true
		}
	}
	for _, pattern := range w.job.Settings.KeepKeys {
		if slices.ContainsFunc(keys, func(key string) bool { return matches([]string{pattern}, key) }) {
			w.protecting["KEEP_KEYS "+pattern] = true
		}
	}
}

// concernsLedger tells whether the ledger could make a difference: for a key with the engine's
// label, and for one that would be changed. A key may have lost its label and be leased still.
func (w *walk) concernsLedger(key provider.Key) bool {
	label, err := keylabel.Parse(key.Label)
	return err == nil && label.Instance == w.rules.account.Instance || w.rules.decide(key, nil).action.Changes()
}

// decide decides on the keys of some users.
func (w *walk) decide(ctx context.Context, found ...fleet.Look) ([]look, error) {
	looks := make([]look, len(found))
	fleet.Each(w.job.Settings.Workers, len(found), func(i int) {
		l := look{Look: found[i]}
		for _, key := range l.Keys {
			var entry *fleet.LedgerKey
			if known, ok := l.Known[key.ID]; ok {
				entry = &known
			}
			d, used, err := w.usedSince(ctx, key, w.rules.decide(key, entry))
			if err != nil && l.Err == nil {
				l.Err = err
			}
			l.decisions, l.used = append(l.decisions, d), append(l.used, used)
		}
		looks[i] = l
	})
	for i, l := range looks {
		if l.Err != nil && !fleet.OfUser(l.Err) {
			return nil, l.Err
		}
		if l.Err != nil {
			looks[i].decisions = nil
		}
	}
	return looks, nil
}

// record decides on the keys of some users, and writes that down.
func (w *walk) record(ctx context.Context, found ...fleet.Look) error {
	looks, err := w.decide(ctx, found...)
	if err != nil {
		return err
	}
	for _, l := range looks {
		w.matched(l.User)
		if l.Err != nil {
			w.unread(l.Err)
			continue
		}
		if l.User != "" {
			w.readUsers++
		}
		for i, key := range l.Keys {
			w.matched(l.User, key.ID)
			if key.ID == w.rules.own && l.User != "" {
				w.identity.Kind = provider.IdentityUser
			}
			w.held = slices.DeleteFunc(w.held, func(own provider.Key) bool { return own.ID == key.ID })
			if _, known := l.Known[key.ID]; known {
				w.known++
			}
			f := w.rules.finding(key, l.decisions[i])
			f.Used = l.used[i]
			if err := w.add(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) add(f Finding) error {
	w.counts.plan(f, w.rules.now)
	w.remember(f)
	if f.Action.Changes() {
		return w.plan.add(f)
	}
	return w.kept.add(f)
}

// remember keeps what is known of a key from earlier runs, as far as it still matters. The rest is dropped in a run over a part of
// the account too: a key that was switched off, is in use since, and is to go once more has a quarantine and a notice of its own.
func (w *walk) remember(f Finding) {
	// Nobody has decided yet on a key whose owner is not known.
	goes := f.Action == ActionWait || f.Action.Changes() || f.Class == ClassUnclear
	if w.state.recorded(f.AccessKey) {
		w.taken[f.AccessKey] = true
	}
	if at, ok := w.state.Notified[f.AccessKey]; ok && goes {
		w.notified[f.AccessKey] = at
	}
	if since, ok := w.state.Inactive[f.AccessKey]; ok && (!f.Active || goes) {
		w.inactive[f.AccessKey] = since
	} else if f.Action == ActionWait && !f.Active {
		w.inactive[f.AccessKey] = cmp.Or(f.Changed, w.rules.now)
	}
	if n, ok := w.state.Drifted[f.AccessKey]; ok && goes {
		w.drifted[f.AccessKey], w.driftedAt[f.AccessKey] = n, w.state.DriftedAt[f.AccessKey]
	}
	if refusal, ok := w.state.Refused[f.AccessKey]; ok {
		w.refused[f.AccessKey] = refusal
	}
}

// recorded tells whether earlier runs have left anything of a key.
func (s State) recorded(key string) bool {
	_, inactive := s.Inactive[key]
	_, refused := s.Refused[key]
	_, notified := s.Notified[key]
	_, drifted := s.Drifted[key]
	_, at := s.DriftedAt[key]
	return inactive || refused || notified || drifted || at
}

// release plans for the signing identity's keys that no user has. The account's own belong to the part that begins with the first user,
// so that no plan has them twice; others may belong to a user whose keys this walk did not read. Where it has read all, they are root's:
// the client does not ask all users of a large account whose its key is.
func (w *walk) release(ctx context.Context) error {
	root := w.identity.Kind == provider.IdentityRoot
	switch {
	case root && w.users.Start != "":
		return nil
	case len(w.held) > 0 && ctx.Err() == nil && (root || w.users.Whole() && w.counts.UnreadUsers+w.users.Gone == 0):
		w.identity.Kind, w.rules.root = provider.IdentityRoot, true
		// record takes out of held what it writes down.
		return w.record(ctx, w.users.LookUp(ctx, "", slices.Clone(w.held), w.concernsLedger))
	}
	for _, key := range w.held {
		d := decision{ClassUnclear, "whose key it is shows when one run reads the keys of all users", ActionKeep}
		if err := w.add(w.rules.finding(key, d)); err != nil {
			return err
		}
	}
	return nil
}

// usedSince asks clouds that can tell whether a key that would be changed is in use. An
// answer can only save the key. One that the engine has made is not saved beyond its date, nor one
// with its label beyond what an exemption would do: where the cloud ends no key (Huawei), whoever uses it
// would have it for ever, and the date is one that he can write.
func (w *walk) usedSince(ctx context.Context, key provider.Key, d decision) (decision, time.Time, error) {
	usage, ok := w.cloud.(Usage)
	overdue := !isForeign(key) &&
		(d.class == ClassExpired || key.End().IsZero() || w.rules.now.Sub(key.Created) > w.job.Settings.MaxExemption)
	if !ok || overdue || !d.action.Changes() || w.job.Settings.UsedWithin == 0 {
		return d, time.Time{}, nil
	}
	last, err := usage.LastUsed(ctx, key.User, key.ID)
	if provider.KindOf(err) == provider.KindNotFound {
		return d, time.Time{}, nil // the key is gone: nobody can use it
	}
	if err != nil {
		return decision{}, time.Time{}, &fleet.ProtectionError{Err: fmt.Errorf("user %q: when access key %s was last used cannot be "+
			"read: %w", key.User, fleet.Mask(key.ID), err)}
	}
	if last.IsZero() || w.rules.now.Sub(last) >= w.job.Settings.UsedWithin {
		return d, last, nil
	}
	return decision{ClassUsed, fmt.Sprintf("%s, but used on %s", d.reason, last.UTC().Format(time.DateOnly)), ActionKeep}, last, nil
}

// next is the state for the runs to come. finished tells whether all that was planned was
// dealt with; else the next run plans the same users again.
func (w *walk) next(finished bool) State {
	steps, counted, unbroken := w.before()
	state := State{
		Cursor: w.users.Start, LedgerKeys: w.state.LedgerKeys, Progress: steps, Inactive: w.inactive, Refused: w.refused, Notified: w.notified,
		Drifted: w.drifted, DriftedAt: w.driftedAt,
	}
	switch {
	case w.job.Planned != nil: // no user was looked for
		state.Progress = w.state.Progress
	case finished && w.users.Partial:
		state.Cursor = w.users.Reached
		if unbroken {
			state.Progress = append(slices.Clone(steps), counted.plus(w, w.users.Reached))
		}
	case finished:
		state.Cursor = ""
		if all := counted.plus(w, ""); unbroken && !all.Unread {
			state.LedgerKeys = all.Known
		}
	}
	if w.sawAll() {
		state.LedgerKeys = w.known
		return state
	}
	state.Inactive = beside(w.state.Inactive, w.inactive, w.taken)
	state.Refused = beside(w.state.Refused, w.refused, w.taken)
	state.Notified = beside(w.state.Notified, w.notified, w.taken)
	state.Drifted = beside(w.state.Drifted, w.drifted, w.taken)
	state.DriftedAt = beside(w.state.DriftedAt, w.driftedAt, w.taken)
	return state
}

// sawAll tells whether every key of the account was seen, so that one of which nothing is known any more is gone.
func (w *walk) sawAll() bool {
	return !w.failed && w.users.Whole() && w.job.Planned == nil && w.counts.UnreadUsers == 0
}

// beside is what earlier runs have recorded, with what this one knows of the keys that it has dealt with.
func beside[V any](earlier, now map[string]V, dealt map[string]bool) map[string]V {
	all := map[string]V{}
	maps.Copy(all, earlier)
	maps.DeleteFunc(all, func(key string, _ V) bool { return dealt[key] })
	maps.Copy(all, now)
	return all
}
