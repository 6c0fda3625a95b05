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
	config.Workers, config.Reserve, config.Approval, config.ReportIDs = 0, 0, false, ""
	return settings.Digest(config)
}

// WritePlan plans as Sweep does, changes nothing, and writes the plan to a file.
func WritePlan(ctx context.Context, s Env, path string) (answer *SweepAnswer, err error) {
	defer func() { err = named(err) }()
	config, err := settings.ReadSweep(s.Getenv, settings.SweepEvent{Mode: settings.Report})
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	plan := planFile{Version: 1, Made: time.Now().UTC().Truncate(time.Second)}
	if plan.Digest, err = planDigest(config); err != nil {
		return nil, err
	}
	config.ModeWhy = "it writes a plan"
	about, err := s.about(config)
	if err != nil {
		return nil, err
	}
	p := s.newPages(about, config)
	return s.report(ctx, config, nil, nil, func(result sweep.Result) error {
		for _, a := range result.Accounts {
			part := partPlan{Account: a.Account, Partial: a.Partial, Seen: a.Counts.Seen, Planned: a.Counts.Planned, Tripped: a.Tripped}
			plan.Accounts = append(plan.Accounts, part)
		}
		for f, err := range result.Findings() {
			if err != nil {
				return err
			}
			i := slices.IndexFunc(plan.Accounts, func(p partPlan) bool { return p.Account == f.Account })
			if f.Outcome == sweep.OutcomePlanned {
				f.Outcome = ""
				plan.Accounts[i].Findings = append(plan.Accounts[i].Findings, f)
			}
		}
		text, err := json.Marshal(plan)
		if err != nil {
			return fmt.Errorf("writing the plan: %w", err)
		}
		p.plan = &report.Plan{Made: plan.Made, SHA256: checksum(text)}
		_, err = archive.Directory(filepath.Dir(path)).Put(ctx, filepath.Base(path), "application/json", func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		})
		return err
	}, p)
}

// ApplyPlan changes exactly what a plan names. It is refused where it is older than 72 hours or was
// made with other settings, and where all of it together is over a cap; each key is read and
// decided on again first. Whoever gives the file has approved it.
func ApplyPlan(ctx context.Context, s Env, path string) (answer *SweepAnswer, err error) {
	defer func() { err = named(err) }()
	config, err := settings.ReadSweep(s.Getenv, settings.SweepEvent{Approved: true, NeedsRecords: true})
	if err == nil && config.NeedsRecords() && s.Archive == nil {
		err = errNoRecords
	}
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	plan, err := readPlanFile(path, config)
	if err != nil {
		return nil, err
	}
	answer = &SweepAnswer{Mode: config.Mode, ModeWhy: config.ModeWhy, Accounts: []SweptAccount{}}
	var failures []error
	parts := slices.DeleteFunc(plan.Accounts, func(part partPlan) bool {
		return len(part.Findings) == 0 || len(config.Accounts) > 0 && !slices.Contains(config.Accounts, part.Account)
	})
	about, err := s.about(config)
	if err != nil {
		return nil, err
	}
	p := s.newPages(about, config)
	p.plan = &report.Plan{Made: plan.Made, SHA256: plan.sum, Applied: true}
	for _, part := range parts {
		p.sumOf(part.Account)
	}
	for i, part := range parts {
		of := config
		of.Accounts = []string{part.Account}
		p.left = len(parts) - i - 1
		one, err := s.report(ctx, of, nil, part.all(), nil, p)
		if one != nil {
			answer.Accounts, answer.Reports = append(answer.Accounts, one.Accounts...), one.Reports
		}
		failures = append(failures, err)
	}
	if len(parts) == 0 {
		p.index(ctx, 1, nil)
		failures = append(failures, p.lost())
	}
	return answer, cmp.Or(failures...)
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
		return planFile{}, &settings.SettingsRefusedError{Err: fmt.Errorf(path+": "+format, args...)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return refuse("the plan cannot be read: %w", err)
	}
	if err := json.Unmarshal(text, &plan); err != nil || plan.Version != 1 {
		return refuse("it is no plan of this version of the command (%v)", err)
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
	case age > planLife || age < -time.Hour:
		return refuse("it was made at %s, and one of more than %s ago is not applied: make another", plan.Made.Format(time.RFC3339), planLife)
	case plan.Digest != digest:
		return refuse("it was made with other settings (%s, and these are %s): make another", plan.Digest, digest)
	case tripped != "":
		return refuse("%s: nothing of it is applied", tripped)
	}
	return plan, nil
}
