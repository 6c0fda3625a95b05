// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

const (
	// pageSections is how many accounts a policy sync's page tells about at length, and pageBlockers
	// how many keys it names in all.
	pageSections, pageBlockers = 500, 20_000
)

// Policy is what a policy sync's page is made of.
type Policy struct {
	About    About
	Result   policysync.Result
	WholeIDs bool
}

// HTML writes a policy sync as one page: what each account's policy is and should be, what is in
// the way, and what the next runs do.
func (p Policy) HTML(w io.Writer) error {
	m := newMarkup(w)
	r := p.Result
	style := "good"
	if r.Mode == settings.Enforce {
		style = "act"
	}
	m.begin("Access policies — "+day(r.Started), "")
	m.print(
		"<a class=\"skip\" href=\"#list\">To the accounts</a>\n<header class=\"top\">\n  <div>\n    <h1>Access policies of "+
			"%s</h1>\n    <p class=\"soft\">%s</p>\n  </div>\n",
		plural(len(r.Accounts), "account"),
		moment(r.Started),
	)
	m.print("  <p class=\"links\"><span id=\"mode\" class=\"badge mode %s\">%s</span></p>\n</header>\n", style, r.Mode)
	p.notes(m)
	p.tiles(m)
	sorted := p.sorted()
	p.list(m, sorted)
	named := 0
	for i, a := range sorted[:min(len(sorted), pageSections)] {
		named += p.section(m, i, a, pageBlockers-named)
	}
	if more := len(sorted) - pageSections; more > 0 {
		m.print("<p class=\"note\">What is in the way of %s stands in the JSON file alone.</p>\n", plural(more, "more account"))
	}
	m.print("<p class=\"links noprint\"><a href=\"./index.json\" download>This page as JSON</a></p>\n")
	return m.end(p.About, "", "")
}

func (p Policy) notes(m markup) {
	r := p.Result
	if r.Mode != settings.Enforce {
		why := ""
		if r.ModeWhy != "" {
			why = " (" + r.ModeWhy + ")"
		}
		m.print(
			"<p class=\"note good\" id=\"happens\"><b>Nothing was changed:</b> this run reports%s. What follows is what an enforcing "+
				"run would do.</p>\n",
			why,
		)
	}
	if r.Tuned > 0 {
		did := "was lowered"
		if r.Mode != settings.Enforce {
			did = "would be lowered"
		}
		m.print("<p class=\"note\">The mount's longest lease %s to %s.</p>\n", did, length(r.Tuned))
	}
}

func (p Policy) tiles(m markup) {
	var inStep, changed, blocked, failed, keys int
	for _, a := range p.Result.Accounts {
		inStep += count(!a.Drift() && a.Problem == "")
		changed += count(a.Action.Changes())
		blocked += count(a.Action == policysync.ActionBlocked)
		failed += count(a.Problem != "")
		keys += a.BlockerCount
	}
	doing := "to be changed"
	if p.Result.Mode == settings.Enforce {
		doing = "changed"
	}
	m.tiles(
		tile{
			len(p.Result.Accounts),
			"accounts",
			"",
			true,
			false,
		},
		tile{inStep, "as wanted", "", true, false},
		tile{changed, doing, "", true, false},
		tile{blocked, "blocked", "", true, true},
		tile{keys, "keys in the way", "", true, true},
		tile{failed, "given up", "", failed > 0, true},
	)
}

// sorted are the accounts, those that need a person first.
func (p Policy) sorted() []policysync.AccountResult {
	accounts := slices.Clone(p.Result.Accounts)
	slices.SortStableFunc(accounts, func(a, b policysync.AccountResult) int {
		return cmp.Or(cmp.Compare(policyNeed(a), policyNeed(b)), cmp.Compare(b.BlockerCount, a.BlockerCount), cmp.Compare(a.Account, b.Account))
	})
	return accounts
}

func policyNeed(a policysync.AccountResult) int {
	switch {
	case a.Problem != "":
		return 0
	case a.Action == policysync.ActionBlocked:
		return 1
	case a.Partial:
		return 2
	case a.BlockerCount > 0:
		return 3
	case a.Drift():
		return 4
	default:
		return 5
	}
}

func policyState(a policysync.AccountResult) (text, style string) {
	switch {
	case a.Problem != "":
		return "given up", "bad"
	case a.Partial:
		return "not whole", "warn"
	case a.Action == policysync.ActionBlocked:
		return "blocked", "warn"
	case a.Action == policysync.ActionReport:
		return "has no policy", ""
	case a.Action.Changes():
		return string(a.Action), "act"
	default:
		return "in step", "good"
	}
}

func (p Policy) list(m markup, sorted []policysync.AccountResult) {
	m.print(
		"\n<h2 id=\"list\">Accounts, those that need a person first</h2>\n<div class=\"card list\"><table id=\"accounts\" " +
			"class=\"keys\" role=\"table\" aria-label=\"Accounts\">\n<thead role=\"rowgroup\"><tr role=\"row\">",
	)
	after := "Would become"
	if p.Result.Mode == settings.Enforce {
		after = "Is now"
	}
	for _, name := range []string{"Account", "State", "Was", "Wanted", after, "Keys in the way", "Why"} {
		m.print("<th scope=\"col\" role=\"columnheader\">%s</th>", name)
	}
	m.print("</tr></thead>\n<tbody>\n")
	for i, a := range sorted {
		text, style := policyState(a)
		m.print("<tr class=\"row\" role=\"row\"><td class=\"first\" role=\"cell\" data-label=\"Account\">")
		if i < pageSections {
			m.print("<a href=\"#a%d\"><b>%s</b></a>", i, a.Account)
		} else {
			m.print("<b>%s</b>", a.Account)
		}
		m.print(
			"<span class=\"small\">%s</span></td><td role=\"cell\" data-label=\"State\"><span class=\"badge %s\">%s</span></td>",
			identity(a),
			style,
			text,
		)
		was, wanted, now := limit(a.Before), limit(a.Wanted), limit(a.After)
		if a.Action == policysync.ActionReport || a.Problem != "" && a.Wanted == 0 {
			was, wanted, now = "–", "–", "–"
		}
		m.print(
			"<td role=\"cell\" data-label=\"Was\">%s</td><td role=\"cell\" data-label=\"Wanted\">%s</td><td role=\"cell\" data-label=\"%s\">%s</td>"+
				"<td role=\"cell\" data-label=\"Keys in the way\">%s</td><td class=\"why\" role=\"cell\" data-label=\"Why\">%s</td></tr>\n",
			was,
			wanted,
			after,
			now,
			thousands(a.BlockerCount),
			cmp.Or(a.Problem, a.Reason),
		)
	}
	m.print("</tbody></table></div>\n")
}

func identity(a policysync.AccountResult) string {
	text := a.Provider
	for _, more := range []string{a.Region, a.AccountID} {
		if more != "" {
			text += " · " + more
		}
	}
	return text
}

// section tells of one account at length: the chart, what comes next, and the keys in the way by
// user. It returns how many keys it has named.
func (p Policy) section(m markup, index int, a policysync.AccountResult, room int) int {
	m.print("\n<section aria-labelledby=\"a%d\"><h2 id=\"a%d\">%s</h2>\n", index, index, a.Account)
	if a.Problem != "" {
		m.print("<p class=\"note bad\"><b>Given up.</b> %s. The next run tries again.</p>\n", strings.TrimSuffix(a.Problem, "."))
	}
	if a.Problem != "" && a.Lives == (policysync.Lives{}) { // it ended before a key was seen
		m.print("</section>\n")
		return 0
	}
	if a.Action == policysync.ActionReport {
		m.print("<p class=\"soft\">%s.</p>\n</section>\n", a.Reason)
		return 0
	}
	m.print("<div class=\"two\">\n<div class=\"card\"><h3>What is left of the keys' lives</h3>\n")
	m.bars("lives-"+strconv.Itoa(index), lives(a))
	m.print(
		"<p class=\"legend\"><span><i class=\"acted\"></i>in the way</span><span><i class=\"kept\"></i>fit the wanted policy</span></p></div>\n",
	)
	m.print("<div class=\"card\"><h3>What comes next</h3>\n<p>%s</p>\n", p.next(a))
	m.facts(
		fact{"Policy was", limit(a.Before)},
		fact{"Wanted", limit(a.Wanted)},
		fact{map[bool]string{true: "Policy now", false: "Would become"}[p.Result.Mode == settings.Enforce], limit(a.After)},
		fact{"Dates brought forward", strconv.Itoa(a.Shortened)},
		fact{"Account id", a.AccountID},
	)
	m.print("</div>\n</div>\n")
	named := p.blockers(m, a, room)
	m.print("</section>\n")
	return named
}

// lives is the chart: the groups in which the limits lie say so.
func lives(a policysync.AccountResult) []bar {
	var bars []bar
	for i, name := range policysync.LifeGroups() {
		b := bar{name: name, n: a.Lives.Keys[i], marked: a.Lives.InTheWay[i]}
		if a.Before > 0 && policysync.LifeGroup(a.Before) == i {
			b.note = "policy was " + limit(a.Before)
		}
		if a.Wanted > 0 && policysync.LifeGroup(a.Wanted) == i {
			if b.note != "" {
				b.note += ", "
			}
			b.note += "wanted " + limit(a.Wanted)
		}
		bars = append(bars, b)
	}
	return bars
}

// next says what the following runs do with the policy.
func (p Policy) next(a policysync.AccountResult) string {
	if a.Problem != "" {
		return "The next run tries again."
	}
	if a.Partial {
		return "Time ran out before all users were looked at: the next run goes on, and decides."
	}
	ends := p.clear(a)
	switch {
	case a.Action == policysync.ActionTighten || a.Action == policysync.ActionLoosen:
		return sentence(a.Reason)
	case a.Action == policysync.ActionRatchet:
		return sentence(
			a.Reason,
		) + " Each run lowers it further, to just above what the longest-lived key has left, until " + limit(
			a.Wanted,
		) + " is reached" + ends + "."
	case a.Action == policysync.ActionBlocked:
		return sentence(a.Reason) + " The policy stays until then" + ends + "."
	default:
		return sentence(a.Reason)
	}
}

// clear tells when the named keys are out of the way by themselves.
func (p Policy) clear(a policysync.AccountResult) string {
	var last time.Time
	for _, b := range a.Blockers {
		if b.Expires.IsZero() {
			return "; keys that never expire do not get out of the way by themselves"
		}
		if b.Expires.After(last) {
			last = b.Expires
		}
	}
	if last.IsZero() || len(a.Blockers) < a.BlockerCount {
		return ""
	}
	return ", on " + day(last.Add(-a.Wanted)) + " if no key is added"
}

func sentence(reason string) string {
	if reason == "" {
		return ""
	}
	first := []rune(reason)
	return strings.TrimSuffix(string(append([]rune{toUpper(first[0])}, first[1:]...)), ".") + "."
}

func toUpper(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

func (p Policy) blockers(m markup, a policysync.AccountResult, room int) int {
	if a.BlockerCount == 0 {
		return 0
	}
	blockers := slices.Clone(a.Blockers)
	slices.SortStableFunc(blockers, func(x, y policysync.Blocker) int { return cmp.Compare(x.User, y.User) })
	blockers = blockers[:min(len(blockers), max(room, 0))]
	m.print(
		"<h3>Keys in the way, by user</h3>\n<div class=\"card list\"><table class=\"keys\" role=\"table\" aria-label=\"Keys in the "+
			"way of %s\">\n<thead role=\"rowgroup\"><tr role=\"row\">",
		a.Account,
	)
	for _, name := range []string{"User", "Access key", "State", "Expires", "Why", "What to do"} {
		m.print("<th scope=\"col\" role=\"columnheader\">%s</th>", name)
	}
	m.print("</tr></thead>\n<tbody>\n")
	for _, b := range blockers {
		id, state, expires := b.AccessKey, "switched off", "never"
		if !p.WholeIDs {
			id = fleet.Mask(id)
		}
		if b.Active {
			state = "active"
		}
		if !b.Expires.IsZero() {
			expires = day(b.Expires)
		}
		m.print(
			"<tr class=\"row\" role=\"row\"><td class=\"first user\" role=\"cell\" data-label=\"User\">%s</td><td role=\"cell\" "+
				"data-label=\"Access key\"><code>%s</code></td>"+
				"<td role=\"cell\" data-label=\"State\">%s</td><td class=\"when\" role=\"cell\" data-label=\"Expires\">%s</td>",
			cmp.Or(b.User, "signing identity"),
			id,
			state,
			expires,
		)
		m.print(
			"<td class=\"why\" role=\"cell\" data-label=\"Why\">%s</td><td class=\"why\" role=\"cell\" data-label=\"What to do\">%s</td></tr>\n",
			b.Reason,
			b.Advice,
		)
	}
	m.print("</tbody></table>")
	if more := a.BlockerCount - len(blockers); more > 0 {
		m.print("<p class=\"soft\">and %s</p>", plural(more, "more key"))
	}
	m.print("</div>\n")
	return len(blockers)
}

// limit is a policy as people say it.
func limit(d time.Duration) string {
	if d == 0 {
		return "unlimited"
	}
	return length(d)
}

func length(d time.Duration) string {
	const oneDay = 24 * time.Hour
	switch {
	case d >= oneDay && d%oneDay == 0:
		return plural(int(d/oneDay), "day")
	case d >= oneDay:
		return plural(int(d/oneDay), "day") + " " + length(d%oneDay)
	case d >= time.Hour && d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	case d >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h " + length(d%time.Hour)
	case d >= time.Minute:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	default:
		return strconv.Itoa(int(d/time.Second)) + " s"
	}
}
