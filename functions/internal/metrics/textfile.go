// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
)

// TextFile is the last run's numbers in Prometheus's text format, for node_exporter's textfile collector. They are gauges, one of each
// provider: what a run has found and done, and no sum over runs.
type TextFile struct{ families []family }

// family is one metric, with its values by provider.
type family struct {
	name, help string
	values     map[string]float64
}

// Sweep adds the numbers of a sweep.
func (f *TextFile) Sweep(ended time.Time, took time.Duration, sums []report.Sum) {
	for _, m := range []struct {
		name, help string
		of         func(report.Sum) int
	}{
		{"accounts", "Accounts that the last run was to go over.", func(report.Sum) int { return 1 }},
		{"accounts_failed", "Accounts that were given up, not reached or over a cap, or with keys that failed.", func(s report.Sum) int {
			return one(s.Problem != "" || !s.Reached || s.Tripped != "" || s.Failed > 0)
		}},
		{"accounts_partial", "Accounts for whose users the time did not suffice.", func(s report.Sum) int { return one(s.Reached && s.Partial) }},
		{"keys_seen", "Keys that were looked at.", func(s report.Sum) int { return s.Seen }},
		{"keys_planned", "Keys that were to be changed.", func(s report.Sum) int { return s.Planned }},
		{"keys_to_look_at", "Keys that a person should look at.", func(s report.Sum) int { return s.Look }},
		{"keys_in_quarantine", "Keys that are switched off, and not deleted yet.", func(s report.Sum) int { return s.Waiting }},
		{"keys_left_out", "Keys that are left to later runs, since one user has too many.", func(s report.Sum) int { return s.Later }},
		{"keys_switched_off", "Keys that the run has switched off.", func(s report.Sum) int { return s.SwitchedOff }},
		{"keys_deleted", "Keys that the run has deleted.", func(s report.Sum) int { return s.Deleted }},
		{"keys_undeletable", "Keys whose delete the cloud has refused for the third time.", func(s report.Sum) int { return s.Undeletable }},
		{"keys_failed", "Keys that could not be changed.", func(s report.Sum) int { return s.Failed }},
		{"keys_unsettled", "Keys that had changed since the plan, or were not reached.", func(s report.Sum) int { return s.Unsettled }},
		{"keys_never_expire", "Keys without an end.", func(s report.Sum) int { return s.NeverExpires }},
		{"users_unreadable", "Users whose keys could not be read.", func(s report.Sum) int { return s.UnreadUsers }},
	} {
		values := map[string]float64{}
		for _, sum := range sums {
			values[cmp.Or(sum.Provider, "unknown")] += float64(m.of(sum))
		}
		f.families = append(f.families, family{"cloudkeys_sweep_" + m.name, m.help, values})
	}
	f.ran("sweep", ended, took)
}

// PolicySync adds the numbers of a policy sync.
func (f *TextFile) PolicySync(ended time.Time, took time.Duration, accounts []report.PolicyAccount) {
	for _, m := range []struct {
		name, help string
		of         func(report.PolicyAccount) int
	}{
		{"accounts", "Accounts whose policy the last run was to compare.", func(report.PolicyAccount) int { return 1 }},
		{"accounts_failed", "Accounts that the last run gave up.", func(a report.PolicyAccount) int { return one(a.Problem != "") }},
		{"accounts_drifted", "Accounts whose policy allows keys a longer life than is wanted.", func(a report.PolicyAccount) int {
			return one(a.Problem == "" && a.Drift)
		}},
		{"blockers", "Keys that keep a policy from being tightened.", func(a report.PolicyAccount) int { return a.BlockerCount }},
	} {
		values := map[string]float64{}
		for _, account := range accounts {
			values[account.Provider] += float64(m.of(account))
		}
		f.families = append(f.families, family{"cloudkeys_policy_sync_" + m.name, m.help, values})
	}
	f.ran("policy_sync", ended, took)
}

func (f *TextFile) ran(job string, ended time.Time, took time.Duration) {
	f.families = append(f.families,
		family{"cloudkeys_" + job + "_last_run_timestamp_seconds", "When the last run ended.", map[string]float64{"": float64(ended.Unix())}},
		family{"cloudkeys_" + job + "_duration_seconds", "How long the last run took.", map[string]float64{"": took.Seconds()}})
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// write writes the text format.
func (f *TextFile) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, m := range f.families {
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s gauge\n", m.name, m.help, m.name)
		for _, provider := range slices.Sorted(maps.Keys(m.values)) {
			labels := ""
			if provider != "" {
				labels = fmt.Sprintf("{provider=%q}", provider)
			}
			fmt.Fprintf(b, "%s%s %g\n", m.name, labels, m.values[provider])
		}
	}
	return b.Flush()
}

// Write replaces the file at once: the collector may read it at any time, and takes files alone whose names end in .prom.
func (f *TextFile) Write(path string) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".cloudkeys-")
	if err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	defer os.Remove(file.Name()) // it is gone by then where all went well
	writeErr := f.write(file)
	if chmodErr := file.Chmod(0o644); writeErr == nil { // node_exporter is another user
		writeErr = chmodErr
	}
	if closeErr := file.Close(); writeErr == nil {
		writeErr = closeErr
	}
	if writeErr == nil {
		writeErr = os.Rename(file.Name(), path)
	}
	if writeErr != nil {
		return fmt.Errorf("writing the metrics: %w", writeErr)
	}
	return nil
}
