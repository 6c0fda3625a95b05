// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package report shows what a run found and did: to machines as JSON, to people as one
// HTML page, to logs as one line.
package report

import (
	"io"
	"log/slog"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// About describes the run to a report's readers.
type About struct {
	Function string
	Version  string
	RunID    string // the scheduled time, where there is one
	Digest   string // of the settings
}

// SweepJSON streams a sweep as JSON.
func SweepJSON(w io.Writer, about About, result sweep.Result) error { return nil }

// SweepHTML writes a sweep as one page that needs nothing else.
func SweepHTML(w io.Writer, about About, result sweep.Result) error { return nil }

// SweepSummary are the attributes of the one line that a sweep logs.
func SweepSummary(about About, result sweep.Result) []slog.Attr { return nil }

// PolicyJSON writes a policy sync as JSON.
func PolicyJSON(w io.Writer, about About, result policysync.Result) error { return nil }

// PolicySummary are the attributes of the one line that a policy sync logs.
func PolicySummary(about About, result policysync.Result) []slog.Attr { return nil }
