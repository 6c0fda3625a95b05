// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command cloudkeys does what the two Lambda functions do without AWS: from a shell, cron, a
// systemd timer or a Kubernetes CronJob. It has the functions' settings, from the environment or
// as flags.
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
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitRefused  = 2 // wrong settings or flags: nothing was done
	exitFindings = 3 // with -fail-on-findings
)

const usage = `usage: cloudkeys revoke-expired-keys [flags]   find keys that should no longer exist, and remove them with -mode enforce
       cloudkeys sync-policy [flags]           compare access policies with what Vault needs, and set them with -mode enforce
       cloudkeys report [flags]                both, and change nothing

Settings are flags, or variables of the environment: -max-keys is MAX_KEYS. docs/functions-settings.md has them all.
Exit status: 0 done, 1 failed, 2 wrong settings, 3 something to look at (with -fail-on-findings).
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cloudkeys(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// command is one call of it.
type command struct {
	job            string
	dir            string
	plan, apply    string
	format         string
	failOnFindings bool
	metricsFile    string
	flags          map[string]string // settings, by their names in the environment
	env            run.Env
	stdout         io.Writer
}

func cloudkeys(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "-version" {
		fmt.Fprintln(stdout, built())
		return exitDone
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		fmt.Fprint(stderr, usage)
		return exitRefused
	}
	c := command{job: args[0], flags: map[string]string{}, stdout: stdout}
	if err := c.parse(args[1:], stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitDone
		}
		fmt.Fprintln(stderr, "cloudkeys:", err)
		return exitRefused
	}
	c.env = run.Env{
		Getenv: func(name string) string {
			if value, ok := c.flags[name]; ok {
				return value
			}
			return getenv(name)
		},
		Function: c.job, Metrics: io.Discard, Log: logger(stderr),
	}
	leave, err := c.place(ctx, getenv)
	if err != nil {
		fmt.Fprintln(stderr, "cloudkeys:", err)
		return exitFailed
	}
	defer leave()
	found, err := c.run(ctx)
	var refused *settings.SettingsRefusedError
	switch {
	case errors.As(err, &refused):
		fmt.Fprintln(stderr, "cloudkeys:", err)
		return exitRefused
	case err != nil:
		fmt.Fprintln(stderr, "cloudkeys:", err)
		return exitFailed
	case found && c.failOnFindings:
		return exitFindings
	default:
		return exitDone
	}
}

// parse reads the flags. Each setting of the job is one.
func (c *command) parse(args []string, stderr io.Writer) error {
	sweep, sync := settings.Describe()
	flags := flag.NewFlagSet("cloudkeys "+c.job, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.dir, "dir", "", "`directory` for reports and for what the next run must know; empty: the bucket of "+
		"REPORT_BUCKET, or nowhere")
	flags.StringVar(&c.format, "format", "text", "text or json")
	flags.StringVar(&c.metricsFile, "metrics-file", "", "`file` (*.prom) that gets the run's numbers for node_exporter's textfile collector")
	flags.BoolVar(&c.failOnFindings, "fail-on-findings", false, "exit with 3 where something is to be looked at")
	var described []settings.Description
	switch c.job {
	case "revoke-expired-keys":
		described = sweep
		flags.StringVar(&c.plan, "plan", "", "write what would be changed to this `file`, and change nothing")
		flags.StringVar(&c.apply, "apply", "", "change exactly what this `file` of -plan names, each key being read again first")
	case "sync-policy":
		described = sync
	case "report":
	default:
		return fmt.Errorf("%q is not known: the jobs are revoke-expired-keys, sync-policy and report", c.job)
	}
	for _, d := range described {
		flags.Func(strings.ToLower(strings.ReplaceAll(d.Name, "_", "-")), d.Purpose, func(value string) error {
			c.flags[d.Name] = value
			return nil
		})
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	case c.format != "text" && c.format != "json":
		return fmt.Errorf("-format is %q: give text or json", c.format)
	case c.plan != "" && c.apply != "":
		return errors.New("-plan and -apply exclude each other: the one writes what the other changes")
	default:
		return nil
	}
}

// place finds where reports and records are kept, and keeps a second run of the job from it. Where there is none, the run has a
// temporary directory.
func (c *command) place(ctx context.Context, getenv func(string) string) (leave func(), err error) {
	if c.dir != "" {
		c.env.Archive = archive.Directory(c.dir)
	} else if c.env.Archive = archive.FromEnvironment(getenv); c.env.Archive == nil {
		dir, err := os.MkdirTemp("", "cloudkeys-")
		if err != nil {
			return nil, fmt.Errorf("making a temporary directory: %w", err)
		}
		c.env.Archive, c.env.Passing = archive.Directory(dir), true
		return func() { _ = os.RemoveAll(dir) }, nil
	}
	place := c.env.Archive.(interface {
		Lock(ctx context.Context, job string) (func(), error)
	})
	jobs := []string{c.job}
	if c.job == "report" {
		jobs = []string{"revoke-expired-keys", "sync-policy"}
	}
	var held []func()
	leave = func() {
		for _, release := range held {
			release()
		}
	}
	for _, job := range jobs {
		release, err := place.Lock(ctx, job)
		if err != nil {
			leave()
			return nil, err
		}
		held = append(held, release)
	}
	return leave, nil
}

// run does the job, prints what came of it, and tells whether there is something to look at.
func (c *command) run(ctx context.Context) (found bool, err error) {
	var swept *run.SweepAnswer
	var synced *run.PolicyAnswer
	var sweepErr, syncErr error
	begun := time.Now()
	switch {
	case c.job == "report":
		c.env.Function = "revoke-expired-keys"
		swept, sweepErr = run.Whole(ctx, c.env, settings.SweepEvent{Mode: settings.Report, ModeWhy: "it is a report"})
		c.env.Function = "sync-policy"
		synced, syncErr = run.PolicySync(ctx, c.env, settings.PolicySyncEvent{Mode: settings.Report})
	case c.job == "sync-policy":
		synced, syncErr = run.PolicySync(ctx, c.env, settings.PolicySyncEvent{})
	case c.plan != "":
		swept, sweepErr = run.WritePlan(ctx, c.env, c.plan)
	case c.apply != "":
		swept, sweepErr = run.ApplyPlan(ctx, c.env, c.apply)
	default:
		swept, sweepErr = run.Whole(ctx, c.env, settings.SweepEvent{})
	}
	return c.sum(swept, synced), errors.Join(c.measure(begun, swept, synced), c.print(swept, synced), sweepErr, syncErr)
}

// measure writes the metrics. Of a job that went over no account the file of an earlier run stays, whose age tells.
func (c *command) measure(begun time.Time, swept *run.SweepAnswer, synced *run.PolicyAnswer) error {
	if c.metricsFile == "" || swept == nil && synced == nil {
		return nil
	}
	var file metrics.TextFile
	now := time.Now()
	if swept != nil {
		file.Sweep(now, now.Sub(begun), swept.Sums)
	}
	if synced != nil {
		file.PolicySync(now, now.Sub(begun), synced.Accounts)
	}
	return file.Write(c.metricsFile)
}

// sum tells whether there is something to look at.
func (c *command) sum(swept *run.SweepAnswer, synced *run.PolicyAnswer) (found bool) {
	if swept != nil {
		for _, a := range swept.Accounts {
			found = found || a.Planned > 0 || a.Flagged > 0 || a.Tripped != "" || a.Partial
		}
		for _, s := range swept.Sums {
			found = found || s.Failed > 0 || s.Undeletable > 0 || s.UnreadUsers > 0
		}
	}
	if synced != nil {
		for _, a := range synced.Accounts {
			found = found || a.BlockerCount > 0 || a.Partial || a.Drift || synced.Mode == settings.Report && a.Action.Changes()
		}
	}
	return found
}

// print writes what the job returns.
func (c *command) print(swept *run.SweepAnswer, synced *run.PolicyAnswer) error {
	if c.format == "json" {
		encoder := json.NewEncoder(c.stdout)
		encoder.SetIndent("", "  ")
		for _, answer := range []any{swept, synced} {
			if err := encoder.Encode(answer); err != nil {
				return fmt.Errorf("writing the answer: %w", err)
			}
		}
		return nil
	}
	var b strings.Builder
	if swept != nil {
		fmt.Fprintf(&b, "mode %s %s\n%d accounts\n", swept.Mode, swept.ModeWhy, len(swept.Accounts))
		for _, a := range lines(swept.Accounts) {
			fmt.Fprintf(&b, "%s: %d keys seen, %d planned, %d to look at, %d switched off, %d deleted, %d failed %s%s\n",
				a.Account, a.Seen, a.Planned, a.Flagged, a.Deactivated, a.Deleted, a.Failed, a.Tripped, a.Problem)
		}
	}
	if synced != nil {
		for _, a := range synced.Accounts {
			fmt.Fprintf(&b, "%s: policy %d s, wanted %d s, %s: %s %s\n", a.Account, a.Before, a.Wanted, a.Action, a.Reason, a.Problem)
		}
	}
	for _, place := range places(swept, synced) {
		b.WriteString(filepath.ToSlash(place) + "\n")
	}
	_, err := io.WriteString(c.stdout, b.String())
	return err
}

// mostLines is up to how many accounts the text has a line each.
const mostLines = 50

// lines are the accounts that the text names: of many, those with something to say.
func lines(accounts []run.SweptAccount) []run.SweptAccount {
	if len(accounts) <= mostLines {
		return accounts
	}
	return slices.DeleteFunc(slices.Clone(accounts), func(a run.SweptAccount) bool {
		return a.Planned+a.Flagged+a.Failed+a.Undeletable == 0 && a.Tripped+a.Problem == "" && !a.Partial
	})
}

func places(swept *run.SweepAnswer, synced *run.PolicyAnswer) (all []string) {
	if swept != nil {
		all = append(all, swept.Reports...)
	}
	if synced != nil {
		all = append(all, synced.Reports...)
	}
	return all
}

// logger writes text for people, and JSON for what collects logs.
func logger(w io.Writer) *slog.Logger {
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return slog.New(slog.NewTextHandler(w, nil))
		}
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}
