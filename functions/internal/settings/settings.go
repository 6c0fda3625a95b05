// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package settings reads what a run is told by the environment and by its event, once, and
// refuses what does not fit together.
package settings

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// The modes of a run, and what may be done with keys that the engine did not make.
const (
	Report  = "report"
	Enforce = "enforce"
)

// How reports show the ids of access keys.
const (
	MaskedIDs = "masked"
	WholeIDs  = "whole"
)

// Run is what both functions are told.
type Run struct {
	Mode     string
	ModeWhy  string   // why the mode is not the one that was set; empty: it is
	Accounts []string // names; empty: all
	Workers  int      // users and keys of an account that are worked on at once
	Reserve  time.Duration
	// ReportIDs tells whether reports show access keys' ids as they are.
	ReportIDs string // MaskedIDs or WholeIDs
}

// chooseMode settles the mode. An event can only lower it: whoever may invoke a function is
// not always who may decide that it deletes. A local run reports, since sam local hands
// the developer's own credentials to the function.
func (r *Run) chooseMode(getenv func(string) string, event string) error {
	switch {
	case event != "" && event != Report && event != Enforce:
		return fmt.Errorf("the event's mode is %q: give %q, %q or nothing", event, Report, Enforce)
	case event == Enforce && r.Mode == Report:
		return fmt.Errorf("the event's mode is %q, but MODE is %q: an event can lower the mode, and only MODE itself can "+
			"raise it", event, Report)
	case event == Report && r.Mode == Enforce:
		r.Mode, r.ModeWhy = Report, "the event asks for it"
	}
	if r.Mode == Enforce && getenv("AWS_SAM_LOCAL") == "true" && getenv("ALLOW_LOCAL_ENFORCE") != "true" {
		r.Mode, r.ModeWhy = Report, "AWS_SAM_LOCAL is set and ALLOW_LOCAL_ENFORCE is not true"
	}
	return nil
}

// chooseAccounts narrows the accounts to those of the event.
func (r *Run) chooseAccounts(event []string) error {
	if err := checkAccounts(event); err != nil {
		return fmt.Errorf("the event's accounts: %w", err)
	}
	for _, name := range event {
		if len(r.Accounts) > 0 && !slices.Contains(r.Accounts, name) {
			return fmt.Errorf("the event names the account %q, which is not in ACCOUNTS: an event can narrow the accounts, and not widen "+
				"them", name)
		}
	}
	if len(event) > 0 {
		r.Accounts = event
	}
	return nil
}

// CheckTime refuses a reserve that leaves no time until the run's deadline.
func (r Run) CheckTime(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if left := time.Until(deadline); ok && left <= r.Reserve {
		return &SettingsRefusedError{fmt.Errorf("RESERVE (%s) leaves nothing of the function's time (%s): nothing would be "+
			"looked at", r.Reserve, left.Round(time.Second))}
	}
	return nil
}

// Digest names a set of settings in a few letters, so that two reports can be compared.
func Digest(settings any) (string, error) {
	text, err := json.Marshal(settings)
	if err != nil {
		return "", fmt.Errorf("writing the settings' digest: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6]), nil
}

// SettingsRefusedError tells that the settings, or the event, do not fit, and that nothing
// was done. It repeats the package's name since Lambda reports an error by the bare name of
// its type.
type SettingsRefusedError struct{ Err error }

// Error is a sentence for an operator.
func (e *SettingsRefusedError) Error() string { return e.Err.Error() }

// Unwrap returns what does not fit.
func (e *SettingsRefusedError) Unwrap() error { return e.Err }

// choose settles what an event may say about a run.
func (r *Run) choose(getenv func(string) string, mode string, accounts []string) error {
	if err := r.chooseMode(getenv, mode); err != nil {
		return err
	}
	return r.chooseAccounts(accounts)
}

// rows are the settings that both functions have.
func (r *Run) rows() []row {
	return []row{
		{
			"MODE", Report, "report or enforce", choice(&r.Mode, Report, Enforce),
			"report: say what would be done; enforce: do it. An event can lower it, never raise it. AWS_SAM_LOCAL forces report " +
				"unless ALLOW_LOCAL_ENFORCE is true",
		},
		{"ACCOUNTS", "", "names, between commas", accountNames(&r.Accounts), "accounts, as Vault names them; empty: all. An event can " +
			"narrow them"},
		{"WORKERS", "4", "1 to 32", number(&r.Workers, 1, 32), "users and keys of an account that are worked on at once"},
		{
			"REPORT_IDS", MaskedIDs, "masked or whole", choice(&r.ReportIDs, MaskedIDs, WholeIDs),
			"whole: the reports have access keys' ids as they are, for people who must act on them; logs and answers never do",
		},
		{"RESERVE", "10s", "1s or more", duration(&r.Reserve, time.Second), "time left for the report when the function's own time ends"},
	}
}
