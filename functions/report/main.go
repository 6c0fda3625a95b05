// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command report looks at the accounts that the environment names, as the functions do, and
// writes what it finds as HTML and JSON. It changes nothing, whatever the environment says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := report(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "report", "`directory` that the reports are written to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	around := run.Env{
		Getenv: getenv, Archive: archive.Directory(*dir), Metrics: io.Discard, Log: slog.New(slog.NewTextHandler(stderr, nil)),
	}
	around.Function = "revoke-expired-keys"
	swept, sweepErr := run.Sweep(ctx, around, settings.SweepEvent{Mode: settings.Report})
	around.Function = "sync-policy"
	synced, syncErr := run.PolicySync(ctx, around, settings.PolicySyncEvent{Mode: settings.Report})
	for _, answer := range []any{swept, synced} {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(answer); err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
	}
	return errors.Join(sweepErr, syncErr)
}
