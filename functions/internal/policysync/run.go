// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// leastLease is the shortest lease that the engine gives out.
const leastLease = 30 * time.Second

// Result is what a run found and did.
type Result struct {
	Mode     string
	ModeWhy  string
	Started  time.Time
	Took     time.Duration
	Accounts []AccountResult
	// Tuned is the mount's new longest lease, or what an enforcing run would make it; zero:
	// it stays.
	Tuned time.Duration
}

// AccountResult is one account's part of a Result. Policies are 0 for unlimited.
type AccountResult struct {
	Account      string
	Provider     string
	Before       time.Duration // the policy as read
	Wanted       time.Duration
	After        time.Duration // the policy now in force, or that an enforcing run would set
	Action       Action
	Reason       string
	Blockers     []Blocker // the first of them
	BlockerCount int
	Shortened    int    // keys brought forward, or that an enforcing run would
	Problem      string // why the account was given up; empty: it was not
}

// Drift tells whether the account's policy is not what is wanted.
func (r AccountResult) Drift() bool { return r.Action != ActionReport && r.After != r.Wanted }

// FailedError tells that a run did not do all that it should have.
type FailedError struct {
	Accounts []string // that were given up
	Err      error
}

// Error names the accounts, and no key.
func (e *FailedError) Error() string {
	return sweep.MaskIn(fmt.Sprintf("the policy sync failed for %s: %v", strings.Join(e.Accounts, ", "), e.Err))
}

// Unwrap returns what failed.
func (e *FailedError) Unwrap() error { return e.Err }

// Run syncs every account of the job. It fails with a *FailedError where an account was
// given up; the result tells all that was done even then. Keys that stand in the way are
// a result, and no failure.
func Run(ctx context.Context, job Job) (Result, error) {
	if job.Log == nil {
		job.Log = slog.New(slog.DiscardHandler)
	}
	result := Result{Mode: job.Settings.Mode, ModeWhy: job.Settings.ModeWhy, Started: time.Now()}
	failed := &FailedError{}
	fail := func(name string, err error) {
		failed.Accounts = append(failed.Accounts, name)
		failed.Err = errors.Join(failed.Err, err)
		job.Log.ErrorContext(ctx, "policy sync failed", "account", name, "problem", sweep.MaskIn(err.Error()))
	}
	work, cancel := beforeDeadline(ctx, job.Settings.Reserve)
	defer cancel()

	for _, name := range job.missing() {
		fail(name, fmt.Errorf("ACCOUNTS names %q, and there is no such account", name))
	}
	var longest []time.Duration
	for _, account := range job.Accounts {
		if len(job.Settings.Accounts) > 0 && !slices.Contains(job.Settings.Accounts, account.Name) {
			continue
		}
		r := AccountResult{Account: account.Name, Provider: account.Provider, Action: ActionNone}
		if err := job.account(work, account, &r); err != nil {
			err = fmt.Errorf("account %q: %w", account.Name, err)
			r.Problem = sweep.MaskIn(err.Error(), account.EngineKeys...)
			fail(account.Name, err)
		}
		if r.Action != ActionReport && r.After > 0 {
			longest = append(longest, r.After-account.Slack)
		}
		result.Accounts = append(result.Accounts, r)
	}
	var err error
	if result.Tuned, err = job.tune(work, longest); err != nil {
		fail("mount", err)
	}
	result.Took = time.Since(result.Started)
	if failed.Err != nil {
		return result, failed
	}
	return result, nil
}

// beforeDeadline leaves the reserve to the report.
func beforeDeadline(ctx context.Context, reserve time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}

func (job Job) missing() []string {
	return slices.DeleteFunc(slices.Clone(job.Settings.Accounts), func(name string) bool {
		return slices.ContainsFunc(job.Accounts, func(a Account) bool { return a.Name == name })
	})
}

func (job Job) account(ctx context.Context, account Account, r *AccountResult) error {
	cloud, release, err := job.Connect(ctx, account)
	if err != nil {
		return fmt.Errorf("opening it: %w", err)
	}
	defer release()
	writer, ok := cloud.(provider.PolicyWriter)
	if !ok || !cloud.ExpiresKeys() {
		r.Action, r.Reason = ActionReport, "this cloud has no access policy and ends no key by itself: the account's max_ttl bounds the leases"
		return nil
	}
	if r.Wanted, err = wanted(job.Settings, account); err != nil {
		return err
	}
	s := &search{job: job, account: account, cloud: cloud, wanted: r.Wanted, now: time.Now()}
	if s.who, err = cloud.WhoAmI(ctx); err != nil {
		return fmt.Errorf("finding out whose key signs: %w", err)
	}
	if account.AccountID != "" && s.who.AccountID != account.AccountID {
		return fmt.Errorf("the key belongs to cloud account %s, and Vault's keys to %s: nothing was looked at", s.who.AccountID, account.AccountID)
	}
	policy, err := cloud.AccessPolicy(ctx)
	if err != nil {
		return fmt.Errorf("reading the access policy: %w", err)
	}
	r.Before, r.After = policy.MaxKeyLifetime, policy.MaxKeyLifetime
	if err := s.run(ctx); err != nil {
		return err
	}
	r.Blockers, r.BlockerCount, r.Shortened = s.shown, s.blockers, s.short
	var value time.Duration
	r.Action, value, r.Reason = decide(job.Settings, policy.MaxKeyLifetime, r.Wanted, s.remains)
	if s.who.Identity.Kind == provider.IdentityUser {
		r.Reason += "; the keys of the account itself cannot be listed with a user's key, and may stand in the way as well"
	}
	if job.Settings.Mode != settings.Enforce {
		r.After = value
		return errors.Join(s.problems...)
	}
	err = job.write(ctx, account, writer, cloud, policy, value, r)
	return errors.Join(append(s.problems, err)...)
}

// write sets the policy, and believes it only when it reads it again. What the sync does not
// decide is sent back as it was read: left out, trusted sessions would be switched off.
func (job Job) write(
	ctx context.Context, account Account, writer provider.PolicyWriter, reader provider.PolicyReader,
	policy provider.AccessPolicy, value time.Duration, r *AccountResult,
) error {
	if r.Action.Changes() {
		policy.MaxKeyLifetime = value
		err := writer.SetAccessPolicy(ctx, policy)
		if provider.KindOf(err) == provider.KindPolicyViolated {
			r.Action, r.Reason = ActionBlocked, sweep.MaskIn("the cloud refuses the policy for keys that were not seen: "+err.Error())
			return nil
		}
		if err != nil {
			return fmt.Errorf("setting the access policy: %w", err)
		}
		now, err := reader.AccessPolicy(ctx)
		if err != nil {
			return fmt.Errorf("reading the access policy again: %w", err)
		}
		r.After = now.MaxKeyLifetime
		if now != policy {
			return fmt.Errorf("the access policy reads %+v after it was set to %+v: somebody else may be changing it", now, policy)
		}
	}
	if job.Vault == nil {
		return nil
	}
	if err := job.Vault.Refresh(ctx, account.Name); err != nil {
		return fmt.Errorf("making the secrets engine read the access policy: %w", err)
	}
	return nil
}

// tune lowers the mount's longest lease to what the strictest account allows, so that
// Vault promises no more than it can keep. It raises nothing.
func (job Job) tune(ctx context.Context, longest []time.Duration) (time.Duration, error) {
	if !job.Settings.TuneMaxLease || job.Vault == nil || len(longest) == 0 {
		return 0, nil
	}
	now, err := job.Vault.MaxLease(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the mount's longest lease: %w", err)
	}
	lease := slices.Min(longest)
	if lease < leastLease {
		return 0, fmt.Errorf("the strictest policy leaves leases of %s, and the secrets engine gives out none below %s: raise the policy", lease, leastLease)
	}
	if lease >= now {
		return 0, nil
	}
	if job.Settings.Mode != settings.Enforce {
		return lease, nil
	}
	if err := job.Vault.TuneMaxLease(ctx, lease); err != nil {
		return 0, fmt.Errorf("lowering the mount's longest lease to %s: %w", lease, err)
	}
	return lease, nil
}
