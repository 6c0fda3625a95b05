// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/notify"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// SweepAnswer is what a sweep answers to its caller: the counts, and where the report is.
// Lambda takes 6 MB at most, so it names no key.
type SweepAnswer struct {
	Mode     string            `json:"mode"`
	ModeWhy  string            `json:"mode_why,omitempty"`
	Accounts []SweptAccount    `json:"accounts"`
	Resume   map[string]string `json:"resume,omitempty"` // for an event that goes on where time ran out
	Reports  []string          `json:"reports,omitempty"`

	// Sums are the accounts' with all that a report counts, of a run that one process has carried out.
	Sums []report.Sum `json:"-"`
}

// SweptAccount is one account of a SweepAnswer.
type SweptAccount struct {
	Account     string `json:"account"`
	Seen        int    `json:"seen"`
	Planned     int    `json:"planned"`
	Flagged     int    `json:"flagged"`
	Deactivated int    `json:"deactivated"`
	Deleted     int    `json:"deleted"`
	Undeletable int    `json:"undeletable"`
	Failed      int    `json:"failed"`
	Partial     bool   `json:"partial"`
	Tripped     string `json:"tripped,omitempty"`
	Problem     string `json:"problem,omitempty"`
}

// Sweep carries out one run of revoke-expired-keys.
func Sweep(ctx context.Context, s Env, event settings.SweepEvent) (*SweepAnswer, error) {
	config, err := settings.ReadSweep(s.Getenv, event)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	about, err := s.about(config)
	if err != nil {
		return nil, err
	}
	s.RunID = "" // which names the run in its pages, and no place in the archive: the role may read none below runs/
	p := s.newPages(about, config)
	result, runErr := s.sweep(ctx, config, event.Resume, nil, p)
	defer func() { _ = result.Close() }() // temporary files, of which there is one set a process at most
	if result.Started.IsZero() {          // there was no run
		p.failed(ctx, config.Accounts, runErr)
		return nil, runErr
	}
	if runErr != nil && len(result.Accounts) == 0 {
		p.problem = runErr.Error()
	}
	places, keepErr := p.rest(ctx, result)
	if runErr == nil || len(result.Accounts) > 0 { // one that came to no account is not done
		s.tell(ctx, about, result, result.Mode == settings.Enforce)
	}
	return answerSweep(result, places), cmp.Or(runErr, keepErr) // not joined: Lambda reports the type of the error
}

// tell logs the sum of a sweep and writes its metrics. armed tells whether its plan would be applied.
func (s Env) tell(ctx context.Context, about report.About, result sweep.Result, armed bool) {
	s.Log.LogAttrs(ctx, slog.LevelInfo, "sweep done", report.SweepSummary(about, result)...)
	s.lost(ctx, metrics.Sweep(s.Metrics, s.Function, result, armed))
}

// sweep takes what it needs from Vault and gives it back. After a SIGTERM that comes before the
// report: there may be no time for both. planned is nil where the run makes its own plan; p is
// told of each account as it is over; nil: nobody is.
func (s Env) sweep(
	ctx context.Context,
	config settings.Sweep,
	resume map[string]string,
	planned iter.Seq2[sweep.Finding, error],
	p *pages,
) (sweep.Result, error) {
	if err := config.CheckTime(ctx); err != nil {
		return sweep.Result{}, err
	}
	if config.Notify != "" && !s.remembers() {
		return sweep.Result{}, &settings.SettingsRefusedError{Err: errors.New("NOTIFY is set and REPORT_BUCKET is not: nothing would " +
			"remember who was told")}
	}
	access, err := s.open(ctx, config.Accounts)
	if err != nil {
		return sweep.Result{}, err
	}
	defer access.Close(ctx)
	engines, err := s.engineKeys(ctx, config, access.AllEngineKeys)
	if err != nil {
		return sweep.Result{}, err
	}
	job := sweep.Job{
		Settings: config, Accounts: access.Accounts, Connect: access.Connect, Store: storeOf[sweep.State](s, "state/"),
		Resume: resume, Planned: planned, Log: s.Log, EngineKeys: engines,
	}
	if config.Notify != "" {
		job.Notify = notify.To(config.Notify, s.Getenv)
	}
	if session := access.Vault(); session != nil {
		job.Ledger = session
	}
	if p != nil {
		p.begin(ctx, access.Accounts)
		job.Done = p.account
	}
	return sweep.Run(ctx, job)
}

func answerSweep(result sweep.Result, places []string) *SweepAnswer {
	answer := &SweepAnswer{Mode: result.Mode, ModeWhy: result.ModeWhy, Accounts: []SweptAccount{}, Reports: places}
	for _, a := range result.Accounts {
		answer.Accounts = append(answer.Accounts, SweptAccount{
			Account: a.Account, Seen: a.Counts.Seen, Planned: a.Counts.Planned, Flagged: a.Counts.Flagged,
			Deactivated: a.Counts.Deactivated, Deleted: a.Counts.Deleted,
			Undeletable: a.Counts.Undeletable, Failed: a.Counts.Failed, Partial: a.Partial, Tripped: a.Tripped, Problem: a.Problem,
		})
		if a.Partial && a.Cursor != "" {
			if answer.Resume == nil {
				answer.Resume = map[string]string{}
			}
			answer.Resume[a.Account] = a.Cursor
		}
	}
	return answer
}
