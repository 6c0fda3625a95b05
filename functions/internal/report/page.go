// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	_ "embed"
	"io"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// headHTML is the page up to its title: style, and the policy that forbids scripts.
//
//go:embed head.html
var headHTML string

// write writes the page from top to bottom.
func (p page) write(w io.Writer) error {
	m := newMarkup(w)
	m.out.WriteString(headHTML)
	p.title(m)
	p.notes(m)
	p.counts(m)
	p.histogram(m)
	p.plan(m)
	p.others(m)
	m.print("<footer>%s %s · run %s · settings %s · ids of access keys are masked</footer>\n</main>\n</body>\n</html>\n",
		p.About.Function, p.About.Version, p.About.RunID, p.About.Digest)
	return m.out.Flush()
}

func (p page) title(m markup) {
	done, style, plural := "", "good", "s"
	if p.Enforced {
		done, style = ", and what was done", "act"
	}
	if len(p.Accounts) == 1 {
		plural = ""
	}
	m.print("<title>Access keys — %s, %s</title>\n</head>\n<body>\n<main>\n", p.About.Function, p.Started)
	m.print("<header class=\"top\">\n  <div>\n    <h1>Access keys: what was found%s</h1>\n", done)
	m.print("    <p class=\"soft\">%s · %d account%s · took %s</p>\n  </div>\n", p.Started, len(p.Accounts), plural, p.Took)
	m.print("  <span id=\"mode\" class=\"badge mode %s\">%s</span>\n</header>\n", style, p.Mode)
}

func (p page) notes(m markup) {
	if !p.OwnersTold {
		m.print("<p class=\"note warn\"><b>Owners are not told</b> before their keys are switched off: NOTIFY is not set.</p>\n")
	}
	if !p.Enforced {
		why := ""
		if p.ModeWhy != "" {
			why = " (" + p.ModeWhy + ")"
		}
		m.print("<p class=\"note good\">Nothing was changed: this run only reports%s. The plan below is what an enforcing run would do.</p>\n", why)
	}
	for _, pattern := range p.Unmatched {
		m.print("<p class=\"note warn\"><b>%s protects nothing:</b> no user or key is called so.</p>\n", pattern)
	}
	for _, account := range p.Accounts {
		if account.Problem != "" {
			m.print("<p class=\"note bad\"><b>Given up.</b> %s</p>\n", account.Problem)
		}
		if account.Unseen != "" {
			m.print("<p class=\"note warn\"><b>%s: not all was seen.</b> %s.</p>\n", account.Account, account.Unseen)
		}
		if account.Counts.UnreadUsers > 0 {
			m.print("<p class=\"note warn\"><b>%s: the keys of %d users could not be read,</b> and were left as they are.</p>\n<ul>", account.Account, account.Counts.UnreadUsers)
			for _, problem := range account.Unread {
				m.print("<li>%s</li>", problem)
			}
			m.print("</ul>\n")
		}
		if account.Tripped != "" {
			m.print("<p class=\"note warn\"><b>%s: nothing was applied.</b> %s.</p>\n", account.Account, account.Tripped)
		}
		if account.Partial {
			from := "from the beginning"
			if account.Cursor != "" {
				from = "after the user " + account.Cursor
			}
			m.print("<p class=\"note warn\"><b>%s: time ran out.</b> The next run goes on %s.</p>\n", account.Account, from)
		}
	}
}

func (p page) counts(m markup) {
	m.print("<ul class=\"tiles\" id=\"counts\">\n")
	for _, tile := range []struct {
		n       int
		name    string
		visible bool
	}{
		{p.Total.Seen, "keys seen", true},
		{p.Total.Protected, "kept", true},
		{p.Total.Planned, "planned", true},
		{p.Total.LeftOut, "left to later runs", p.Total.LeftOut > 0},
		{p.Total.Flagged, "to look at", true},
		{p.Total.Waiting, "in quarantine", true},
		{p.Total.Notified, "told", p.Total.Notified > 0},
		{p.Total.NotNotified, "not told", p.Total.NotNotified > 0},
		{p.Total.Deactivated, "switched off", p.Enforced},
		{p.Total.Deleted, "deleted", p.Enforced},
		{p.Total.Undeletable, "undeletable", p.Total.Undeletable > 0},
		{p.Total.Failed, "failed", p.Total.Failed > 0},
	} {
		if tile.visible {
			m.print("  <li><b>%d</b><span>%s</span></li>\n", tile.n, tile.name)
		}
	}
	m.print("</ul>\n")
}

func (p page) histogram(m markup) {
	m.print("\n<h2>Age of the keys</h2>\n<div class=\"card\">\n" +
		"<svg id=\"ages\" viewBox=\"0 0 740 236\" role=\"img\" aria-label=\"Number of keys in each age group\">\n" +
		"<line x1=\"8\" y1=\"200\" x2=\"732\" y2=\"200\" stroke=\"currentColor\" stroke-opacity=\".25\"/>\n")
	for _, b := range p.Bars {
		m.print("<g><title>%s: %d keys, %d in the plan</title>\n", b.Name, b.Keys, b.Changed)
		m.print("<rect class=\"bar-kept\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" rx=\"2\"/>\n", b.X, b.KeptY, b.Width, b.KeptHeight)
		m.print("<rect class=\"bar-act\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" rx=\"2\"/>\n", b.X, b.ChangedY, b.Width, b.ChangedHeight)
		m.print("<text class=\"n\" x=\"%d\" y=\"%.1f\">%d</text>\n<text x=\"%d\" y=\"220\">%s</text></g>\n", b.Middle, b.LabelY, b.Keys, b.Middle, b.Name)
	}
	m.print("</svg>\n<div class=\"legend\"><span><i class=\"key-kept\"></i>stays as it is</span>" +
		"<span><i class=\"key-act\"></i>in the plan</span></div>\n</div>\n")
}

func (p page) plan(m markup) {
	m.print("\n<h2>The plan</h2>\n")
	if p.Plan.Len() == 0 {
		m.print("<p class=\"soft\" id=\"plan\">No key is to be changed.</p>\n")
	} else {
		p.Plan.table(m, "plan")
	}
	if p.Watched.Len() > 0 {
		m.print("\n<h2>To look at</h2>\n")
		p.Watched.table(m, "watched")
	}
}

// table shows keys that something is done with, or should be.
func (r rows) table(m markup, id string) {
	m.print("<div class=\"card\"><table id=\"%s\">\n<thead><tr><th>Access key</th><th>User</th><th>Account</th><th class=\"num\">Age, days</th>"+
		"<th>Class</th><th>Action</th><th>Outcome</th><th>Why</th></tr></thead>\n<tbody>", id)
	for _, k := range r.Rows {
		k.cells(m)
		m.print("\n<td><span class=\"badge\">%s</span></td><td><span class=\"badge %s\">%s</span></td>\n<td>", k.Class, actionStyle(k.Action), k.Action)
		if k.Outcome != "" {
			m.print("<span class=\"badge %s\">%s</span>", outcomeStyle(k.Outcome), k.Outcome)
		}
		m.print("</td>\n<td class=\"why\">%s", k.Reason)
		if k.Detail != "" {
			m.print("<br><span class=\"soft\">%s</span>", k.Detail)
		}
		m.print("</td></tr>\n")
	}
	m.print("</tbody></table>\n")
	r.rest(m)
	m.print("</div>\n")
}

// cells are the first columns of every table.
func (k keyJSON) cells(m markup) {
	m.print("<tr><td><code>%s</code></td><td class=\"user\">", k.AccessKey)
	if k.User == "" {
		m.print("<span class=\"soft\">signing identity</span>")
	} else {
		m.print("%s", k.User)
	}
	m.print("</td><td>%s</td><td class=\"num\">", k.Account)
	if k.Created.IsZero() {
		m.print("–</td>")
	} else {
		m.print("%d</td>", k.AgeDays)
	}
}

func (r rows) rest(m markup) {
	if r.More > 0 {
		m.print("<p class=\"soft\">and %d more, in the JSON report</p>", r.More)
	}
}

func actionStyle(action sweep.Action) string {
	switch action {
	case sweep.ActionDelete, sweep.ActionRemove:
		return "bad"
	case sweep.ActionDeactivate:
		return "act"
	default:
		return "warn"
	}
}

func outcomeStyle(outcome sweep.Outcome) string {
	switch outcome {
	case sweep.OutcomeDeactivated, sweep.OutcomeDeleted, sweep.OutcomeGone:
		return "good"
	case sweep.OutcomeFailed, sweep.OutcomeUndeletable:
		return "bad"
	default:
		return ""
	}
}

func (p page) others(m markup) {
	m.print("\n<h2>Why the others are kept</h2>\n")
	if len(p.Kept) == 0 {
		m.print("<p class=\"soft\">No key is kept.</p>\n")
	}
	for _, c := range p.Kept {
		m.print("<details><summary>%s <span class=\"badge\">%d</span></summary><div><table>\n<thead><tr><th>Access key</th><th>User</th><th>Account</th>"+
			"<th class=\"num\">Age, days</th><th>Why</th></tr></thead>\n<tbody>", c.Name, c.Len())
		for _, k := range c.Rows {
			k.cells(m)
			m.print("<td class=\"why\">%s</td></tr>\n", k.Reason)
		}
		m.print("</tbody></table>")
		c.rest(m)
		m.print("</div></details>\n")
	}
	m.print("\n")
}

// The histogram's measures, in the units of its viewBox.
const (
	barHeight  = 170
	barBottom  = 200
	chartWidth = 720
	barWidth   = 56
)

// bar is one age group of the histogram: the keys to be changed below, the others above.
type bar struct {
	Name                    string
	Keys, Changed           int
	X, Middle, Width        int
	KeptY, KeptHeight       float64
	ChangedY, ChangedHeight float64
	LabelY                  float64
}

// bars scales the groups to the largest. A group that has keys is never too low to be
// seen: one key of a million may be the one that matters.
func bars(keys, changed [8]int) []bar {
	most := 1
	for _, n := range keys {
		most = max(most, n)
	}
	height := func(n int) float64 {
		if n == 0 {
			return 0
		}
		return max(3, float64(n)*barHeight/float64(most))
	}
	names := sweep.Ages()
	visible := names[:]
	if unknown := len(names) - 1; keys[unknown] == 0 {
		visible = names[:unknown]
	}
	spacing := chartWidth / len(visible)
	var all []bar
	for i, name := range visible {
		b := bar{Name: name, Keys: keys[i], Changed: changed[i], X: 10 + i*spacing + (spacing-barWidth)/2, Width: barWidth}
		b.Middle = b.X + barWidth/2
		b.ChangedHeight, b.KeptHeight = height(b.Changed), height(b.Keys-b.Changed)
		b.ChangedY = barBottom - b.ChangedHeight
		b.KeptY = b.ChangedY - b.KeptHeight
		b.LabelY = b.KeptY - 7
		all = append(all, b)
	}
	return all
}
