// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package run carries out one run of a function from its settings to its report, in Lambda
// and on a developer's machine alike.
package run

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/accounts"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// Env is where a run takes place.
type Env struct {
	Getenv   func(string) string
	Function string          // its name in metrics and reports
	Request  string          // id of the invocation
	RunID    string          // the scheduled time, where there is one
	Archive  archive.Archive // nil: no report is kept
	Passing  bool            // the archive ends with the process: nothing in it is for a later run
	Metrics  io.Writer
	Log      *slog.Logger

	file *report.Plan // of a plan that the run writes or applies; nil: none
}

// ReportLostError tells that a run was carried out, and its report could not be kept.
type ReportLostError struct{ err error }

// Error is a sentence for an operator.
func (e *ReportLostError) Error() string {
	return "the run was carried out, but its report is lost: " + e.err.Error()
}

// Unwrap returns why.
func (e *ReportLostError) Unwrap() error { return e.err }

// RunFailedError tells that a run failed for a reason that has no type of its own. Lambda would
// report it by the name of a type of Go's library, which alarms and retries cannot tell apart.
type RunFailedError struct{ err error }

// Error is a sentence for an operator.
func (e *RunFailedError) Error() string {
	return "the run failed: " + strings.Join(strings.Fields(e.err.Error()), " ")
}

// Unwrap returns why.
func (e *RunFailedError) Unwrap() error { return e.err }

// named gives an error a type whose name says something.
func named(err error) error {
	if err == nil {
		return nil
	}
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer && strings.HasSuffix(t.Elem().Name(), "Error") && t.Elem().Name() != "wrapError" {
		return err
	}
	return &RunFailedError{err}
}

func (s Env) about(digested any) (report.About, error) {
	digest, err := settings.Digest(digested)
	return report.About{Function: s.Function, Version: version(), RunID: s.RunID, Digest: digest}, err
}

// Set by release builds (-ldflags "-X .../functions/internal/run.released=v1.2.3").
var released string

// version is that of a release, or what the Go toolchain knows of the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	switch {
	case released != "":
		return released
	case !ok || info.Main.Version == "" || info.Main.Version == "(devel)":
		return "development"
	default:
		return info.Main.Version
	}
}

func (s Env) userAgent() string { return "cloudkeys-functions/" + version() }

func (s Env) open(ctx context.Context, wanted []string) (*accounts.Access, error) {
	return accounts.Open(ctx, s.Getenv, wanted, s.userAgent(), s.Log)
}

// remembers tells whether a later run finds what this one keeps.
func (s Env) remembers() bool { return s.Archive != nil && !s.Passing }

// storeOf is where a function's state is kept; nil: nowhere.
func storeOf[S any](s Env, folder string) fleet.Store[S] {
	if !s.remembers() {
		return nil
	}
	return archive.State[S]{Archive: s.Archive, Folder: folder}
}

// lost says that metrics are; it is no failure of the run.
func (s Env) lost(ctx context.Context, err error) {
	if err != nil {
		s.Log.WarnContext(ctx, "metrics lost", "problem", err.Error())
	}
}

// file is one form of a report.
type file struct {
	suffix, contentType string
	write               func(io.Writer) error
}

// reports is the folder of a state machine's run.
func (s Env) reports() string { return "reports/" + url.PathEscape(s.RunID) + "/" }
