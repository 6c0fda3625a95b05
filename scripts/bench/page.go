// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// write makes the page, and the whole table beside it.
func (r result) write(page string) error {
	table := strings.TrimSuffix(page, filepath.Ext(page)) + ".csv"
	if err := r.writeTable(table); err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, `# Performance

[Use](README.md#use-it) · [Operate](README.md#operate-it) · [Develop](README.md#develop-it)

What a client can feel, beside Vault's own AWS engine on the same server, each on a fake cloud that takes 20 ms for a call. The limit
is what no engine could be better than, measured in the same run. Compare ratios, not seconds: clients, server, plugins and clouds share
one machine.
%s has every figure. %s; medians of %d runs%s; equal work varied by %.0f %% meanwhile.

| what | this engine | AWS's | limit | ratio | bar | |
| --- | --- | --- | --- | --- | --- | --- |
`, "["+filepath.Base(table)+"]("+filepath.Base(table)+")", r.Machine, r.Runs, map[bool]string{true: ", made in parts"}[r.Parts],
		r.Noise*100)
	for _, one := range r.Rows {
		if h := one.Head; h != nil {
			fmt.Fprintf(&out, "| %s | %s | %s | %s | %.2f x %s | %s | %s |\n", h.What, h.figure(h.Ours), h.figure(h.AWS),
				strings.TrimSpace(h.figure(h.Limit)+" "+inBrackets(h.LimitIs)), one.Value, h.Over, one.Bar, one.verdict())
		}
	}
	out.WriteString("\nA lease of the AWS engine makes three calls, since each has a user of its own; one of this engine makes one, with " +
		"users that exist.\n")
	out.WriteString(r.chart())
	out.WriteString(r.missed())
	fmt.Fprintf(&out, `
## Repeat it

    make bench                    # all of it and this page: 20 minutes on two processors that nobody else uses
    make bench ONLY=latency,cpu   # some groups alone; what was measured before stays in .cache/bin/bench.json
    make bench ONLY=page          # this page, of what was measured last
    make bench-profile            # where the plugin's processor time goes, for go tool pprof

The groups are size, start, storage, index, accounts, pace, functions, latency, throughput, cpu, calls, memory and storm.
`)
	if r.Noise > noisy {
		out.WriteString("\nThe machine was busy with other work during this run: run it again before you believe a missed bar.\n")
	}
	return os.WriteFile(page, []byte(out.String()), 0o644)
}

func (h head) figure(value float64) string {
	switch {
	case value == 0:
		return ""
	case value >= 100:
		return fmt.Sprintf("%.0f %s", value, h.Unit)
	case value >= 10:
		return fmt.Sprintf("%.1f %s", value, h.Unit)
	default:
		return fmt.Sprintf("%.2f %s", value, h.Unit)
	}
}

func inBrackets(said string) string {
	if said == "" {
		return ""
	}
	return "(" + said + ")"
}

// chart draws the rows that both engines have.
func (r result) chart() string {
	const width = 40
	var out strings.Builder
	out.WriteString("\n```text\n")
	for _, one := range r.Rows {
		h := one.Head
		if h == nil || h.AWS == 0 {
			continue
		}
		most := max(h.Ours, h.AWS)
		fmt.Fprintln(&out, h.What)
		for _, bar := range []struct {
			name  string
			value float64
		}{{"this engine", h.Ours}, {"AWS's", h.AWS}} {
			fmt.Fprintf(&out, "  %-12s %s %s\n", bar.name, strings.Repeat("█", max(1, int(bar.value/most*width))), h.figure(bar.value))
		}
	}
	out.WriteString("```\n")
	return out.String()
}

// missed tells why a bar of the page is missed.
func (r result) missed() string {
	var out strings.Builder
	for _, one := range r.Rows {
		if one.Head != nil && one.verdict() == missed {
			fmt.Fprintf(&out, "\n* %s: %s, where %s is the bar. %s\n", one.Head.What, one.Figure, one.Bar, cmp.Or(one.Why, "No reason is known."))
		}
	}
	if out.Len() == 0 {
		return ""
	}
	return "\n## Missed\n" + out.String()
}

// writeTable writes every row as CSV.
func (r result) writeTable(file string) error {
	var out strings.Builder
	table := csv.NewWriter(&out)
	_ = table.Write([]string{"measure", "figure", "bar", "verdict", "why it is missed"}) // the writer is a string, and Error tells
	for _, one := range r.Rows {
		_ = table.Write([]string{one.Measure, one.Figure, one.Bar, one.verdict(), one.Why})
	}
	table.Flush()
	if err := table.Error(); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(out.String()), 0o644)
}
