// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// planLife is how old a plan may be that is applied.
const planLife = 72 * time.Hour

// planFile is what -plan writes and -apply changes. It holds whole key ids, and no secret.
type planFile struct {
	Version  int        `json:"version"`
	Made     time.Time  `json:"made"`
	Digest   string     `json:"settings_digest"` // of the settings that it was made with, but for mode and accounts
	Accounts []partPlan `json:"accounts"`

	sum string // SHA-256 of the file that it was read from
}

// planDigest names the settings that a plan follows from.
func planDigest(config settings.Sweep) (string, error) {
	config.Mode, config.ModeWhy, config.Accounts = "", "", nil
	config.Workers, config.Reserve, config.Approval, config.ReportIDs, config.Concurrency = 0, 0, false, "", 0
	return settings.Digest(config)
}

// WritePlan plans as a run in report mode does, and writes the plans of all accounts that have a whole one to a file.
func WritePlan(ctx context.Context, s Env, path string) (answer *SweepAnswer, err error) {
	defer func() { err = named(err) }()
	w, err := s.newWhole(settings.SweepEvent{Mode: settings.Report, ModeWhy: "it writes a plan"})
	if err != nil {
		return nil, err
	}
	plan := planFile{Version: 1, Made: time.Now().UTC().Truncate(time.Second)}
	if plan.Digest, err = planDigest(w.config); err != nil {
		return nil, err
	}
	answer, runErr := w.run(ctx)
	if ctx.Err() != nil || answer == nil {
		return answer, cmp.Or(ctx.Err(), runErr, w.clear(ctx))
	}
	for _, account := range answer.Accounts {
		parts, err := w.env.parts(ctx, w.config, account.Account)
		if err != nil {
			return answer, err
		}
		plan.Accounts = append(plan.Accounts, parts...)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return answer, fmt.Errorf("writing the plan: %w", err)
	}
	_, err = archive.Directory(filepath.Dir(path)).Put(ctx, filepath.Base(path), "application/json", func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return answer, err
	}
	w.env.file = &report.Plan{Made: plan.Made, SHA256: checksum(text)}
	_, err = w.env.closeRun(ctx, w.phase(settings.PhaseClose)) // the page names the plan
	return answer, cmp.Or(runErr, err, w.clear(ctx))
}

// parts are those of one account's plan; none where it is not whole.
func (s Env) parts(ctx context.Context, config settings.Sweep, account string) (parts []partPlan, err error) {
	plan := s.readPlan(ctx, config, account)
	if !plan.whole {
		return nil, plan.err
	}
	for n := range plan.plans {
		text, err := s.Archive.Get(ctx, s.planName(account, n))
		if err != nil {
			return nil, err
		}
		var part partPlan
		if err := json.Unmarshal(text, &part); err != nil {
			return nil, fmt.Errorf("reading %s: %w", s.planName(account, n), err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// ApplyPlan changes exactly what a plan names. It is refused where it is older than 72 hours or was
// made with other settings, and where all of it together is over a cap; each key is read and
// decided on again first. Whoever gives the file has approved it.
func ApplyPlan(ctx context.Context, s Env, path string) (answer *SweepAnswer, err error) {
	defer func() { err = named(err) }()
	w, err := s.newWhole(settings.SweepEvent{Approved: true})
	if err != nil {
		return nil, err
	}
	plan, err := readPlanFile(path, w.config)
	if err != nil {
		return nil, err
	}
	parts := slices.DeleteFunc(plan.Accounts, func(part partPlan) bool {
		return len(w.config.Accounts) > 0 && !slices.Contains(w.config.Accounts, part.Account)
	})
	if len(parts) == 0 && len(w.config.Accounts) > 0 {
		return nil, &settings.SettingsRefusedError{Err: fmt.Errorf("%s: it has no plan of the accounts %q (ACCOUNTS)", path, w.config.Accounts)}
	}
	w.env.file = &report.Plan{Made: plan.Made, SHA256: plan.sum, Applied: true}
	for i := range parts {
		parts[i].Planned = len(parts[i].Findings)
	}
	if err := w.put(ctx, parts); err != nil {
		return nil, err
	}
	answer, err = w.run(ctx)
	if ctx.Err() != nil {
		return answer, errors.Join(fmt.Errorf("the run was cut off; the same plan can be applied again: %w", ctx.Err()), w.clear(ctx))
	}
	return answer, cmp.Or(err, w.clear(ctx))
}

// all yields what the part plans.
func (p partPlan) all() func(yield func(sweep.Finding, error) bool) {
	return func(yield func(sweep.Finding, error) bool) {
		for _, f := range p.Findings {
			if !yield(f, nil) {
				return
			}
		}
	}
}

var errNoRecords = errors.New("the mode is enforce and QUARANTINE is not 0, and there is no place that is still there at the next run: " +
	"give -dir or REPORT_BUCKET, since nothing else remembers since when a key has been switched off")

func readPlanFile(path string, config settings.Sweep) (plan planFile, err error) {
	refuse := func(format string, args ...any) (planFile, error) {
		return planFile{}, &settings.SettingsRefusedError{Err: fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...))}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return refuse("the plan cannot be read: %w", err)
	}
	if err := json.Unmarshal(text, &plan); err != nil {
		return refuse("it is no plan of this version of the command: %w", err)
	}
	if plan.Version != 1 {
		return refuse("it is no plan of this version of the command, which reads version 1, and not %d", plan.Version)
	}
	plan.sum = checksum(text)
	digest, err := planDigest(config)
	if err != nil {
		return plan, err
	}
	seen, planned := 0, 0
	for _, part := range plan.Accounts {
		if tripped := sweep.Tripped(config, len(part.Findings), part.Seen); tripped != "" {
			return refuse("account %q: %s: nothing of it is applied", part.Account, tripped)
		}
		if part.Tripped == "" {
			seen, planned = seen+part.Seen, planned+max(part.Planned, len(part.Findings))
		}
	}
	age := time.Since(plan.Made)
	switch tripped := sweep.RunTripped(config, planned, seen); {
	case config.Mode != settings.Enforce:
		return refuse("the mode is %s: give -mode enforce to apply it", config.Mode)
	case age < -time.Hour:
		return refuse("it was made at %s, which is ahead of this machine's clock: set the clock, or make another", plan.Made.Format(time.RFC3339))
	case age > planLife:
		return refuse("it was made at %s, and one of more than %s ago is not applied: make another", plan.Made.Format(time.RFC3339), planLife)
	case plan.Digest != digest:
		return refuse("it was made with other settings (%s, and these are %s): make another", plan.Digest, digest)
	case tripped != "":
		return refuse("%s: nothing of it is applied", tripped)
	}
	return plan, nil
}
