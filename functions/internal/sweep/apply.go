// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// apply does what was planned, and nothing else. It writes every planned key down with its
// outcome, the ones that it did not reach too. It stops taking keys at w.until, so that
// what has begun can end; the error is what made it give up the account.
func (w *walk) apply(ctx context.Context, done *spool) (finished bool, err error) {
	size := chunk(w.job.Settings.Workers)
	batch := make([]Finding, 0, size)
	var givenUp error
	flush := func() error {
		results, err := w.applyBatch(ctx, batch, givenUp != nil)
		if givenUp == nil {
			givenUp = err
		}
		batch = batch[:0]
		return w.note(results, done)
	}
	for f, err := range w.plan.read(0) {
		if err != nil {
			return false, err
		}
		if batch = append(batch, f); len(batch) == size {
			if err := flush(); err != nil {
				return false, err
			}
		}
	}
	if err := flush(); err != nil {
		return false, err
	}
	// A key that failed must not keep the next run from going on: only what was not reached
	// is planned again.
	return w.counts.NotReached == 0, givenUp
}

// note writes down what became of some planned keys.
func (w *walk) note(results []Finding, done *spool) error {
	for _, f := range results {
		w.counts.done(f.Outcome)
		if f.Outcome == OutcomeDeactivated && f.Changed.IsZero() {
			w.inactive[f.AccessKey] = time.Now()
		}
		if err := done.add(f); err != nil {
			return err
		}
	}
	return nil
}

// late tells whether no more keys may be taken.
func (w *walk) late(ctx context.Context) bool {
	return ctx.Err() != nil || !w.until.IsZero() && !time.Now().Before(w.until)
}

// applyBatch works on some planned keys at once. Keys that come after one that made the
// account be given up are not touched.
func (w *walk) applyBatch(ctx context.Context, batch []Finding, stop bool) ([]Finding, error) {
	results := slices.Clone(batch)
	failures := make([]error, len(batch))
	var givenUp atomic.Bool
	each(w.job.Settings.Workers, len(batch), func(i int) {
		if stop || givenUp.Load() || w.late(ctx) {
			results[i].Outcome, results[i].Detail = OutcomeNotReached, "time ran out, or the account was given up"
			return
		}
		results[i].Outcome, results[i].Detail, failures[i] = w.applyOne(ctx, batch[i])
		givenUp.CompareAndSwap(false, failures[i] != nil)
		results[i].Detail = MaskIn(results[i].Detail, batch[i].AccessKey, w.rules.own)
	})
	for i, err := range failures {
		if err != nil {
			return results, fmt.Errorf("access key %s: %w", Mask(batch[i].AccessKey), err)
		}
	}
	return results, nil
}

// applyOne reads the key again, decides again, and acts if nothing has changed. The error
// is one that makes the whole account be given up.
func (w *walk) applyOne(ctx context.Context, planned Finding) (Outcome, string, error) {
	now, why, err := w.again(ctx, planned)
	if err != nil {
		return OutcomeNotReached, err.Error(), err
	}
	if now != "" {
		return now, why, nil
	}
	outcome, err := w.act(ctx, planned)
	if err == nil {
		return outcome, "", nil
	}
	switch kind := provider.KindOf(err); kind {
	case provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindLockedOut:
		// Four of these in a row lock an OUTSCALE account's API for everybody.
		return OutcomeFailed, err.Error(), err
	default:
		return outcome, err.Error(), nil
	}
}

// again looks whether a planned key is as it was, in the cloud first and in the ledger
// second. One that is only switched off since is taken for what an attempt that was cut off
// has left: the first half of what is to be done. It returns an outcome where nothing is to be done.
func (w *walk) again(ctx context.Context, planned Finding) (Outcome, string, error) {
	keys, err := w.cloud.ListKeys(ctx, planned.User)
	if err != nil && !isGone(err) {
		return "", "", fmt.Errorf("reading it again: %w", err)
	}
	i := slices.IndexFunc(keys, func(key provider.Key) bool { return key.ID == planned.AccessKey })
	if i < 0 {
		return OutcomeGone, "", nil
	}
	switchedOff := planned.switchedOff(keys[i])
	if !planned.listedAs(keys[i]) && !switchedOff {
		return OutcomeDrifted, "it has changed since the plan was made", nil
	}
	l := w.judge(ctx, planned.User, keys[i:i+1])
	if l.err != nil {
		return "", "", l.err
	}
	d := l.decisions[0]
	if switchedOff && planned.Action == ActionDeactivate && d.class == planned.Class {
		return OutcomeDeactivated, "it was switched off already", nil
	}
	if d.class != planned.Class || d.action != planned.Action {
		return OutcomeDrifted, "it is to be treated otherwise than when the plan was made: " + d.reason, nil
	}
	return "", "", nil
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
