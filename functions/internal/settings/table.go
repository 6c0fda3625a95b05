// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"fmt"
	"strings"
)

// Names returns every environment variable that the two functions' settings read.
func Names() (sweep, policySync []string) {
	return names(sweepRows()), names(policyRows())
}

func names[T any](rows []row[T]) []string {
	all := make([]string, 0, len(rows))
	for _, r := range rows {
		all = append(all, r.name)
	}
	return all
}

// Table is the reference of all settings, in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("# Settings of the functions\n\n" +
		"Read from the environment once, when a run begins. What does not fit is refused with one error, and nothing is done.\n" +
		"Durations are written like `90d`, `12h` or `30m`.\n")
	markdown(&b, "revoke-expired-keys", sweepRows())
	markdown(&b, "sync-policy", policyRows())
	return b.String()
}

func markdown[T any](b *strings.Builder, function string, rows []row[T]) {
	fmt.Fprintf(b, "\n## %s\n\n| setting | default | what it does | accepted |\n| --- | --- | --- | --- |\n", function)
	for _, r := range rows {
		def := "empty"
		if r.def != "" {
			def = "`" + r.def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", r.name, def, r.purpose, r.rule)
	}
}
