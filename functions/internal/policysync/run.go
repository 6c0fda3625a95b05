// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package policysync brings an account's access policy and Vault's lease limits together:
// the strictest wins.
package policysync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Job is one run over some accounts.
type Job struct {
	Settings settings.PolicySync
	Accounts []fleet.Account
	Connect  fleet.Connect
	Ledger   fleet.Ledger       // nil: no Vault; then no key is shortened
	Vault    Vault              // nil: no Vault
	Store    fleet.Store[State] // nil: nothing is kept between runs
	Log      *slog.Logger       // nil: nothing is logged
}

// Vault is what the sync changes in Vault.
type Vault interface {
	// Refresh makes the engine read the account's policy now.
	Refresh(ctx context.Context, account string) error
	// MaxLease is the mount's longest lease.
	MaxLease(ctx context.Context) (time.Duration, error)
	// TuneMaxLease sets the mount's longest lease.
	TuneMaxLease(ctx context.Context, max time.Duration) error
}

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
	AccountID    string
	Region       string
	Before       time.Duration // the policy as read
	Wanted       time.Duration
	After        time.Duration // the policy that the run has set, or that an enforcing run would set
	InForce      time.Duration // the policy now
	Action       Action
	Reason       string
	Blockers     []Blocker // the first of them
	BlockerCount int
	Shortened    int    // keys brought forward, or that an enforcing run would
	Lives        Lives  // of the keys that were looked at
	Partial      bool   // time ran out: the next run goes on, and decides
	Problem      string // why the account was given up; empty: it was not
}

// Drift tells whether the policy in force allows keys a longer life than is wanted. A stricter one
// is no drift: it bounds the leases.
func (r AccountResult) Drift() bool {
	return r.Action != ActionReport && (r.InForce == 0 || r.InForce > r.Wanted)
}

// Undone tells whether the policy in force is not what an armed run leaves: in report mode, what it would change. Keys in the way of a
// stricter policy are told by their number.
func (r AccountResult) Undone() bool { return r.Action != ActionReport && r.InForce != r.After }

// Run syncs every account of the job. It fails with a *fleet.FailedError where an account was
// given up; the result tells all that was done even then. Keys that stand in the way are
// a result, and no failure.
func Run(ctx context.Context, job Job) (Result, error) {
	result := Result{Mode: job.Settings.Mode, ModeWhy: job.Settings.ModeWhy, Started: time.Now()}
	run := fleet.Run{Settings: job.Settings.Run, All: job.Accounts, Began: result.Started, Log: job.Log}
	var longest []time.Duration
	for account, share := range run.Accounts(ctx) {
		r := AccountResult{
			Account:   account.Name,
			Provider:  account.Provider,
			AccountID: account.AccountID,
			Region:    account.Region,
			Action:    ActionNone,
		}
		r.Problem = run.Failed(ctx, account, 0, job.account(ctx, account, share, &r))
		if r.Action != ActionReport && r.After > 0 {
			longest = append(longest, r.After-lifetime.KeyLife(0, account.ExpiryGrace))
		}
		result.Accounts = append(result.Accounts, r)
	}
	fleet.InOrder(job.Accounts, result.Accounts, func(r AccountResult) string { return r.Account })
	tuned, err := job.tune(ctx, longest)
	run.Failed(ctx, fleet.Account{Name: "mount"}, 0, err)
	result.Tuned, result.Took = tuned, time.Since(result.Started)
	return result, run.Err()
}

func (job Job) account(ctx context.Context, account fleet.Account, share fleet.Share, r *AccountResult) error {
	if share.Over() {
		r.Partial = true
		return fleet.ErrNoTime // an error, or nobody would look at it; later runs begin elsewhere in the list
	}
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
	var unknown error
	if r.Wanted, unknown = wanted(job.Settings, account); unknown != nil && job.Settings.Mode == settings.Enforce {
		return unknown
	}
	asked, cancel := share.Bound(ctx)
	who, err := cloud.WhoAmI(asked)
	cancel()
	if err != nil {
		return fmt.Errorf("finding out whose key signs: %w", err)
	}
	if account.AccountID != "" && who.AccountID != account.AccountID {
		return fmt.Errorf("the key belongs to cloud account %s, and Vault's keys to %s: nothing was "+
			"looked at", who.AccountID, account.AccountID)
	}
	r.AccountID = who.AccountID
	policy, err := cloud.AccessPolicy(ctx)
	if err != nil {
		return fmt.Errorf("reading the access policy: %w", err)
	}
	r.Before, r.After, r.InForce = policy.MaxKeyLifetime, policy.MaxKeyLifetime, policy.MaxKeyLifetime
	if unknown != nil {
		r.Action, r.Reason = ActionReport, "nothing is compared: "+unknown.Error()
		return nil
	}
	s := &search{job: job, account: account, cloud: cloud, who: who, wanted: r.Wanted, now: time.Now()}
	if err := s.run(ctx, share); err != nil {
		return err
	}
	r.Blockers, r.BlockerCount, r.Shortened, r.Lives = s.state.Shown, s.state.Blockers, s.state.Shortened, s.state.Lives
	if r.Partial = s.walk.Partial; r.Partial {
		r.Reason = "time ran out before all users were looked at: the next run goes on"
		return errors.Join(s.problems...)
	}
	var value time.Duration
	r.Action, value, r.Reason = decide(job.Settings, policy.MaxKeyLifetime, r.Wanted, s.remains())
	if who.Identity.Kind == provider.IdentityUser || s.state.OfUser { // the client does not ask all users of a large account
		r.Reason += "; the keys of the account itself cannot be listed with a user's key, and may stand in the way as well"
	}
	if job.Settings.Mode != settings.Enforce {
		r.After = value
		return errors.Join(s.problems...)
	}
	err = job.write(ctx, account.Name, writer, policy, value, r)
	return errors.Join(append(s.problems, err)...)
}

// write sets the policy where that is decided, and has the engine read what is in force.
func (job Job) write(
	ctx context.Context, account string, cloud provider.PolicyWriter, policy provider.AccessPolicy, value time.Duration, r *AccountResult,
) error {
	if r.Action.Changes() {
		if err := set(ctx, cloud, policy, value, r); err != nil {
			return err
		}
		if r.Action == ActionBlocked {
			return nil
		}
	}
	if job.Vault == nil {
		return nil
	}
	if err := job.Vault.Refresh(ctx, account); err != nil {
		return fmt.Errorf("making the secrets engine read the access policy: %w", err)
	}
	return nil
}

// errChangedMeanwhile tells that what was decided is not of the policy that is in force.
var errChangedMeanwhile = errors.New(
	"the access policy was changed while the keys were looked at: nothing is set, the next run decides again")

// set sets the policy, and believes it only when it reads it again. What the sync does not decide
// is sent back as it was read: left out, trusted sessions would be switched off. To look at the
// keys takes minutes, so the policy is read once more first: sent back as it was before them, it
// would undo what somebody has hardened meanwhile.
func set(ctx context.Context, cloud provider.PolicyWriter, policy provider.AccessPolicy, value time.Duration, r *AccountResult) error {
	reader := cloud.(provider.PolicyReader)
	now, err := reader.AccessPolicy(ctx)
	if err != nil {
		return fmt.Errorf("reading the access policy before it is set: %w", err)
	}
	if now != policy {
		r.Action, r.After, r.InForce = ActionNone, now.MaxKeyLifetime, now.MaxKeyLifetime
		r.Reason = fmt.Sprintf("when the run began the policy was: %s; now it is: %s", describe(policy), describe(now))
		return errChangedMeanwhile
	}
	policy.MaxKeyLifetime = value
	err = cloud.SetAccessPolicy(ctx, policy)
	if provider.KindOf(err) == provider.KindPolicyViolated {
		r.Action, r.Reason = ActionBlocked, fleet.MaskIn("the cloud refuses the policy for keys that were not seen: "+err.Error())
		return nil
	}
	if err != nil {
		return fmt.Errorf("setting the access policy: %w", err)
	}
	if now, err = reader.AccessPolicy(ctx); err != nil {
		return fmt.Errorf("reading the access policy again: %w", err)
	}
	r.After, r.InForce = now.MaxKeyLifetime, now.MaxKeyLifetime
	if now != policy {
		return fmt.Errorf("the access policy reads %+v after it was set to %+v: somebody else may be changing it", now, policy)
	}
	return nil
}

// describe says a policy to people.
func describe(policy provider.AccessPolicy) string {
	if policy.MaxKeyLifetime == 0 {
		return "no limit for access keys, other fields " + policy.Rest
	}
	return fmt.Sprintf("access keys limited to %s, other fields %s", short(policy.MaxKeyLifetime), policy.Rest)
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
	if lease < lifetime.MinMaxLease {
		return 0, fmt.Errorf("the strictest policy leaves leases of %s, and the secrets engine gives out none below %s: raise the "+
			"policy", lease, lifetime.MinMaxLease)
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
