// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package report shows what a run found and did: to machines as JSON, to people as one
// HTML page, to logs as one line. Access keys' ids are masked in all of them, since reports
// leave the account.
package report

import (
	"log/slog"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// SchemaVersion is raised when a reader of the JSON would misread a new one.
const SchemaVersion = 1

// About describes the run to a report's readers.
type About struct {
	Function string `json:"function"`
	Version  string `json:"version"`
	RunID    string `json:"run_id"`          // the scheduled time, where there is one
	Digest   string `json:"settings_digest"` // see settings.Digest
}

// SweepSummary are the attributes of the one line that a sweep logs.
func SweepSummary(about About, result sweep.Result) []slog.Attr {
	total := result.Total()
	var failed, tripped, partial int
	for _, account := range result.Accounts {
		failed += count(account.Problem != "")
		tripped += count(account.Tripped != "")
		partial += count(account.Partial)
	}
	return []slog.Attr{
		slog.String("function", about.Function), slog.String("run_id", about.RunID), slog.String("mode", result.Mode),
		slog.Int("accounts", len(result.Accounts)), slog.Int("accounts_failed", failed),
		slog.Int("accounts_tripped", tripped), slog.Int("accounts_partial", partial),
		slog.Int("seen", total.Seen), slog.Int("protected", total.Protected), slog.Int("flagged", total.Flagged),
		slog.Int("waiting", total.Waiting), slog.Int("planned", total.Planned),
		slog.Int("left_out", total.LeftOut), slog.Int("notified", total.Notified), slog.Int("not_notified", total.NotNotified),
		slog.Int("unread_users", total.UnreadUsers), slog.Int("deactivated", total.Deactivated),
		slog.Int("deleted", total.Deleted), slog.Int("undeletable", total.Undeletable), slog.Int("drifted", total.Drifted),
		slog.Int("failed", total.Failed), slog.Int("not_reached", total.NotReached), slog.Duration("took", result.Took),
	}
}

// PolicySummary are the attributes of the one line that a policy sync logs.
func PolicySummary(about About, result policysync.Result) []slog.Attr {
	var failed, drifting, blockers int
	for _, account := range result.Accounts {
		failed += count(account.Problem != "")
		drifting += count(account.Drift())
		blockers += account.BlockerCount
	}
	return []slog.Attr{
		slog.String("function", about.Function), slog.String("run_id", about.RunID), slog.String("mode", result.Mode),
		slog.Int("accounts", len(result.Accounts)), slog.Int("accounts_failed", failed), slog.Int("accounts_drifting", drifting),
		slog.Int("blockers", blockers), slog.Duration("tuned", result.Tuned), slog.Duration("took", result.Took),
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
