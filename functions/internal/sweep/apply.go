// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// apply does what was planned, and nothing else. It writes every planned key down with its
// outcome, the ones that it did not reach too. It stops taking keys at w.until, so that
// what has begun can end; the error is what made it give up the account.
func (w *walk) apply(ctx context.Context, done *spool) (finished bool, err error) {
	size := fleet.Chunk(w.job.Settings.Workers)
	var batch [][]Finding // of a user each
	var stopped error
	flush := func() error {
		results, err := w.applyBatch(ctx, batch, stopped != nil)
		if stopped == nil {
			stopped = err
		}
		batch = batch[:0]
		return w.note(results, done)
	}
	for f, err := range w.plan.read() {
		if err != nil {
			return false, err
		}
		last := len(batch) - 1
		if last >= 0 && batch[last][0].User == f.User {
			batch[last] = append(batch[last], f)
			continue
		}
		if len(batch) == size {
			if err := flush(); err != nil {
				return false, err
			}
		}
		batch = append(batch, []Finding{f})
	}
	if err := flush(); err != nil {
		return false, err
	}
	// A key that failed must not keep the next run from going on: only what was not reached
	// is planned again.
	return w.counts.NotReached == 0, stopped
}

// note writes down what became of some planned keys. What a cloud or Vault said of one may name others.
func (w *walk) note(results []Finding, done *spool) error {
	for _, f := range results {
		f.Detail = fleet.MaskIn(f.Detail, f.AccessKey, w.rules.own)
		if _, again := w.inactive[f.AccessKey]; f.Outcome == OutcomeDeactivated && !again {
			w.inactive[f.AccessKey] = time.Now()
		}
		switch f.Outcome {
		case OutcomeDrifted:
			if time.Since(w.driftedAt[f.AccessKey]) > night { // a step that failed is tried again within minutes
				w.drifted[f.AccessKey]++
				w.driftedAt[f.AccessKey] = time.Now()
			}
		case OutcomeNotReached:
		default:
			delete(w.drifted, f.AccessKey)
			delete(w.driftedAt, f.AccessKey)
		}
		if _, before := w.notified[f.AccessKey]; f.Outcome == OutcomeNotified && !before {
			w.notified[f.AccessKey] = time.Now()
		}
		if f.Outcome == OutcomeDeleted { // one that is gone may be there still, below its user's new name
			delete(w.inactive, f.AccessKey)
			delete(w.notified, f.AccessKey)
		}
		w.refusal(&f)
		w.counts.done(f.Outcome)
		if err := done.add(f); err != nil {
			return err
		}
	}
	return nil
}

// refusal counts how often the delete of a key was refused, once a night. It is tried three
// times before it is called undeletable, where that can be remembered.
func (w *walk) refusal(f *Finding) {
	if f.Outcome == OutcomeNotReached || f.Outcome == OutcomeFailed {
		return // whether its delete is refused is as open as before
	}
	if f.Outcome != OutcomeUndeletable || w.job.Store == nil {
		delete(w.refused, f.AccessKey)
		return
	}
	refusal := w.refused[f.AccessKey]
	if time.Since(refusal.Last) > night {
		refusal = Refusal{refusal.Times + 1, time.Now()}
	}
	w.refused[f.AccessKey] = refusal
	if refusal.Times < mostRefusals {
		f.Outcome = OutcomeDeleteRefused
	}
}

// late tells whether no more keys may be taken.
func (w *walk) late(ctx context.Context) bool {
	return ctx.Err() != nil || !w.until.IsZero() && !time.Now().Before(w.until)
}

// applyBatch works on the planned keys of some users at once. Keys that come after one that
// made the account be given up are not touched.
func (w *walk) applyBatch(ctx context.Context, batch [][]Finding, stop bool) ([]Finding, error) {
	failures := make([]error, len(batch))
	var stopped atomic.Bool
	stopped.Store(stop)
	fleet.Each(w.job.Settings.Workers, len(batch), func(i int) {
		failures[i] = w.applyUser(ctx, batch[i], &stopped)
	})
	return slices.Concat(batch...), cmp.Or(failures...)
}

// lookLife is how long a user's keys are taken for what they were last seen to be. Changes take
// tenths of a second, and minutes where the cloud throttles.
const lookLife = 30 * time.Second

// applyUser reads a user's keys again, and then acts on those of them that were planned, one
// right after the other. It writes the outcomes into planned. The error is one that makes the
// whole account be given up.
func (w *walk) applyUser(ctx context.Context, planned []Finding, stopped *atomic.Bool) (failure error) {
	var now look
	var seen time.Time
	for i := range planned {
		f := &planned[i]
		if stopped.Load() || w.late(ctx) {
			f.Outcome, f.Detail = OutcomeNotReached, "time ran out, or the account was given up"
			continue
		}
		if time.Since(seen) > lookLife {
			seen = time.Now()
			now = w.again(ctx, planned)
		}
		var err error
		switch {
		case f.Action != ActionNotify:
			f.Outcome, f.Detail, err = w.applyOne(ctx, *f, now)
		case f.Outcome == "": // else it was told of together with another
			err = w.tell(ctx, planned, now)
		}
		if err != nil && ctx.Err() == nil { // else the time ran out, and the account is not given up for it
			stopped.Store(true)
			failure = fmt.Errorf("access key %s: %w", fleet.Mask(f.AccessKey), err)
		}
	}
	return failure
}

// tell sends one message of all of a user's keys that are to be switched off, and are still as they
// were planned. A key is kept where that fails. The error is one that makes the whole account be given up.
func (w *walk) tell(ctx context.Context, planned []Finding, now look) error {
	unread, why, err := now.unread()
	m := Message{Account: w.rules.account.Name, Provider: w.rules.account.Provider, User: w.rules.name(planned[0].User)}
	var listed []*Finding
	for i := range planned {
		f := &planned[i]
		if f.Action != ActionNotify {
			continue
		}
		if at, sent := w.rules.notified[f.AccessKey]; sent { // an attempt at the same plan failed later, or was cut off
			f.Outcome, f.Detail = OutcomeNotified, "its owner was told already, on "+day(at)
			continue
		}
		if unread != "" {
			f.Outcome, f.Detail = unread, why
		} else if f.Outcome, f.Detail = f.since(now, w.rules.drifted[f.AccessKey] >= mostDrifts); f.Outcome == "" {
			listed = append(listed, f)
			from := time.Now().Add(w.job.Settings.Notice).UTC().Truncate(time.Second)
			m.Keys = append(m.Keys, MessageKey{fleet.Mask(f.AccessKey), f.Created, f.Class, f.Reason, from})
		}
	}
	if len(listed) == 0 {
		return err
	}
	outcome, detail := OutcomeNotified, ""
	if w.job.Notify == nil {
		outcome, detail = OutcomeNotNotified, "NOTIFY names nobody here"
	} else if err := w.job.Notify(ctx, m); err != nil && ctx.Err() != nil {
		outcome, detail = OutcomeNotReached, "time ran out while its owner was told: "+err.Error()
	} else if err != nil {
		outcome, detail = OutcomeNotNotified, err.Error()
	}
	for _, f := range listed {
		f.Outcome, f.Detail = outcome, detail
	}
	return err
}

// unread tells what becomes of the planned keys of a user whose keys could not be read again; nothing where they were. The error is one
// that makes the whole account be given up.
func (l look) unread() (Outcome, string, error) {
	switch {
	case l.Err == nil:
		return "", "", nil
	case fleet.OfUser(l.Err):
		return OutcomeFailed, l.Err.Error(), nil
	default:
		return OutcomeNotReached, l.Err.Error(), l.Err
	}
}

// again looks at a user's planned keys as they are now, in the cloud first and in the ledger
// second: one list for all of them, since a user has few keys.
func (w *walk) again(ctx context.Context, planned []Finding) look {
	user := planned[0].User
	keys, err := w.cloud.ListKeys(ctx, user)
	if err != nil && provider.KindOf(err) != provider.KindNotFound {
		return look{Look: fleet.Look{Err: fmt.Errorf("reading it again: %w", err)}}
	}
	keys = slices.DeleteFunc(keys, func(key provider.Key) bool {
		return !slices.ContainsFunc(planned, func(f Finding) bool { return f.AccessKey == key.ID })
	})
	for i, key := range keys {
		if at := slices.IndexFunc(planned, func(f Finding) bool { return f.begun(key, time.Now()) }); at >= 0 {
			keys[i].Expires = planned[at].Expires // what it is judged by
		}
	}
	looks, err := w.decide(ctx, w.users.LookUp(ctx, user, keys, w.concernsLedger))
	if err != nil {
		return look{Look: fleet.Look{Err: err}}
	}
	return looks[0]
}

// applyOne compares a key with what it is now, and acts if nothing has changed. The error is
// one that makes the whole account be given up.
func (w *walk) applyOne(ctx context.Context, planned Finding, now look) (Outcome, string, error) {
	if outcome, why, err := now.unread(); outcome != "" {
		return outcome, why, err
	}
	if outcome, why := planned.since(now, w.rules.drifted[planned.AccessKey] >= mostDrifts); outcome != "" {
		return outcome, why, nil
	}
	planned = planned.as(now) // where it has drifted often enough it is not as it was planned
	outcome, err := w.act(ctx, planned)
	if err == nil {
		return outcome, "", nil
	}
	if ctx.Err() != nil {
		return OutcomeNotReached, "time ran out while it was changed: " + err.Error(), nil
	}
	switch kind := provider.KindOf(err); kind {
	case provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindLockedOut, provider.KindClockWrong:
		// Four of these in a row lock an OUTSCALE account's API for everybody.
		return OutcomeFailed, err.Error(), err
	default:
		return outcome, err.Error(), nil
	}
}

// since tells what has become of a planned key since the plan: an outcome where nothing is to
// be done. One that is only switched off since is taken for what an attempt that was cut off
// has left: the first half of what is to be done. often tells that the key has changed since the plan
// night after night: what it is to be treated as decides then, and no longer what stands on it.
func (f Finding) since(now look, often bool) (Outcome, string) {
	i := slices.IndexFunc(now.Keys, func(key provider.Key) bool { return key.ID == f.AccessKey })
	if i < 0 {
		return OutcomeGone, "its user has no such key any more: it was deleted, or the user was renamed, which the next run sees"
	}
	key, d := now.Keys[i], now.decisions[i]
	switchedOff := f.switchedOff(key)
	switch {
	case !f.listedAs(key) && !switchedOff && !often:
		return OutcomeDrifted, "it has changed since the plan was made"
	case switchedOff && f.Action == ActionDeactivate && d.class == f.Class:
		return OutcomeDeactivated, "it was switched off already"
	case d.class != f.Class || d.action != f.Action:
		return OutcomeDrifted, "it is to be treated otherwise than when the plan was made: " + d.reason
	default:
		return "", ""
	}
}

// night is how far apart two runs are at least that count as two nights.
const night = 12 * time.Hour

// mostDrifts is how many nights in a row leave a key alone that has changed between plan and change: its
// owner can have it changed at any time.
const mostDrifts = 3

// as is a planned key with what stands on it now.
func (f Finding) as(now look) Finding {
	for _, key := range now.Keys {
		if key.ID == f.AccessKey {
			f.Label, f.Active, f.Changed, f.Expires, f.Due = key.Label, key.Active, key.Changed, key.Expires, key.Due
		}
	}
	return f
}

// act carries an action out. The outcome beside an error is what the error leaves.
func (w *walk) act(ctx context.Context, f Finding) (Outcome, error) {
	ref := f.Key().Ref(w.rules.account.AccountID)
	if ref.Expires.IsZero() && w.rules.expires {
		// The key gets a date by being switched off (OUTSCALE clears what is not sent, and its
		// policy may demand one): past the quarantine, since an expired key may be undeletable.
		ref.Expires = time.Now().Add(w.job.Settings.Quarantine + 24*time.Hour).UTC().Truncate(time.Second)
	}
	ended := w.rules.expires && !f.Expires.IsZero() && !time.Now().Before(f.Expires)
	if f.Action != ActionDelete || ended { // one that ended in quarantine needs a date ahead to be deleted
		if err := w.cloud.DeactivateKey(ctx, ref); err != nil {
			return OutcomeFailed, err
		}
	}
	if f.Action == ActionDeactivate {
		return OutcomeDeactivated, nil
	}
	err := w.cloud.DeleteKey(ctx, ref)
	switch kind := provider.KindOf(err); {
	case err == nil:
		return OutcomeDeleted, nil
	case kind == provider.KindConflict, kind == provider.KindInvalid:
		return OutcomeUndeletable, err
	default:
		return OutcomeFailed, err
	}
}
