// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// Index is the page of a run: one row an account. It is written when the run begins, while it goes
// on, and when it ends, so that there is one whatever becomes of the run.
type Index struct {
	About   About
	Mode    string
	ModeWhy string
	Started time.Time
	Took    time.Duration // 0: it is not over
	Sums    []Sum         // of every account of the run, those that were not reached too

	OwnersTold bool
	Unmatched  []string
	Verdict    string // what was decided of all accounts together; empty: each was decided on by itself
	Approval   *Approval
	Plan       *Plan  // written or applied by the run; nil: it has none in a file
	Problem    string // why the run ended before it came to an account; empty: it did come to one
}

// Plan is a plan in a file of its own, which one run writes and another applies.
type Plan struct {
	Made    time.Time `json:"made"`
	SHA256  string    `json:"sha256"` // of the file
	Applied bool      `json:"applied"`
}

// Approval is what is known of a run that a person was asked about.
type Approval struct {
	Asked time.Time `json:"asked,omitzero"`
	// Answer is what the approver's answer says, word for word. Nobody has checked it: who may
	// answer at all is decided by rights.
	Answer   string    `json:"answer,omitempty"`
	Answered time.Time `json:"answered,omitzero"`
	// Refused tells that the answer is no; Late, that none came in time. Nothing was applied then.
	Refused bool `json:"refused,omitempty"`
	Late    bool `json:"late,omitempty"`
}

// Given tells whether somebody was asked, and said yes.
func (a *Approval) Given() bool { return a != nil && !a.Answered.IsZero() && !a.Refused && !a.Late }

// need sorts accounts: what a person must look at first.
func (s Sum) need() int {
	switch {
	case s.Problem != "":
		return 0
	case s.Failed > 0:
		return 1
	case s.Tripped != "":
		return 2
	case !s.Reached:
		return 3
	case s.UnreadUsers > 0 || s.Partial || s.Unsettled > 0:
		return 4
	case s.Undeletable > 0:
		return 5
	case s.Look > 0:
		return 6
	case s.Planned > s.SwitchedOff+s.Deleted+s.Told:
		return 7
	case s.NeverExpires > 0:
		return 8
	default:
		return 9
	}
}

func (s Sum) state() (text, style string) {
	return []string{
			"given up", "keys failed", "over a cap", "not reached", "not whole", "undeletable keys", "to look at", "planned", "in order", "in order",
		}[s.need()],
		[]string{"bad", "bad", "warn", "warn", "warn", "warn", "warn", "act", "good", "good"}[s.need()]
}

// sorted are the rows in the order of the page.
func (x Index) sorted() []Sum {
	sums := slices.Clone(x.Sums)
	weight := func(s Sum) int { return s.Failed + s.Unsettled + s.Undeletable + s.Look + s.Planned + s.UnreadUsers }
	slices.SortFunc(sums, func(a, b Sum) int {
		return cmp.Or(
			cmp.Compare(a.need(), b.need()),
			cmp.Compare(weight(b), weight(a)),
			cmp.Compare(b.NeverExpires, a.NeverExpires),
			cmp.Compare(a.Account, b.Account),
		)
	})
	return sums
}

// total adds all accounts up.
func (x Index) total() Sum {
	total := Sum{Reached: true}
	for _, s := range x.Sums {
		total = total.Add(s)
	}
	return total
}

// JSON writes the index for machines.
func (x Index) JSON(w io.Writer) error {
	err := json.NewEncoder(w).Encode(struct {
		head
		Done      bool      `json:"done"`
		Told      bool      `json:"owners_told"`
		Verdict   string    `json:"verdict,omitempty"`
		Approval  *Approval `json:"approval,omitempty"`
		Plan      *Plan     `json:"plan,omitempty"`
		Problem   string    `json:"problem,omitempty"`
		Unmatched []string  `json:"unmatched_patterns,omitempty"`
		Accounts  []Sum     `json:"accounts"`
	}{
		headOf(x.About, x.Mode, x.ModeWhy, x.Started, x.Took), x.Took > 0, x.OwnersTold, x.Verdict, x.Approval, x.Plan, x.Problem, x.Unmatched,
		append([]Sum{}, x.sorted()...),
	})
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// HTML writes the index for people.
func (x Index) HTML(w io.Writer) error {
	m := newMarkup(w)
	total := x.total()
	m.begin("Access keys — "+day(x.Started), indexJS)
	style := "good"
	if x.Mode == settings.Enforce {
		style = "act"
	}
	m.print(
		"<a class=\"skip\" href=\"#list\">To the accounts</a>\n<header class=\"top\">\n  <div>\n    <h1>Access keys of %s</h1>\n   "+
			" <p class=\"soft\">%s</p>\n  </div>\n",
		plural(len(x.Sums), "account"),
		moment(x.Started),
	)
	m.print("  <p class=\"links\"><span id=\"mode\" class=\"badge mode %s\">%s</span></p>\n</header>\n", style, x.Mode)
	x.notes(m, total)
	n := x.accounts()
	m.tiles(
		tile{total.Seen, "keys seen", "", true, false},
		tile{total.Planned, "planned", "#which=planned", true, true},
		tile{total.SwitchedOff, "switched off", "#which=changed", x.Mode == settings.Enforce || total.SwitchedOff > 0, false},
		tile{total.Deleted, "deleted", "#which=changed", x.Mode == settings.Enforce || total.Deleted > 0, false},
		tile{total.Told, "owners told", "", total.Told > 0, false},
		tile{total.Look, "to look at", "#which=look", true, true},
		tile{total.NeverExpires, "never expire", "#which=never", true, true},
		tile{total.Waiting, "in quarantine", "", true, false},
		tile{total.Later, "left to later runs", "", total.Later > 0, false},
		tile{total.Undeletable, "undeletable", "", total.Undeletable > 0, true},
		tile{total.Failed, "keys failed", "#which=failed", total.Failed > 0, true},
		tile{n.tripped, "accounts over a cap", "#which=need", n.tripped > 0, true},
		tile{n.stopped, "accounts given up", "#which=need", n.stopped > 0, true},
		tile{n.notReached, "accounts not reached", "#which=need", n.notReached > 0, true},
	)
	if len(total.PlannedByClass) > 0 {
		m.print("<p class=\"note\" id=\"classes\"><b>Planned, by class:</b> %s</p>\n", byClass(total.PlannedByClass))
	}
	x.list(m)
	m.print("<p class=\"links noprint\"><a href=\"./index.json\" download>This page as JSON</a></p>\n")
	return m.end(x.About, "", indexJS)
}

type accountCounts struct{ tripped, stopped, notReached int }

func (x Index) accounts() (n accountCounts) {
	for _, s := range x.Sums {
		n.tripped += count(s.Tripped != "")
		n.stopped += count(s.Problem != "")
		n.notReached += count(!s.Reached)
	}
	return n
}

func (x Index) notes(m markup, total Sum) {
	notifies(m, x.OwnersTold)
	if x.Problem != "" {
		m.print("<p class=\"note bad\" id=\"problem\"><b>The run ended before it came to an account.</b> %s</p>\n", sentence(x.Problem))
	}
	switch {
	case x.Mode != settings.Enforce:
		why := ""
		if x.ModeWhy != "" {
			why = " (" + x.ModeWhy + ")"
		}
		m.print("<p class=\"note good\" id=\"happens\"><b>Nothing was changed:</b> this run reports%s.</p>\n", why)
	default:
		m.print("<p class=\"note act\" id=\"happens\"><b>%s switched off, %s deleted%s.</b></p>\n",
			plural(total.SwitchedOff, "key"), thousands(total.Deleted), map[bool]string{true: "", false: " so far"}[x.Took > 0])
	}
	if x.Verdict != "" {
		m.print("<p class=\"note\" id=\"verdict\"><b>Decided of all accounts together:</b> %s</p>\n", x.Verdict)
	}
	x.plan(m)
	x.approval(m, total)
	if x.Took == 0 {
		m.print(
			"<p class=\"note warn\"><b>This run is not over, or it ended early.</b> The rows below say what is known of each account; " +
				"the page is written again when the run ends.</p>\n",
		)
	}
	unmatched(m, x.Unmatched)
}

// plan tells which plan was applied. It names nobody, and so does this page.
func (x Index) plan(m markup) {
	switch {
	case x.Plan == nil:
	case x.Plan.Applied:
		m.print("<p class=\"note\" id=\"plan\"><b>Applied was a plan of %s.</b> Whoever ran the command with it has approved it: "+
			"neither names anybody. "+
			"Its file’s SHA-256 is <code class=\"sum\">%s</code>.</p>\n", moment(x.Plan.Made), x.Plan.SHA256)
	default:
		m.print("<p class=\"note\" id=\"plan\"><b>The run wrote a plan.</b> Its file’s SHA-256 is <code class=\"sum\">%s</code>: the "+
			"page of a run that "+
			"applies it names the same.</p>\n", x.Plan.SHA256)
	}
}

// approval says who approved. Where nobody was asked, that is the answer.
func (x Index) approval(m markup, total Sum) {
	switch {
	case x.Approval == nil:
		if x.Plan == nil && total.SwitchedOff+total.Deleted+total.Told > 0 {
			m.print("<p class=\"note\" id=\"approval\"><b>Nobody was asked to approve.</b> The run applies what its settings and caps allow.</p>\n")
		}
	case x.Approval.Late:
		m.print("<p class=\"note warn\" id=\"approval\"><b>Nobody approved:</b> a person was asked on %s, and had not answered by %s. "+
			"Nothing is applied.</p>\n",
			moment(x.Approval.Asked), moment(x.Approval.Answered))
	case x.Approval.Refused:
		m.print("<p class=\"note warn\" id=\"approval\"><b>Not approved on %s.</b> Nothing is applied. The answer says, and nobody "+
			"has checked it: <q>%s</q></p>\n",
			moment(x.Approval.Answered), x.Approval.Answer)
	case x.Approval.Answered.IsZero():
		m.print(
			"<p class=\"note warn\" id=\"approval\"><b>A person was asked on %s.</b> Nothing is applied before an answer. Where this "+
				"page names none, nobody has approved.</p>\n",
			moment(x.Approval.Asked),
		)
	case x.Approval.Answer == "":
		m.print("<p class=\"note\" id=\"approval\"><b>Approved on %s.</b> The answer does not say by whom.</p>\n", moment(x.Approval.Answered))
	default:
		m.print("<p class=\"note\" id=\"approval\"><b>Approved on %s.</b> The approver’s answer says, and nobody has checked it: "+
			"<q>%s</q></p>\n",
			moment(x.Approval.Answered), x.Approval.Answer)
	}
}

func (x Index) list(m markup) {
	m.print("\n<h2 id=\"list\">Accounts, those that need a person first</h2>\n")
	m.print(
		"<form class=\"scripted tools\" role=\"search\" aria-label=\"Filter\" hidden>\n<label class=\"wide\">Search<input id=\"q\" " +
			"type=\"search\" autocomplete=\"off\"></label>\n",
	)
	m.choice("which", "Accounts", [][2]string{
		{"", "all"},
		{"need", "that need a person"},
		{"never", "with keys that never expire"},
		{"changed", "with changed keys"},
		{"planned", "with planned keys"},
		{"look", "with keys to look at"},
		{"failed", "with keys that failed"},
	})
	m.print("</form>\n<p class=\"scripted status\" id=\"status\" role=\"status\" hidden></p>\n")
	if len(x.Sums) == 0 {
		m.print("<p class=\"soft\">The run has no account.</p>\n")
	}
	m.print(
		"<div class=\"card list\"><table id=\"accounts\" class=\"keys few\" role=\"table\" aria-label=\"Accounts\">\n<thead " +
			"role=\"rowgroup\"><tr role=\"row\"><th scope=\"col\" role=\"columnheader\">Account</th>" +
			"<th scope=\"col\" role=\"columnheader\">State</th>",
	)
	columns := []string{"Seen", "Planned", "Switched off", "Deleted", "To look at", "Never expire", "Failed"}
	if x.Mode != settings.Enforce {
		columns = slices.Delete(columns, 2, 4)
	}
	for _, name := range columns {
		m.print("<th scope=\"col\" role=\"columnheader\" class=\"num\">%s</th>", name)
	}
	m.print("<th scope=\"col\" role=\"columnheader\">Last good run</th></tr></thead>\n<tbody>\n")
	for _, s := range x.sorted() {
		x.row(m, s)
	}
	m.print("</tbody></table></div>\n")
}

// is names the choices of the page that an account belongs to.
func (s Sum) is() (names []string) {
	for _, one := range []struct {
		name string
		is   bool
	}{
		{"need", s.need() < 7},
		{"never", s.NeverExpires > 0},
		{"changed", s.SwitchedOff+s.Deleted > 0},
		{"planned", s.Planned > 0},
		{"look", s.Look > 0},
		{"failed", s.Failed > 0},
	} {
		if one.is {
			names = append(names, one.name)
		}
	}
	return names
}

func (x Index) row(m markup, s Sum) {
	m.print("<tr class=\"row\" role=\"row\" data-is=\"%s\">", strings.Join(s.is(), " "))
	m.print("<td class=\"first\" role=\"cell\" data-label=\"Account\">")
	if s.Reached {
		m.print("<a href=\"%s\"><b>%s</b></a>", linkTo(FileName(s.Account, 0)+".html"), s.Account)
	} else {
		m.print("<b>%s</b>", s.Account)
	}
	for part := 1; part <= s.Part; part++ { // the name leads to the first
		m.print(" <a href=\"%s\">part %d</a>", linkTo(FileName(s.Account, part)+".html"), part+1)
	}
	about := s.Provider
	for _, more := range []string{s.Region, s.AccountID} {
		if more != "" {
			about += " · " + more
		}
	}
	text, style := s.state()
	m.print(
		"<span class=\"small\">%s</span></td><td class=\"whole\" role=\"cell\" data-label=\"State\"><span class=\"badge "+
			"%s\">%s</span><span class=\"small\">%s</span></td>",
		strings.TrimPrefix(about, " · "),
		style,
		text,
		s.why(),
	)
	to := func(name string, n int, filter string) { // of an account in parts, no one page has the keys of a number
		m.print("<td class=\"num\" role=\"cell\" data-label=\"%s\">", name)
		if n > 0 && s.Reached && s.Part == 0 && filter != "" {
			m.print("<a href=\"%s#%s\">%s</a></td>", linkTo(FileName(s.Account, 0)+".html"), filter, thousands(n))
		} else {
			m.print("%s</td>", thousands(n))
		}
	}
	to("Seen", s.Seen, "")
	to("Planned", s.Planned, "fate=plan")
	if x.Mode == settings.Enforce {
		to("Switched off", s.SwitchedOff, withFates(fateOff))
		to("Deleted", s.Deleted, withFates(fateDeleted, fateGone))
	}
	to("To look at", s.Look, withFates(fateLook))
	to("Never expire", s.NeverExpires, "expires=never")
	to("Failed", s.Failed, withFates(fateFailed, fateNotTold, fateDeleteRefused, fateOther))
	m.print("<td class=\"when\" role=\"cell\" data-label=\"Last good run\">")
	switch {
	case s.Good():
		m.print("this one")
	case s.LastGood.IsZero():
		m.print("none known")
	default:
		m.print("%s", day(s.LastGood))
	}
	m.print("</td></tr>\n")
}

// why says more of an account's state.
func (s Sum) why() string {
	switch {
	case s.Problem != "":
		return s.Problem
	case s.Tripped != "":
		return s.Tripped + ": nothing is applied"
	case !s.Reached:
		return "the run has not come to it"
	case s.UnreadUsers > 0:
		return "the keys of " + plural(s.UnreadUsers, "user") + " could not be read"
	case s.Partial:
		return "time ran out: a later run goes on"
	case s.Unsettled > 0:
		return plural(s.Unsettled, "key") + " changed meanwhile or not reached"
	default:
		return ""
	}
}

// Lines are the sums by account as a message has them, those that need most first: some, and how
// many more there are.
func (x Index) Lines(most int) []string {
	var lines []string
	more := 0
	for _, s := range x.sorted() {
		switch {
		case s.Planned == 0 && s.need() > 5:
		case len(lines) == most:
			more++
		default:
			lines = append(lines, s.line())
		}
	}
	if more > 0 {
		lines = append(lines, "and "+plural(more, "more account")+": see the page")
	}
	return lines
}

func (s Sum) line() string {
	text, _ := s.state()
	line := fmt.Sprintf("%s: %s of %s planned", s.Account, thousands(s.Planned), plural(s.Seen, "key"))
	if len(s.PlannedByClass) > 0 {
		line += " (" + byClass(s.PlannedByClass) + ")"
	}
	if s.need() < 6 {
		line += "; " + text
		if why := s.why(); why != "" {
			line += ": " + why
		}
	}
	return line
}

func byClass(planned map[sweep.Class]int) string {
	var classes []string
	for _, class := range sweep.Classes() {
		if n := planned[class]; n > 0 {
			classes = append(classes, thousands(n)+" "+string(class))
		}
	}
	return strings.Join(classes, ", ")
}
