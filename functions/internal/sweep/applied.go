// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"time"
)

// Apply changes what an earlier run in report mode planned for one account of the job, and
// nothing else: each key is read and judged again first, and left alone where anything has
// changed. It fails like Run, and its result must be closed like Run's. It is Partial where
// time ran out: the same plan can be applied again, keys that are done are left alone.
func Apply(ctx context.Context, job Job, planned iter.Seq2[Finding, error]) (Result, error) {
	result, err := job.begin()
	if err != nil {
		return result, err
	}
	failed := &FailedError{}
	for _, account := range job.chosen() {
		r := AccountResult{Account: account.Name, Provider: account.Provider, Counts: newCounts()}
		if err := job.applied(ctx, account, planned, &result, &r); err != nil {
			err = fmt.Errorf("account %q: %w", account.Name, err)
			r.Problem = MaskIn(err.Error(), account.EngineKeys...)
			job.Log.ErrorContext(ctx, "account given up", "account", account.Name, "problem", r.Problem)
			failed.Accounts, failed.Err = []string{account.Name}, err
		}
		failed.Keys += r.Counts.Failed
		result.Accounts = append(result.Accounts, r)
	}
	err = job.finish(&result, failed)
	return result, err
}

func (job Job) applied(ctx context.Context, account Account, planned iter.Seq2[Finding, error], result *Result, r *AccountResult) (err error) {
	state, err := job.load(ctx, account.Name)
	if err != nil {
		return err
	}
	cloud, release, err := job.Connect(ctx, account)
	if err != nil {
		return fmt.Errorf("opening it: %w", err)
	}
	defer release()
	w, err := job.walk(ctx, account, cloud, state)
	if err != nil {
		return err
	}
	if w.plan, err = newSpool(job.Dir); err != nil {
		return err
	}
	defer func() { _ = w.plan.close() }() // it has no name, and nobody reads it again
	defer func() { r.Counts = w.counts }()
	for f, err := range planned {
		if err != nil {
			return err
		}
		if f.Account != account.Name || !f.Action.Changes() {
			return fmt.Errorf("the plan names access key %s of account %q with the action %q, which is none of this account's plan", Mask(f.AccessKey), f.Account, f.Action)
		}
		if err := w.plan.add(f); err != nil {
			return err
		}
	}
	w.until = job.timetable(ctx, 1).change
	finished, problem := w.apply(ctx, result.done)
	r.Partial = !finished
	next := state
	next.Inactive = maps.Clone(state.Inactive)
	if next.Inactive == nil {
		next.Inactive = map[string]time.Time{}
	}
	maps.Copy(next.Inactive, w.inactive)
	if err := job.save(ctx, account.Name, next); problem == nil {
		problem = err
	}
	return problem
}
