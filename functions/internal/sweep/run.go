// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package sweep finds the access keys that should no longer exist, plans what to do with
// each, and does exactly that. Planning reads and never writes; a plan is stored before
// anything is changed, so that what a report shows is what an enforcing run does.
package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Job is one run over some accounts.
type Job struct {
	Settings settings.Sweep
	Accounts []fleet.Account
	Connect  fleet.Connect

	// Ledger is what Vault knows of its keys. Nil: there is no Vault, and no key is
	// called an orphan.
	Ledger fleet.Ledger

	// EngineKeys are access keys that Vault signs with on other accounts than those of the job.
	EngineKeys []string

	// Store keeps what the next run must know. Nil: nothing is kept.
	Store fleet.Store[State]

	// Resume overrides, by account, the cursor that the Store has.
	Resume map[string]string

	// Planned is what an earlier run in report mode planned for the one account of the job: it is
	// changed, and nothing else. Each key is read and decided on again first, and left alone where
	// anything has changed. Nil: the job makes a plan of its own.
	Planned iter.Seq2[Finding, error]

	// Notify tells an owner of his keys that are to be switched off; nil: nobody is told.
	Notify func(ctx context.Context, m Message) error

	// Done is told of each account when it is over, with all of its keys. Nil: nobody is told.
	Done func(ctx context.Context, account AccountResult, keys iter.Seq2[Finding, error])

	// Dir is where plans are spooled; empty: the system's temporary directory.
	Dir string
	Log *slog.Logger // nil: nothing is logged
}

// Message is what the owner of some keys is told. It marshals to JSON: docs/functions.md has it.
type Message struct {
	Account  string       `json:"account"`
	Provider string       `json:"provider"`
	User     string       `json:"user"` // empty: the account itself
	Keys     []MessageKey `json:"keys"`
}

// MessageKey is one key of a Message.
type MessageKey struct {
	AccessKey       string    `json:"access_key"` // masked
	Created         time.Time `json:"created,omitzero"`
	Class           Class     `json:"class"`
	Reason          string    `json:"reason"`
	SwitchedOffFrom time.Time `json:"switched_off_from"`
}

// Usage is implemented by clouds that tell when a key was last used. It can only save a
// key: silence condemns none, since no cloud sees every use.
type Usage interface {
	// LastUsed is the zero time where no use is known.
	LastUsed(ctx context.Context, user, accessKey string) (time.Time, error)
}

// State is what a run must know of those before it. It marshals to JSON.
type State struct {
	// Cursor is the user after which the next run begins; empty: the first.
	Cursor string `json:"cursor,omitempty"`
	// LedgerKeys is how many of a whole account's keys the ledger knew.
	LedgerKeys int `json:"ledger_keys,omitempty"`
	// Progress is that of an account that takes several parts, after each but the last. It stays until the account is begun
	// anew, since the last part may be tried again.
	Progress []Progress `json:"parts,omitempty"`
	// Inactive tells since when each key's quarantine runs: since it was first seen switched off. A key
	// that is switched on again stays in it as long as it is to be removed.
	Inactive map[string]time.Time `json:"inactive,omitempty"`
	// Refused tells how often the delete of each key was refused.
	Refused map[string]Refusal `json:"refused,omitempty"`
	// Notified tells when the owner of each key was told that it will be switched off.
	Notified map[string]time.Time `json:"notified,omitempty"`
	// Drifted tells how many nights in a row each key had changed between plan and change, and DriftedAt when that was counted last.
	Drifted   map[string]int       `json:"drifted,omitempty"`
	DriftedAt map[string]time.Time `json:"drifted_at,omitempty"`
}

// Refusal is a delete that a cloud has refused, once or more.
type Refusal struct {
	Times int       `json:"times"`
	Last  time.Time `json:"last"`
}

// Run sweeps every account of the job, one after the other. It fails with a *fleet.FailedError
// where an account was given up or a key could not be changed; the result tells all that
// was done even then, and must be closed in any case.
func Run(ctx context.Context, job Job) (Result, error) {
	result := Result{Mode: job.Settings.Mode, ModeWhy: job.Settings.ModeWhy, Started: time.Now(), OwnersTold: job.Settings.Notify != ""}
	var err, keptErr error
	result.done, err = newSpool(job.Dir)
	result.kept, keptErr = newSpool(job.Dir)
	if err = cmp.Or(err, keptErr); err != nil {
		return result, err
	}
	run := fleet.Run{Settings: job.Settings.Run, All: job.Accounts, Began: result.Started, Log: job.Log}
	protecting := map[string]bool{}
	for account, share := range run.Accounts(ctx) {
		r := AccountResult{
			Account: account.Name, Provider: account.Provider, AccountID: account.AccountID, Region: account.Region,
			Mount: account.Mount, Instance: account.Instance,
			Counts: newCounts(), protecting: protecting,
		}
		err := job.account(ctx, account, share, &result, &r)
		r.Problem = run.Failed(ctx, account, r.Counts.Failed, err)
		result.Accounts = append(result.Accounts, r)
		if job.Done != nil {
			job.Done(ctx, r, result.Of(r.Account))
		}
	}
	fleet.InOrder(job.Accounts, result.Accounts, func(r AccountResult) string { return r.Account })
	result.Unmatched = job.unmatched(result, protecting)
	result.Took = time.Since(result.Started)
	return result, run.Err()
}

// unmatched are the patterns that protect nothing, where all accounts were looked at whole.
func (job Job) unmatched(result Result, protecting map[string]bool) (patterns []string) {
	for _, r := range result.Accounts {
		if r.Partial || r.Problem != "" || r.Counts.UnreadUsers > 0 || job.Planned != nil || job.Resume[r.Account] != "" {
			return nil
		}
	}
	for _, keep := range []struct {
		setting  string
		patterns []string
	}{{"KEEP_USERS ", job.Settings.KeepUsers}, {"KEEP_KEYS ", job.Settings.KeepKeys}} {
		for _, pattern := range keep.patterns {
			if !protecting[keep.setting+pattern] {
				patterns = append(patterns, keep.setting+pattern)
			}
		}
	}
	return patterns
}

// account plans for one account or takes its plan, and then changes what the caps and the mode
// allow.
func (job Job) account(ctx context.Context, account fleet.Account, share fleet.Share, result *Result, r *AccountResult) (err error) {
	state, err := job.load(ctx, account.Name)
	if err != nil {
		return err
	}
	if r.Cursor = state.Cursor; job.Planned == nil && share.Over() {
		r.Partial = true
		return nil
	}
	cloud, release, err := job.Connect(ctx, account)
	if err != nil {
		return fmt.Errorf("opening it: %w", err)
	}
	defer release()
	opening, cancel := share.Bound(ctx)
	defer cancel()
	if job.Planned != nil { // what becomes of a plan is recorded even where no time is left to change anything
		opening = ctx
	}
	w, err := job.walk(opening, account, cloud, state)
	if err != nil {
		return err
	}
	w.kept, w.protecting, w.users.Until = result.kept, r.protecting, share.Plan
	if w.plan, err = newSpool(job.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.plan.close()) }()
	r.AccountID = w.rules.account.AccountID
	defer func() { r.Counts, r.Unread, r.Unseen = w.counts, w.problems, w.unseen() }()

	var problem, doubt error
	if job.Planned != nil {
		err = w.take(job.Planned)
	} else {
		problem = w.run(ctx, share.Change)
		if w.failed = problem != nil; !w.failed {
			doubt, err = w.doubtful(ctx)
		}
		if err == nil {
			err = w.share(result.done, job.Dir, doubt != nil)
		}
		r.Tripped = Tripped(job.Settings, w.counts.Planned, w.counts.Seen)
	}
	if err != nil {
		return err
	}
	finished, left, err := w.carryOut(ctx, result.done, share, r.Tripped != "")
	if err != nil {
		return err
	}
	problem = errors.Join(problem, left)
	r.Partial = w.users.Partial || job.Settings.Mode == settings.Enforce && !finished && problem == nil
	next := w.next(finished)
	r.Cursor = next.Cursor
	if problem != nil || doubt != nil {
		next.LedgerKeys = state.LedgerKeys // what was doubted is not what the next is measured by
	}
	return errors.Join(problem, doubt, job.save(ctx, account.Name, next))
}

// unseen says which keys the walk cannot see.
func (w *walk) unseen() string {
	switch {
	case !w.rules.expires || w.identity.Kind == provider.IdentityRoot || w.identity.Kind == provider.IdentitySession:
		return ""
	case w.identity.Kind == provider.IdentityUser:
		return "the keys of the account itself (root) were not seen: this cloud does not list them to a user's key"
	case w.job.Planned != nil: // the run that planned has said it, and this one looks at no users
		return ""
	default:
		return "the keys of the account itself (root) were perhaps not seen: this cloud does not list them to a user's key, and whose key signs " +
			"shows when one run reads the keys of all users"
	}
}

// carryOut applies the plan where the walk, the caps and the mode allow that, and else writes down why not. finished tells
// whether all that was planned was dealt with, and problem why something was left.
func (w *walk) carryOut(ctx context.Context, done *spool, share fleet.Share, tripped bool) (finished bool, problem, err error) {
	switch {
	case w.failed:
		return false, nil, w.settle(done, OutcomeNotReached)
	case tripped:
		return true, nil, w.settle(done, OutcomeRefused)
	case w.job.Settings.Mode != settings.Enforce:
		return true, nil, w.settle(done, OutcomePlanned)
	}
	w.until = share.Change
	ctx, cancel := share.Bound(ctx)
	defer cancel()
	finished, problem = w.apply(ctx, done)
	return finished, problem, nil
}

// take loads a plan that was made before.
func (w *walk) take(planned iter.Seq2[Finding, error]) error {
	for f, err := range planned {
		if err != nil {
			return err
		}
		if f.Account != w.rules.account.Name || !f.Action.Changes() {
			return fmt.Errorf("the plan names access key %s of account %q with the action %q, which is none of this account's plan",
				fleet.Mask(f.AccessKey), f.Account, f.Action)
		}
		w.taken[f.AccessKey] = true
		w.remember(f)
		if err := w.plan.add(f); err != nil {
			return err
		}
	}
	return nil
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
func (job Job) walk(ctx context.Context, account fleet.Account, cloud fleet.Cloud, state State) (*walk, error) {
	who, err := cloud.WhoAmI(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding out whose key signs: %w", err)
	}
	if who.Key.ID == "" {
		return nil, errors.New("the cloud does not say which key signs the calls, so it could not be kept from being removed")
	}
	if account.AccountID = cmp.Or(account.AccountID, who.AccountID); who.AccountID != account.AccountID {
		return nil, fmt.Errorf("the key belongs to cloud account %s, and Vault's keys to %s: nothing was "+
			"looked at", who.AccountID, account.AccountID)
	}
	policy, err := cloud.AccessPolicy(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the access policy: %w", err)
	}
	return &walk{
		refused: map[string]Refusal{}, notified: map[string]time.Time{}, drifted: map[string]int{}, taken: map[string]bool{},
		driftedAt: map[string]time.Time{},
		job:       job, cloud: cloud, identity: who.Identity, state: state, inactive: map[string]time.Time{}, counts: newCounts(),
		users: fleet.Walk{
			Cloud: cloud, Ledger: job.Ledger, Account: account.Name, Workers: job.Settings.Workers, Start: state.Cursor, Reached: state.Cursor,
		},
		rules: rules{
			settings: job.Settings, account: account, own: who.Key.ID, root: who.Identity.Kind == provider.IdentityRoot,
			expires: cloud.ExpiresKeys(), bounded: policy.MaxKeyLifetime > 0, hasLedger: job.Ledger != nil, hasStore: job.Store != nil,
			inactive: maps.Clone(state.Inactive), refused: state.Refused, notified: state.Notified, drifted: state.Drifted,
			engines: job.engineKeys(), now: time.Now(),
		},
	}, nil
}

// engineKeys are the access keys that Vault signs with, on whatever account: several of them may be
// of one cloud account.
func (job Job) engineKeys() []string {
	keys := slices.Clone(job.EngineKeys)
	for _, account := range job.Accounts {
		keys = append(keys, account.EngineKeys...)
	}
	return keys
}

func (job Job) load(ctx context.Context, account string) (state State, err error) {
	if job.Store != nil {
		if state, err = job.Store.Load(ctx, account); err != nil {
			return State{}, fmt.Errorf("loading what earlier runs left: %w", err)
		}
	}
	if resume, ok := job.Resume[account]; ok {
		state.Cursor = resume
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
