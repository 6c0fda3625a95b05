// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// PolicyAnswer is what a policy sync answers to its caller.
type PolicyAnswer struct {
	Mode     string                 `json:"mode"`
	ModeWhy  string                 `json:"mode_why,omitempty"`
	Accounts []report.PolicyAccount `json:"accounts"`
	Tuned    int64                  `json:"tuned_seconds,omitempty"`
	Reports  []string               `json:"reports,omitempty"`
}

// PolicySync carries out one run of sync-policy.
func PolicySync(ctx context.Context, s Env, event settings.PolicySyncEvent) (answer *PolicyAnswer, err error) {
	defer func() { err = named(err) }()
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
	places, keepErr := s.keepPolicy(ctx, about, config, result)
	s.Log.LogAttrs(ctx, slog.LevelInfo, "policy sync done", report.PolicySummary(about, result)...)
	s.lost(ctx, metrics.PolicySync(s.Metrics, s.Function, result))
	return &PolicyAnswer{
		Mode: result.Mode, ModeWhy: result.ModeWhy, Accounts: report.PolicyAccounts(result, false, false),
		Tuned: int64(result.Tuned.Seconds()), Reports: places,
	}, cmp.Or(runErr, keepErr)
}

// keepPolicy keeps the report of a policy sync, after a cancelled run too, and returns where it stands.
func (s Env) keepPolicy(
	ctx context.Context,
	about report.About,
	config settings.PolicySync,
	result policysync.Result,
) (places []string, err error) {
	if !s.remembers() {
		return nil, nil
	}
	page := report.Policy{About: about, Result: result, WholeIDs: config.ReportIDs == settings.WholeIDs}
	for _, f := range []file{{".json", "application/json", page.JSON}, {".html", "text/html; charset=utf-8", page.HTML}} {
		place, err := s.Archive.Put(context.WithoutCancel(ctx), s.folder(result.Started)+"index"+f.suffix, f.contentType, f.write)
		if err != nil {
			return places, &ReportLostError{err}
		}
		places = append(places, place)
	}
	return places, nil
}

// policySync takes what it needs from Vault and gives it back.
func (s Env) policySync(ctx context.Context, config settings.PolicySync) (policysync.Result, error) {
	if err := config.CheckTime(ctx); err != nil {
		return policysync.Result{}, err
	}
	access, err := s.open(ctx, config.Accounts)
	if err != nil {
		return policysync.Result{}, err
	}
	defer access.Close(ctx)
	if err := access.FindLongestKeys(ctx); err != nil {
		return policysync.Result{}, err
	}
	job := policysync.Job{
		Settings: config, Accounts: access.Accounts, Connect: access.Connect, Store: storeOf[policysync.State](s,
			"state/sync-policy/"), Log: s.Log,
	}
	if session := access.Vault(); session != nil {
		job.Ledger, job.Vault = session, session
	}
	return policysync.Run(ctx, job)
}
