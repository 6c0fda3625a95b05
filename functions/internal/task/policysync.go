// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package task

import (
	"context"
	"io"
	"log/slog"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// PolicyAnswer is what a policy sync answers to its caller.
type PolicyAnswer struct {
	Mode     string         `json:"mode"`
	ModeWhy  string         `json:"mode_why,omitempty"`
	Accounts []SyncedPolicy `json:"accounts"`
	Tuned    int64          `json:"tuned_seconds,omitempty"`
	Reports  []string       `json:"reports,omitempty"`
}

// SyncedPolicy is one account of a PolicyAnswer. Policies are in seconds, 0 for unlimited.
type SyncedPolicy struct {
	Account   string `json:"account"`
	Before    int64  `json:"before_seconds"`
	Wanted    int64  `json:"wanted_seconds"`
	After     int64  `json:"after_seconds"`
	Action    string `json:"action"`
	Reason    string `json:"reason"`
	Blockers  int    `json:"blockers"`
	Shortened int    `json:"shortened"`
	Problem   string `json:"problem,omitempty"`
}

// PolicySync carries out one run of sync-policy.
func PolicySync(ctx context.Context, s Surroundings, event settings.PolicySyncEvent) (*PolicyAnswer, error) {
	config, err := settings.ReadPolicySync(s.Getenv, event)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	about, err := s.about(config)
	if err != nil {
		return nil, err
	}
	result, runErr := s.policySync(ctx, config)
	if result.Started.IsZero() {
		return nil, runErr // there was no run
	}
	places, keepErr := s.keep(ctx, result.Started,
		file{".json", "application/json", func(w io.Writer) error { return report.PolicyJSON(w, about, result) }})
	s.Log.LogAttrs(ctx, slog.LevelInfo, "policy sync done", report.PolicySummary(about, result)...)
	if err := metrics.PolicySync(s.Metrics, s.Function, result); err != nil {
		s.Log.WarnContext(ctx, "metrics lost", "problem", err.Error())
	}
	return answerPolicy(result, places), first(runErr, keepErr)
}

// policySync takes what it needs from Vault and gives it back.
func (s Surroundings) policySync(ctx context.Context, config settings.PolicySync) (policysync.Result, error) {
	access, err := s.open(ctx, config.Accounts)
	if err != nil {
		return policysync.Result{}, err
	}
	defer s.close(ctx, access)
	accounts, err := access.PolicyAccounts(ctx)
	if err != nil {
		return policysync.Result{}, err
	}
	return policysync.Run(ctx, policysync.Job{
		Settings: config, Accounts: accounts, Ledger: access.Ledger(), Vault: access.Vault(), Log: s.Log,
		Connect: func(ctx context.Context, account policysync.Account) (policysync.Cloud, func(), error) {
			return access.Connect(ctx, account.Name)
		},
	})
}

func answerPolicy(result policysync.Result, places []string) *PolicyAnswer {
	answer := &PolicyAnswer{
		Mode: result.Mode, ModeWhy: result.ModeWhy, Accounts: []SyncedPolicy{}, Tuned: int64(result.Tuned.Seconds()), Reports: places,
	}
	for _, a := range result.Accounts {
		answer.Accounts = append(answer.Accounts, SyncedPolicy{
			Account: a.Account, Before: int64(a.Before.Seconds()), Wanted: int64(a.Wanted.Seconds()), After: int64(a.After.Seconds()),
			Action: string(a.Action), Reason: a.Reason, Blockers: a.BlockerCount, Shortened: a.Shortened, Problem: a.Problem,
		})
	}
	return answer
}
