// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package task carries out one run of a function from its settings to its report, in Lambda
// and on a developer's machine alike.
package task

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/cloud"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// Surroundings are where a run takes place.
type Surroundings struct {
	Getenv   func(string) string
	Function string          // its name in metrics and reports
	Request  string          // id of the invocation
	RunID    string          // the scheduled time, where there is one
	Archive  archive.Archive // nil: no report is kept
	Metrics  io.Writer
	Log      *slog.Logger
}

// ReportLostError tells that a run was carried out, and its report could not be kept.
type ReportLostError struct{ err error }

// Error is a sentence for an operator.
func (e *ReportLostError) Error() string {
	return "the run was carried out, but its report is lost: " + e.err.Error()
}

// Unwrap returns why.
func (e *ReportLostError) Unwrap() error { return e.err }

func (s Surroundings) about(digested any) (report.About, error) {
	digest, err := settings.Digest(digested)
	return report.About{Function: s.Function, Version: version(), RunID: s.RunID, Digest: digest}, err
}

// version is what the Go toolchain knows of the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Version
}

func (s Surroundings) userAgent() string { return "cloudkeys-functions/" + version() }

func (s Surroundings) open(ctx context.Context, accounts []string) (*cloud.Access, error) {
	return cloud.OpenAccess(ctx, s.Getenv, accounts, s.userAgent(), s.Log)
}

// close is done before the report: after a SIGTERM there may be no time for both.
func (s Surroundings) close(ctx context.Context, access *cloud.Access) {
	if err := access.Close(ctx); err != nil {
		s.Log.WarnContext(ctx, "the function's token could not be revoked: it ends by itself at its TTL", "problem", err.Error())
	}
}

// file is one form of a report.
type file struct {
	suffix, contentType string
	write               func(io.Writer) error
}

// keep stores a report's files, after a cancelled run too, and returns where they stand.
func (s Surroundings) keep(ctx context.Context, started time.Time, files ...file) ([]string, error) {
	if s.Archive == nil {
		return nil, nil
	}
	ctx = context.WithoutCancel(ctx)
	var places []string
	for _, f := range files {
		place, err := s.Archive.Put(ctx, s.name(started)+f.suffix, f.contentType, f.write)
		if err != nil {
			return places, &ReportLostError{err}
		}
		places = append(places, place)
	}
	return places, nil
}

// name sorts reports by their time. The request tells two attempts of one schedule apart.
func (s Surroundings) name(started time.Time) string {
	at := started.UTC().Format("2006-01-02T15-04-05.000Z")
	return strings.Join([]string{"reports", s.Function, at + "-" + cmp.Or(s.Request, "local")}, "/")
}
