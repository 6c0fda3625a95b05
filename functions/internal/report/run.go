// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"fmt"
	"io"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// Run is a run over many accounts, as its page shows it.
type Run struct {
	ID       string
	Verdict  string
	Why      string
	Seen     int
	Planned  int
	ByClass  map[sweep.Class]int // of the keys planned
	Accounts []RunAccount
}

// RunAccount is one account of a Run.
type RunAccount struct {
	Account string
	Seen    int
	Planned int
	Problem string   // why it is left alone; empty: it is not
	Reports []string // addresses beside the page
}

// HTML writes the page: what is to be done, and every account, those with the most to do first.
func (r Run) HTML(w io.Writer) error {
	m := newMarkup(w)
	m.out.WriteString(headHTML)
	m.print("<title>Access keys — run %s</title>\n</head>\n<body>\n<main>\n<h1>Run %s</h1>\n", r.ID, r.ID)
	m.print("<p class=\"note warn\"><b>%s.</b> %s</p>\n<p>%d accounts, %d keys seen, %d to be changed.</p>\n<ul>", r.Verdict, r.Why, len(r.Accounts), r.Seen, r.Planned)
	for _, class := range sweep.Classes() {
		if n := r.ByClass[class]; n > 0 {
			m.print("<li>%s: %d</li>", class, n)
		}
	}
	m.print("</ul>\n<div class=\"card\"><table id=\"accounts\">\n<thead><tr><th>Account</th><th class=\"num\">Seen</th><th class=\"num\">To be changed</th>" +
		"<th>Left alone because</th><th>Report</th></tr></thead>\n<tbody>\n")
	slices.SortStableFunc(r.Accounts, func(x, y RunAccount) int { return y.Planned - x.Planned })
	for _, a := range r.Accounts {
		m.print("<tr><td>%s</td><td class=\"num\">%d</td><td class=\"num\">%d</td><td>%s</td><td>", a.Account, a.Seen, a.Planned, a.Problem)
		for i, address := range a.Reports {
			m.print("<a href=\"%s\">part %d</a> ", address, i+1)
		}
		m.print("</td></tr>\n")
	}
	m.print("</tbody></table></div>\n</main>\n</body>\n</html>\n")
	if err := m.out.Flush(); err != nil {
		return fmt.Errorf("writing the run's page: %w", err)
	}
	return nil
}
