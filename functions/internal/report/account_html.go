// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// HTML writes the account as one page: all of its keys, which a script in it groups, sorts and
// filters, and without script the totals and the keys that need a person. It returns the sum.
func (a Account) HTML(w io.Writer) (Sum, error) {
	g, err := a.gather()
	if err != nil {
		return Sum{}, fmt.Errorf("writing the report: %w", err)
	}
	m, script := newMarkup(w), accountJS
	if g.sum.Seen == 0 {
		script = "" // it would have nothing to do
	}
	m.begin("Access keys of "+a.Result.Account+" — "+day(a.Started), script)
	a.header(m, g)
	a.notes(m, g)
	a.tiles(m, g)
	a.about(m)
	a.charts(m, g)
	left := 0
	if g.sum.Seen > 0 {
		a.keys(m, g)
		left, err = a.data(m, g)
	} else {
		m.print("\n<h2 id=\"list\">Keys</h2>\n<p class=\"soft\">No key was seen.</p>\n")
	}
	if err != nil {
		return Sum{}, fmt.Errorf("writing the report: %w", err)
	}
	if left > 0 {
		m.print("<p class=\"note\">%s more, which stay as they are, stand in the CSV and the JSON file alone.</p>\n", plural(left, "key"))
	}
	more := " · ids of access keys are masked (REPORT_IDS=whole shows them)"
	if a.WholeIDs {
		more = " · holds whole ids of access keys: keep it accordingly"
	}
	return g.sum, m.end(a.About, more, script)
}

func (a Account) header(m markup, g *gathered) {
	style, mode := "good", a.Mode
	if a.Mode == settings.Enforce {
		style = "act"
	}
	if a.Undecided {
		mode = "plan"
	}
	file := FileName(a.Result.Account, a.Part)
	m.print(
		"<a class=\"skip\" href=\"#list\">To the keys</a>\n<p class=\"back\"><a href=\"./index.html\">← All accounts of this run</a></p>\n",
	)
	m.print("<header class=\"top\">\n  <div>\n    <h1>Access keys of %s</h1>\n    <p class=\"soft\">%s", a.Result.Account, moment(a.Started))
	if a.Part > 0 || a.Result.Partial {
		m.print(" · part %d", a.Part+1)
	}
	m.print("</p>\n  </div>\n  <p class=\"links\"><span id=\"mode\" class=\"badge mode %s\">%s</span></p>\n</header>\n", style, mode)
	notifies(m, a.OwnersTold)
	m.print("<p class=\"note %s\" id=\"happens\"><b>%s</b></p>\n", style, strings.TrimSpace(a.happens(g)))
	m.print("<p class=\"links noprint\"><a href=\"%s\" download>All keys as CSV</a><a href=\"%s\" download>All keys as JSON</a></p>\n",
		linkTo(file+".csv"), linkTo(file+".json"))
}

// happens says in a sentence what was done, or what would be: with the caps taken into account.
func (a Account) happens(g *gathered) string {
	n := g.fates
	became := func(off, deleted int, were string) string {
		switch {
		case off > 0 && deleted > 0:
			return fmt.Sprintf("%s %sswitched off, %s %sdeleted.", plural(off, "key"), were, thousands(deleted), were)
		case off > 0:
			return fmt.Sprintf("%s %sswitched off.", plural(off, "key"), were)
		case deleted > 0:
			return fmt.Sprintf("%s %sdeleted.", plural(deleted, "key"), were)
		default:
			return ""
		}
	}
	if a.Mode != settings.Enforce && n[fateOff]+n[fateDeleted]+n[fateGone] == 0 {
		text := "Nothing was changed: this run reports"
		applied := "Enforced"
		if a.Undecided {
			applied, text = "Applied", "Nothing had been changed when this page was written"
		} else if a.ModeWhy != "" {
			text += " (" + a.ModeWhy + ")"
		}
		switch would := became(n[fatePlannedOff], n[fatePlannedDelete], "would be "); {
		case n[fateRefused] > 0:
			return text + ". An enforcing run would change nothing either: the plan is over a cap."
		case n[fatePlannedTell] > 0:
			return text + ". " + applied + ": the owners of " + plural(n[fatePlannedTell], "key") + " would be told. " + would
		case would != "":
			return text + ". " + applied + ": " + would
		default:
			return text + ". " + applied + ", it would change nothing."
		}
	}
	text := became(n[fateOff], n[fateDeleted]+n[fateGone], "")
	switch {
	case n[fateRefused] > 0:
		text = "Nothing was changed: the plan is over a cap."
	case text == "":
		text = "Nothing was changed."
	}
	if n[fateTold] > 0 {
		text += " The owners of " + plural(n[fateTold], "key") + " were told."
	}
	if planned := n[fatePlannedOff] + n[fatePlannedDelete] + n[fatePlannedTell]; planned > 0 {
		text += " " + plural(planned, "planned key") + " not dealt with yet."
	}
	if failed := g.sum.Failed + n[fateUndeletable]; failed > 0 {
		text += " " + plural(failed, "key") + " could not be changed."
	}
	return text
}

func (a Account) notes(m markup, g *gathered) {
	r := a.Result
	if a.Undecided && g.sum.Planned > 0 && r.Tripped == "" {
		m.print("<p class=\"note act\" id=\"undecided\"><b>This is a plan.</b> It is decided on with those of all accounts: <a " +
			"href=\"./index.html\">" +
			"the page of the run</a> says what was decided. Where it was applied, this page was written again.</p>\n")
	}
	if a.PlanAlone {
		m.print("<p class=\"note\" id=\"alone\"><b>Only the keys of the plan are here:</b> the run that made it has a page of all.</p>\n")
	}
	if r.Problem != "" {
		m.print("<p class=\"note bad\"><b>Given up.</b> %s</p>\n", sentence(r.Problem))
	}
	if r.Tripped != "" {
		m.print("<p class=\"note warn\"><b>Over a cap: nothing is applied.</b> %s</p>\n", sentence(r.Tripped))
	}
	if r.Unseen != "" {
		m.print("<p class=\"note warn\"><b>Not all was seen.</b> %s</p>\n", sentence(r.Unseen))
	}
	if r.Counts.UnreadUsers > 0 {
		m.print(
			"<div class=\"note warn\"><b>The keys of %s could not be read,</b> and were left as they are.<ul>",
			plural(r.Counts.UnreadUsers, "user"),
		)
		for _, problem := range r.Unread {
			m.print("<li>%s</li>", problem)
		}
		m.print("</ul></div>\n")
	}
	if r.Partial {
		from := "from the beginning"
		if r.Cursor != "" {
			from = "after the user " + r.Cursor
		}
		m.print("<p class=\"note warn\"><b>Time ran out.</b> The next run, or the next part, goes on %s.</p>\n", from)
	}
	unmatched(m, a.Unmatched)
}

// notifies says first of all what a reader would not think of.
func notifies(m markup, owners bool) {
	if !owners {
		m.print("<p class=\"note warn\"><b>Owners are not told</b> before their keys are switched off: NOTIFY is not set.</p>\n")
	}
}

func unmatched(m markup, patterns []string) {
	for _, pattern := range patterns {
		m.print("<p class=\"note warn\"><b>%s protects nothing:</b> no user or key is called so.</p>\n", pattern)
	}
}

func (a Account) tiles(m markup, g *gathered) {
	n, enforced := g.fates, a.Mode == settings.Enforce
	to := func(fates ...fate) string { return "#" + withFates(fates...) }
	m.tiles(
		tile{g.sum.Seen, "keys seen", "", true, false},
		tile{n[fatePlannedOff], "planned: switch off", to(fatePlannedOff), !enforced || n[fatePlannedOff] > 0, true},
		tile{n[fatePlannedDelete], "planned: delete", to(fatePlannedDelete), !enforced || n[fatePlannedDelete] > 0, true},
		tile{n[fateOff], "switched off", to(fateOff), enforced, false},
		tile{n[fateDeleted] + n[fateGone], "deleted", to(fateDeleted, fateGone), enforced, false},
		tile{n[fatePlannedTell], "planned: tell owners", to(fatePlannedTell), n[fatePlannedTell] > 0, true},
		tile{n[fateTold], "owners told", to(fateTold), n[fateTold] > 0, false},
		tile{n[fateNotTold], "owners not told", to(fateNotTold), n[fateNotTold] > 0, true},
		tile{n[fateLook], "to look at", to(fateLook), true, true},
		tile{g.sum.NeverExpires, "never expire", "#expires=never", true, true},
		tile{n[fateQuarantine], "in quarantine", to(fateQuarantine), true, false},
		tile{n[fateRefused], "stay: over a cap", to(fateRefused), n[fateRefused] > 0, true},
		tile{n[fateLater], "left to later runs", to(fateLater), n[fateLater] > 0, false},
		tile{n[fateUndeletable], "undeletable", to(fateUndeletable), n[fateUndeletable] > 0, true},
		tile{n[fateDeleteRefused], "delete refused", to(fateDeleteRefused), n[fateDeleteRefused] > 0, true},
		tile{n[fateDrifted], "changed meanwhile", to(fateDrifted), n[fateDrifted] > 0, true},
		tile{n[fateNotReached], "not reached", to(fateNotReached), n[fateNotReached] > 0, true},
		tile{n[fateFailed] + n[fateOther], "failed", to(fateFailed, fateOther), n[fateFailed]+n[fateOther] > 0, true},
	)
}

func (a Account) about(m markup) {
	r := a.Result
	instance := r.Instance
	if r.Mount == "" && instance == "" {
		instance = "none: there is no Vault to ask"
	}
	m.facts(
		fact{"Account id", r.AccountID}, fact{"Provider", r.Provider}, fact{"Region", r.Region}, fact{"Vault mount", r.Mount},
		fact{"Engine instance", instance}, fact{"Took", a.Took.Round(time.Millisecond).String()},
	)
}

// charts show the ages and the classes. Both fit a phone: a line a group.
func (a Account) charts(m markup, g *gathered) {
	if g.sum.Seen == 0 {
		return
	}
	m.print("<div class=\"two\">\n<section class=\"card\" aria-labelledby=\"h-ages\"><h2 class=\"first\" id=\"h-ages\">Age</h2>\n")
	m.bars("ages", g.ages)
	m.print(
		"<p class=\"legend\"><span><i class=\"acted\"></i>in the plan</span><span><i class=\"kept\"></i>stays as it is</span></p></section>\n",
	)
	m.print(
		"<section class=\"card\" aria-labelledby=\"h-classes\"><h2 class=\"first\" id=\"h-classes\">Class</h2>\n<table " +
			"id=\"classes\">\n<thead><tr><th scope=\"col\">Class</th>" +
			"<th scope=\"col\" class=\"num\">Keys</th><th scope=\"col\" class=\"num\">In the plan</th><th scope=\"col\" " +
			"class=\"num\">To look at</th></tr></thead>\n<tbody>",
	)
	for _, name := range sweep.Classes() {
		if c := g.classes[name]; c.all > 0 {
			m.print("<tr><td><a href=\"#class=%s\">%s</a></td><td class=\"num\">%s</td><td class=\"num\">%s</td><td class=\"num\">%s</td></tr>\n",
				strings.ReplaceAll(string(name), " ", "+"), name, thousands(int(c.all)), thousands(int(c.planned)), thousands(int(c.look)))
		}
	}
	m.print("</tbody></table></section>\n</div>\n")
}

// keys is the list, with its controls. What only a script can serve stays hidden without one.
func (a Account) keys(m markup, g *gathered) {
	m.print("\n<h2 id=\"list\">Keys</h2>\n")
	a.tools(m, g)
	plain := g.plain()
	m.print(
		"<p class=\"plain note\">Without script this page shows the first %s, those that need a person first, of %s. The CSV file "+
			"beside it has all of them.</p>\n",
		plural(len(plain), "key"),
		thousands(g.sum.Seen),
	)
	m.print(
		"<div class=\"card list\"><table id=\"keys\" class=\"keys\" role=\"table\" aria-label=\"Keys\">\n<thead " +
			"role=\"rowgroup\"><tr role=\"row\">",
	)
	for _, c := range [][3]string{
		{"Access key", ""},
		{"User", "user"},
		{"Created", "created"},
		{"Expires", "expires"},
		{"Last used", "used"},
		{"Class", "class"},
		{"What happens", "need"},
		{"Why", ""},
	} {
		switch {
		case c[1] == "used" && !g.used:
		case c[1] == "":
			m.print("<th scope=\"col\" role=\"columnheader\">%s</th>", c[0])
		default:
			m.print("<th scope=\"col\" role=\"columnheader\" data-sort=\"%s\">%s</th>", c[1], c[0])
		}
	}
	m.print("</tr></thead>\n<tbody>")
	views := fates()
	for _, k := range plain {
		k.row(m, views, g.used, a.Started)
	}
	m.print("</tbody></table>\n<p class=\"scripted soft\" id=\"none\" hidden>No key fits these filters.</p>\n" +
		"<p class=\"soft\" id=\"cut\" hidden>The first 20,000 lines are printed; the CSV file has all.</p></div>\n")
	a.plainUsers(m, g)
}

// row is a key as script/account.js draws it, too.
func (k keyJSON) row(m markup, views [fateStays + 1]fateView, used bool, now time.Time) {
	state := "switched off"
	if k.Active {
		state = "active"
	}
	if views[k.fate].Done {
		state = "was " + state
	}
	m.print(
		"<tr class=\"row\" role=\"row\"><td class=\"first\" role=\"cell\" data-label=\"Access key\"><code>%s</code><span "+
			"class=\"small state\">%s</span></td>",
		k.AccessKey,
		state,
	)
	m.print("<td class=\"user\" role=\"cell\" data-label=\"User\">")
	if k.User == "" {
		m.print("<span class=\"soft\">signing identity</span></td>")
	} else {
		m.print("%s</td>", k.User)
	}
	created, age := "unknown", ""
	if !k.Created.IsZero() {
		created, age = day(k.Created), plural(k.AgeDays, "day")
	}
	m.print("<td class=\"when\" role=\"cell\" data-label=\"Created\">%s<span class=\"small\">%s</span></td>", created, age)
	if k.End.IsZero() {
		m.print("<td class=\"when\" role=\"cell\" data-label=\"Expires\"><b>never</b></td>")
	} else {
		m.print("<td class=\"when\" role=\"cell\" data-label=\"Expires\">%s<span class=\"small\">%s</span></td>", day(k.End),
			remaining(k.End, now))
	}
	switch {
	case used && k.LastUsed.IsZero():
		m.print("<td class=\"when\" role=\"cell\" data-label=\"Last used\"><span class=\"soft\">–</span></td>")
	case used:
		m.print("<td class=\"when\" role=\"cell\" data-label=\"Last used\">%s</td>", day(k.LastUsed))
	}
	m.print("<td role=\"cell\" data-label=\"Class\"><span class=\"badge\">%s</span></td>", k.Class)
	m.print("<td role=\"cell\" data-label=\"What happens\"><span class=\"badge %s\">%s</span></td>", views[k.fate].Style, k.Happens)
	m.print("<td class=\"why\" role=\"cell\" data-label=\"Why\">%s<span class=\"small\">%s</span></td></tr>\n", k.Reason, k.Detail)
}

func remaining(end, now time.Time) string {
	left := end.Sub(now).Abs()
	text := plural(int(left/(24*time.Hour)), "day")
	if left < 24*time.Hour {
		text = strconv.Itoa(max(1, int(left.Round(time.Hour)/time.Hour))) + " h"
	}
	if end.After(now) {
		return "in " + text
	}
	return text + " ago"
}

// plainUsers groups by user for readers without script: a script does it for all of them.
func (a Account) plainUsers(m markup, g *gathered) {
	m.print(
		"<div class=\"plain\"><h2>Users</h2>\n<div class=\"card\"><table id=\"users\">\n<thead><tr><th scope=\"col\">User</th><th " +
			"scope=\"col\" class=\"num\">Keys</th>" +
			"<th scope=\"col\" class=\"num\">In the plan</th><th scope=\"col\" class=\"num\">To look at</th></tr></thead>\n<tbody>",
	)
	for _, name := range g.neediest() {
		u, label := g.users[name], name
		if label == "" {
			label = "signing identity"
		}
		m.print(
			"<tr><td>%s</td><td class=\"num\">%s</td><td class=\"num\">%s</td><td class=\"num\">%s</td></tr>\n",
			label,
			thousands(int(u.all)),
			thousands(int(u.planned)),
			thousands(int(u.look)),
		)
	}
	m.print("</tbody></table>")
	if more := len(g.users) - plainUsers; more > 0 {
		m.print("<p class=\"soft\">and %s, with less to look at, in the CSV file</p>", plural(more, "more user"))
	}
	m.print("</div></div>\n")
}

// tools are the filters. Their values are what account.js reads.
func (a Account) tools(m markup, g *gathered) {
	m.print("<form class=\"scripted tools\" role=\"search\" aria-label=\"Filter and sort\" hidden>\n" +
		"<label class=\"wide\">Search<input id=\"q\" type=\"search\" autocomplete=\"off\" placeholder=\"key, user, reason\"></label>\n" +
		"<label>User<input id=\"user\" type=\"search\" autocomplete=\"off\"></label>\n")
	classes := [][2]string{{"", "any"}}
	for i, name := range sweep.Classes() {
		if g.classes[name].all > 0 {
			classes = append(classes, [2]string{strconv.Itoa(i), string(name)})
		}
	}
	happens := [][2]string{{"", "any"}, {"need", "needs a person"}, {"plan", "in the plan"}}
	for i, view := range fates() {
		if g.fates[i] > 0 {
			happens = append(happens, [2]string{strconv.Itoa(i), view.Name})
		}
	}
	m.choice("class", "Class", classes)
	m.choice("fate", "What happens", happens)
	m.choice("age", "Age", [][2]string{
		{"", "any"},
		{"1", "under 1 day"},
		{"7", "1–7 days"},
		{"30", "7–30 days"},
		{"90", "30–90 days"},
		{"180", "90–180 days"},
		{"365", "180–365 days"},
		{"more", "over 1 year"},
		{"unknown", "unknown"},
	})
	m.choice(
		"expires",
		"Expires",
		[][2]string{
			{"", "any"},
			{"never", "never"},
			{"past", "in the past"},
			{"1", "within 1 day"},
			{"7", "within 7 days"},
			{"30", "within 30 days"},
		},
	)
	m.choice("active", "State", [][2]string{{"", "any"}, {"1", "active"}, {"0", "switched off"}})
	m.choice("group", "Group by", [][2]string{{"class", "class"}, {"user", "user"}, {"fate", "what happens"}, {"", "nothing"}})
	sorts := [][2]string{{"need", "urgency"}, {"created", "created"}, {"expires", "expires"}, {"user", "user"}, {"class", "class"}}
	if g.used {
		sorts = append(sorts, [2]string{"used", "last used"})
	}
	m.choice("sort", "Sort by", sorts)
	m.print("<button type=\"button\" id=\"turn\">Reverse</button>\n<button type=\"button\" id=\"clear\">Clear filters</button>\n")
	m.print("</form>\n<p class=\"scripted status\" hidden><span id=\"status\" role=\"status\"></span>")
	if a.WholeIDs {
		m.print(" · <label><input type=\"checkbox\" id=\"whole\"> whole ids</label>")
	}
	m.print("</p>\n")
}

func (m markup) choice(id, label string, options [][2]string) {
	m.print("<label>%s<select id=\"%s\">", label, id)
	for _, o := range options {
		m.print("<option value=\"%s\">%s</option>", o[0], o[1])
	}
	m.print("</select></label>\n")
}

// data writes the keys for the script, one a line, and returns how many it left out. A block of
// data runs nowhere, and its letters < and & are escaped, so that nothing in it ends it.
func (a Account) data(m markup, g *gathered) (left int, err error) {
	index := map[sweep.Class]int{}
	for i, name := range sweep.Classes() {
		index[name] = i
	}
	head, err := json.Marshal(struct {
		Now     int64         `json:"now"`
		Whole   bool          `json:"whole"`
		Used    bool          `json:"used"`
		Classes []sweep.Class `json:"classes"`
		Fates   any           `json:"fates"`
	}{a.Started.Unix(), a.WholeIDs, g.used, sweep.Classes(), fates()})
	if err != nil {
		return 0, err
	}
	m.out.WriteString("<script type=\"application/json\" id=\"data\">")
	m.out.Write(head[:len(head)-1])
	m.out.WriteString(",\"rows\":[")
	var line bytes.Buffer
	encoder, separator, written := json.NewEncoder(&line), "\n", 0
	write := func(k keyJSON) error {
		if written == pageRows || *m.bytes > pageBytes {
			left++
			return nil
		}
		written++
		line.Reset()
		row := [10]any{
			visible(k.AccessKey),
			visible(k.User),
			count(k.Active),
			unix(k.Created),
			unix(k.End),
			unix(k.LastUsed),
			index[k.Class],
			int(k.fate),
			visible(k.Reason),
			visible(k.Detail),
		}
		if err := encoder.Encode(&row); err != nil {
			return err
		}
		m.out.WriteString(separator)
		m.out.Write(bytes.TrimSpace(line.Bytes()))
		separator = ",\n"
		return nil
	}
	for _, staying := range []bool{false, true} { // so that what there is no room for stays as it is
		for f, err := range a.Findings {
			if err != nil {
				return 0, err
			}
			if (fateOf(f) == fateStays) != staying {
				continue
			}
			if err := write(showKey(f, a.Started, a.WholeIDs)); err != nil {
				return 0, err
			}
		}
	}
	m.out.WriteString("\n]}</script>\n")
	return left, nil
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, t.Unix())
}
