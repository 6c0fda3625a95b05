// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"strings"
	"text/tabwriter"
)

// row is a question with its answer.
type row struct {
	question
	observed string
	failed   bool
}

// verdict is the last column: what to flip where the cloud is not as assumed.
func (r row) verdict() string {
	switch {
	case r.failed:
		return "?"
	case r.assumed == "" || r.assumed == r.observed:
		return ""
	case r.flip == "":
		return "differs"
	default:
		return "differs: " + r.flip
	}
}

// table is the same for the same answers.
func table(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	write := func(cells ...string) { _, _ = w.Write([]byte(strings.Join(cells, "\t") + "\n")) } // a Builder takes all
	write("question", "assumed", "observed", "differs")
	write("--------", "-------", "--------", "-------")
	for _, r := range rows {
		assumed := r.assumed
		if assumed == "" {
			assumed = "-"
		}
		write(r.text, assumed, r.observed, r.verdict())
	}
	_ = w.Flush()
	var trimmed strings.Builder
	for line := range strings.Lines(text.String()) {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return trimmed.String()
}
