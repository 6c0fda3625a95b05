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

What a client can feel, beside Vault's own AWS engine on the same server, each on a fake cloud that takes 20 ms for a call: brackets say
where a row was measured otherwise. Figures are medians of %d runs, and a ratio is that of its row's figures. A yardstick is only what its
brackets say, measured in the same run or computed: an engine may be better. Compare ratios, not seconds: clients, server, plugins and
clouds share one machine.
%s has every figure. %s; this engine at commit %s; equal work varied by %.0f %% meanwhile.

| what | this engine | AWS's | yardstick | ratio | bar | |
| --- | --- | --- | --- | --- | --- | --- |
`, r.Runs, link(table), r.Machine, r.Commit, r.Noise*100)
	for _, one := range r.Rows {
		if h := one.Head; h != nil {
			fmt.Fprintf(&out, "| %s | %s | %s | %s | %.2f x %s | %s | %s |\n", with(h.What, h.But), h.figure(h.Ours), h.figure(h.AWS),
				with(h.figure(h.Yardstick), h.YardstickIs), one.Value, h.Over, one.Bar, one.verdict())
		}
	}
	out.WriteString("\nA lease of the AWS engine makes three calls, since each has a user of its own; one of this engine makes one, with " +
		"users that exist.\n")
	out.WriteString(r.chart())
	out.WriteString(r.missed(table))
	fmt.Fprintf(&out, `
## Repeat it

    make bench                    # all of it and this page: 20 minutes on two processors that nobody else uses
    make bench ONLY=latency,pace  # some groups alone, into .cache/bin/bench.json: this page is of one whole run
    make bench-profile            # where the plugin's processor time goes, for go tool pprof
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

func link(file string) string { return "[" + filepath.Base(file) + "](" + filepath.Base(file) + ")" }

// with adds in brackets what is said of a text, if anything is.
func with(text, said string) string {
	if said == "" {
		return text
	}
	return text + " (" + said + ")"
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
		fmt.Fprintln(&out, with(h.What, h.But))
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

// missed tells why a bar of the page is missed, and which others of the table are.
func (r result) missed(table string) string {
	var out strings.Builder
	var others []string
	for _, one := range r.Rows {
		switch {
		case one.verdict() != missed:
		case one.Head == nil:
			others = append(others, fmt.Sprintf("* %s: %s, %s\n", one.Measure, one.Figure, one.Bar))
		default:
			fmt.Fprintf(&out, "\n* %s: %s, where %s is the bar. %s\n", one.Head.What, one.Figure, one.Bar, cmp.Or(one.Why, "No reason is known."))
		}
	}
	if len(others) > 0 {
		fmt.Fprintf(&out, "\n%d more of %s:\n\n%s", len(others), link(table), strings.Join(others, ""))
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
