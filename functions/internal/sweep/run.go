// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Result is what a run found and did. Close it when the report is written.
type Result struct {
	Mode     string
	ModeWhy  string
	Started  time.Time
	Took     time.Duration
	Accounts []AccountResult

	done *spool // what was planned, with its outcome
	kept *spool
}

// AccountResult is one account's part of a Result.
type AccountResult struct {
	Account  string
	Provider string
	Counts   Counts
	Tripped  string // which cap stopped the plan, and by how much; empty: none
	Partial  bool   // time ran out: the next run goes on at Cursor
	Cursor   string // the user after which the next run begins; empty: the first
	Problem  string // why the account was given up; empty: it was not
}

// FailedError tells that a run did not do all that it should have.
type FailedError struct {
	Accounts []string // that were given up
	Keys     int      // that could not be changed
	Err      error
}

// Error names the accounts, and no key.
func (e *FailedError) Error() string {
	if len(e.Accounts) == 0 {
		return fmt.Sprintf("the sweep could not change %d keys: the report says why", e.Keys)
	}
	return MaskIn(fmt.Sprintf("the sweep gave up account %s: %v", strings.Join(e.Accounts, ", "), e.Err))
}

// Unwrap returns what made it give the accounts up.
func (e *FailedError) Unwrap() error { return e.Err }

// begin opens the result of a run, and gives the job a log where it has none.
func (j *Job) begin() (result Result, err error) {
	if j.Log == nil {
		j.Log = slog.New(slog.DiscardHandler)
	}
	result = Result{Mode: j.Settings.Mode, ModeWhy: j.Settings.ModeWhy, Started: time.Now()}
	if result.done, err = newSpool(j.Dir); err != nil {
		return result, err
	}
	result.kept, err = newSpool(j.Dir)
	return result, err
}

// Run sweeps every account of the job, one after the other. It fails with a *FailedError
// where an account was given up or a key could not be changed; the result tells all that
// was done even then, and must be closed in any case.
func Run(ctx context.Context, job Job) (Result, error) {
	result, err := job.begin()
	if err != nil {
		return result, err
	}
	failed := &FailedError{}
	accounts := job.chosen()
	for i, account := range accounts {
		r, err := job.account(ctx, account, &result, len(accounts)-i)
		if err != nil {
			failed.Accounts = append(failed.Accounts, account.Name)
			failed.Err = errors.Join(failed.Err, err)
		}
		failed.Keys += r.Counts.Failed
		result.Accounts = append(result.Accounts, r)
	}
	err = job.finish(&result, failed)
	return result, err
}

// finish ends a run, and returns its failure or nothing.
func (job Job) finish(result *Result, failed *FailedError) error {
	result.Took = time.Since(result.Started)
	if missing := job.missing(); len(missing) > 0 {
		failed.Accounts = append(failed.Accounts, missing...)
		failed.Err = errors.Join(failed.Err, errors.New("ACCOUNTS names accounts that do not exist"))
	}
	if len(failed.Accounts) > 0 || failed.Keys > 0 {
		return failed
	}
	return nil
}

// chosen are the accounts that the settings ask for.
func (job Job) chosen() []Account {
	if len(job.Settings.Accounts) == 0 {
		return job.Accounts
	}
	return slices.DeleteFunc(slices.Clone(job.Accounts), func(a Account) bool {
		return !slices.Contains(job.Settings.Accounts, a.Name)
	})
}

// missing are names that no account has. A sweep of nothing must not pass for one that had
// nothing to do.
func (job Job) missing() []string {
	return slices.DeleteFunc(slices.Clone(job.Settings.Accounts), func(name string) bool {
		return slices.ContainsFunc(job.Accounts, func(a Account) bool { return a.Name == name })
	})
}

// account sweeps one account. left is how many accounts share the time that is left.
func (job Job) account(ctx context.Context, account Account, result *Result, left int) (AccountResult, error) {
	r := AccountResult{Account: account.Name, Provider: account.Provider, Counts: newCounts(), Cursor: job.Resume[account.Name]}
	err := job.sweep(ctx, account, result, &r, job.timetable(ctx, left))
	if err != nil {
		err = fmt.Errorf("account %q: %w", account.Name, err)
		r.Problem = MaskIn(err.Error(), account.EngineKeys...)
		job.Log.ErrorContext(ctx, "account given up", "account", account.Name, "problem", r.Problem)
	}
	return r, err
}

// timetable says until when an account may be planned, and until when a change may begin.
type timetable struct{ plan, change time.Time }

// timetable shares what is left until the deadline minus the reserve. An enforcing run
// keeps half of it for the changes.
func (job Job) timetable(ctx context.Context, left int) timetable {
	deadline, ok := ctx.Deadline()
	if !ok {
		return timetable{}
	}
	now := time.Now()
	share := max(0, deadline.Add(-job.Settings.Reserve).Sub(now)) / time.Duration(left)
	t := timetable{plan: now.Add(share), change: now.Add(share)}
	if job.Settings.Mode == settings.Enforce {
		t.plan = now.Add(share / 2)
	}
	return t
}

func (job Job) sweep(ctx context.Context, account Account, result *Result, r *AccountResult, times timetable) (err error) {
	state, err := job.load(ctx, account.Name)
	if err != nil {
		return err
	}
	if resume, ok := job.Resume[account.Name]; ok {
		state.Cursor = resume
	}
	r.Cursor = state.Cursor
	if !times.plan.IsZero() && !time.Now().Before(times.plan) {
		r.Partial = true
		return nil
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
	w.kept, w.until = result.kept, times.plan
	if w.plan, err = newSpool(job.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.plan.close()) }()

	problem := w.run(ctx, times.change)
	defer func() { r.Counts = w.counts }()
	r.Partial = w.partial
	outcome := OutcomePlanned
	switch r.Tripped = Tripped(job.Settings, w.counts.Planned, w.counts.Seen); {
	case problem != nil:
		outcome = OutcomeNotReached
	case r.Tripped != "":
		outcome = OutcomeRefused
	case job.Settings.Mode == settings.Enforce:
		outcome = ""
	}
	finished := problem == nil
	if outcome == "" {
		w.until = times.change
		finished, problem = w.apply(ctx, result.done)
		r.Partial = r.Partial || !finished
	} else if err := w.settle(result.done, outcome); err != nil {
		return err
	}
	next := w.next(finished)
	r.Cursor = next.Cursor
	if problem != nil {
		next.LedgerKeys = state.LedgerKeys // what was doubted is not what the next is measured by
	}
	return errors.Join(problem, job.save(ctx, account.Name, next))
}

// settle writes the plan down with an outcome that changed nothing.
func (w *walk) settle(done *spool, outcome Outcome) error {
	for f, err := range w.plan.read() {
		if err != nil {
			return err
		}
		f.Outcome = outcome
		w.counts.done(outcome)
		if err := done.add(f); err != nil {
			return err
		}
	}
	return nil
}

// walk learns what the rules need. Whatever of it cannot be read ends the account's sweep.
func (job Job) walk(ctx context.Context, account Account, cloud Cloud, state State) (*walk, error) {
	who, err := cloud.WhoAmI(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding out whose key signs: %w", err)
	}
	if who.Key.ID == "" {
		return nil, errors.New("the cloud does not say which key signs the calls, so it could not be kept from being removed")
	}
	if account.AccountID == "" {
		account.AccountID = who.AccountID
	}
	if who.AccountID != account.AccountID {
		return nil, fmt.Errorf("the key belongs to cloud account %s, and Vault's keys to %s: nothing was looked at", who.AccountID, account.AccountID)
	}
	policy, err := cloud.AccessPolicy(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the access policy: %w", err)
	}
	return &walk{
		job: job, cloud: cloud, identity: who.Identity, state: state,
		inactive: map[string]time.Time{}, counts: newCounts(), start: state.Cursor, reached: state.Cursor,
		rules: rules{
			settings: job.Settings, account: account, own: who.Key.ID, root: who.Identity.Kind == provider.IdentityRoot,
			expires: cloud.ExpiresKeys(), bounded: policy.MaxKeyLifetime > 0, hasLedger: job.Ledger != nil, hasStore: job.Store != nil,
			inactive: maps.Clone(state.Inactive), now: time.Now(),
		},
	}, nil
}

func (job Job) load(ctx context.Context, account string) (State, error) {
	if job.Store == nil {
		return State{}, nil
	}
	state, err := job.Store.Load(ctx, account)
	if err != nil {
		return State{}, fmt.Errorf("loading what earlier runs left: %w", err)
	}
	return state, nil
}

func (job Job) save(ctx context.Context, account string, state State) error {
	if job.Store == nil {
		return nil
	}
	if err := job.Store.Save(context.WithoutCancel(ctx), account, state); err != nil {
		return fmt.Errorf("saving what the next run needs: %w", err)
	}
	return nil
}

// Findings yields every key seen: what was planned first, then what is kept. It may be
// called again, until Close.
func (r Result) Findings() iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		for _, s := range []*spool{r.done, r.kept} {
			if s == nil {
				continue
			}
			for f, err := range s.read() {
				if !yield(f, err) {
					return
				}
			}
		}
	}
}

// Total adds up the accounts' counts.
func (r Result) Total() Counts {
	total := newCounts()
	for _, account := range r.Accounts {
		total.add(account.Counts)
	}
	return total
}

// Close removes the spooled findings.
func (r Result) Close() error { return errors.Join(r.done.close(), r.kept.close()) }
