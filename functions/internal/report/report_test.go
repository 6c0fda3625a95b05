// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	. "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

var about = reporttest.About

// accountOf is the account of a real run over a made-up cloud.
func accountOf(result sweep.Result) Account {
	return Account{
		About: about, Mode: result.Mode, ModeWhy: result.ModeWhy, Started: result.Started, Took: result.Took, Result: result.Accounts[0],
		Unmatched: result.Unmatched, Findings: result.Of(result.Accounts[0].Account),
	}
}

func text(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func html(t *testing.T, a Account) string {
	t.Helper()
	return text(t, func(w io.Writer) error { _, err := a.HTML(w); return err })
}

func TestTheJSONReportHasEveryKey(t *testing.T) {
	for _, mode := range []string{settings.Report, settings.Enforce} {
		var got struct {
			Schema   int    `json:"schema_version"`
			Function string `json:"function"`
			Digest   string `json:"settings_digest"`
			Mode     string `json:"mode"`
			Accounts []struct {
				Account   string         `json:"account"`
				AccountID string         `json:"account_id"`
				Counts    map[string]any `json:"counts"`
			} `json:"accounts"`
			Keys []struct {
				AccessKey string        `json:"access_key"`
				Class     sweep.Class   `json:"class"`
				Reason    string        `json:"reason"`
				Action    sweep.Action  `json:"action"`
				Outcome   sweep.Outcome `json:"outcome"`
				Happens   string        `json:"what_happens"`
			} `json:"keys"`
		}
		if err := json.Unmarshal([]byte(text(t, accountOf(reporttest.Result(t, mode)).JSON)), &got); err != nil {
			t.Fatal(err)
		}
		if got.Schema != SchemaVersion || got.Function != about.Function || got.Digest != about.Digest || got.Mode != mode ||
			len(got.Accounts) != 1 {
			t.Errorf("got %+v", got)
		}
		if len(got.Keys) != len(reporttest.IDs()) || got.Accounts[0].Counts["seen"] != float64(len(got.Keys)) ||
			got.Accounts[0].AccountID != "123456789012" {
			t.Errorf("got %d keys and %+v", len(got.Keys), got.Accounts[0])
		}
		outcomes := map[sweep.Outcome]int{}
		for _, key := range got.Keys {
			if key.Class == "" || key.Reason == "" || key.Action == "" || key.AccessKey == "" || key.Happens == "" {
				t.Errorf("got %+v", key)
			}
			outcomes[key.Outcome]++
		}
		if planned := outcomes[sweep.OutcomePlanned]; (planned > 0) != (mode == settings.Report) {
			t.Errorf("got %v", outcomes)
		}
		if refused := outcomes[sweep.OutcomeDeleteRefused] + outcomes[sweep.OutcomeUndeletable]; (refused == 1) != (mode == settings.Enforce) {
			t.Errorf("got %v", outcomes)
		}
	}
}

func TestReportsShowNoSecret(t *testing.T) {
	t.Run("secrets/full key ids absent from logs, report, errors: logs and report", func(t *testing.T) {
		result := reporttest.Result(t, settings.Enforce)
		a := accountOf(result)
		blocked := Policy{About: about, Result: policysync.Result{Accounts: []policysync.AccountResult{{
			BlockerCount: 1, Blockers: []policysync.Blocker{{AccessKey: reporttest.IDs()[0]}},
		}}}}
		var out bytes.Buffer
		for _, write := range []func(io.Writer) error{a.JSON, a.CSV, blocked.JSON, blocked.HTML} {
			out.WriteString(text(t, write))
		}
		out.WriteString(html(t, a))
		slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "swept", SweepSummary(about, result)...)
		for _, id := range reporttest.IDs() {
			if strings.Contains(out.String(), id) {
				t.Errorf("a report shows %s", id)
			}
		}
	})
	t.Run("whole ids stand in the files alone that were asked for", func(t *testing.T) {
		a := accountOf(reporttest.Result(t, settings.Enforce))
		a.WholeIDs = true
		for _, out := range []string{text(t, a.JSON), text(t, a.CSV), html(t, a)} {
			for _, id := range reporttest.IDs() {
				if !strings.Contains(out, id) {
					t.Errorf("%s is missing", id)
				}
			}
		}
	})
}

func TestThePageEscapesWhatTheCloudSent(t *testing.T) {
	for _, mode := range []string{settings.Report, settings.Enforce} {
		page := html(t, reporttest.Account("production", mode, 500))
		if strings.Count(page, "<script") != 2 || strings.Count(page, "</script>") != 2 || strings.Contains(page, "<img") ||
			!strings.Contains(page, "&lt;script&gt;") {
			t.Error("a user's name is not escaped")
		}
	}
}

func TestAPolicyOfThePageLetsNothingInButItsOwn(t *testing.T) {
	for name, page := range map[string]string{
		"an account": html(t, reporttest.Account("production", settings.Report, 3)),
		"the index":  text(t, reporttest.Index(settings.Enforce, 5).HTML), "the policy": text(t, reporttest.Policy(settings.Report, 5).HTML),
	} {
		t.Run(name, func(t *testing.T) {
			_, policy, _ := strings.Cut(page, `Content-Security-Policy" content="`)
			policy, _, _ = strings.Cut(policy, `"`)
			if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") ||
				strings.Contains(policy, "http") {
				t.Errorf("the policy is %q", policy)
			}
			if strings.Contains(page, " style=") || strings.Contains(page, "//www") ||
				strings.Contains(page, "http://") && !strings.Contains(page, "http://evil") {
				t.Error("the page has styles or addresses that its policy refuses")
			}
		})
	}
}

func TestAPageOfAnyLengthStaysBelow40MB(t *testing.T) {
	a := reporttest.Account("production", settings.Report, 0)
	long := strings.Repeat("<", 64)
	a.Findings = func(yield func(sweep.Finding, error) bool) {
		for i := range 150_000 {
			f := sweep.Finding{
				Account: "production", AccessKey: "AKIAAAAAAAAAAAAAAAAA", User: long, Class: sweep.ClassForeign,
				Action: sweep.ActionKeep, Reason: long,
			}
			if i >= 149_000 { // what needs a person stands in the page wherever it stands in the run
				f.Class, f.Action, f.Reason = sweep.ClassNoExpiration, sweep.ActionFlag, "look"
			}
			if !yield(f, nil) {
				return
			}
		}
	}
	page := html(t, a)
	if len(page) > 40_000_000 {
		t.Errorf("the page is %d bytes long", len(page))
	}
	if !strings.Contains(page, "more, which stay as they are, stand in the CSV") {
		t.Error("the page does not say that keys are missing")
	}
	if n := strings.Count(page, `"look"`); n != 1000 {
		t.Errorf("%d of the 1,000 keys that need a person are in it", n)
	}
}

func TestWhatHappensTakesTheCapsIntoAccount(t *testing.T) {
	a := reporttest.Account("production", settings.Report, 0)
	a.Result.Tripped, a.Findings = "the plan changes 31 keys, and MAX_KEYS is 20", reporttest.Refused("production", 53)
	page := html(t, a)
	if !strings.Contains(page, "An enforcing run would change nothing either: the plan is over a cap.") ||
		strings.Contains(page, "planned: switch off</span></td>") {
		t.Error("the page promises what the cap refuses")
	}
	for outcome, want := range map[sweep.Outcome]string{
		sweep.OutcomePlanned: "planned: switch off", sweep.OutcomeRefused: "stays: over a cap", sweep.OutcomeLeftOut: "left to a later run",
		sweep.OutcomeDeactivated: "switched off", sweep.OutcomeFailed: "failed", sweep.OutcomeNotReached: "not reached",
		"one that nobody knows": "not done",
	} {
		if got := Happens(sweep.Finding{Action: sweep.ActionDeactivate, Outcome: outcome}); got != want {
			t.Errorf("%s: got %q, want %q", outcome, got, want)
		}
	}
}

func TestTheCSVHasEveryKeyAndNoFormula(t *testing.T) {
	a := reporttest.Account("production", settings.Enforce, 500)
	lines, err := csv.NewReader(strings.NewReader(text(t, a.CSV))).ReadAll()
	if err != nil || len(lines) != 501 {
		t.Fatalf("%d lines and error %v", len(lines), err)
	}
	users := slices.Index(lines[0], "user")
	formulas := 0
	for _, line := range lines[1:] {
		for _, cell := range line {
			if strings.HasPrefix(cell, "=") {
				t.Errorf("a spreadsheet takes %q for a formula", cell)
			}
		}
		if strings.HasPrefix(line[users], "'=HYPERLINK") {
			formulas++
		}
	}
	if formulas == 0 {
		t.Error("no user is called like a formula")
	}
}

// With letters that nobody sees, or that turn others around, a name passes for another.
func TestALetterThatNobodySeesIsSpeltOut(t *testing.T) {
	for name, want := range map[string]string{
		"\u202egnp.exe": `\u{202E}gnp.exe`, "dep\u200bloy": `dep\u{200B}loy`, "a\u2066b": `a\u{2066}b`, "a\u00adb": `a\u{AD}b`,
		"\x1b[2J": `\u{1B}[2J`,
		"\u3164":  `\u{3164}`, "a\u2028b": `a\u{2028}b`, "\ufeffa": `\u{FEFF}a`, "a\ufe0fb": `a\u{FE0F}b`, "\u2800": `\u{2800}`,
		"déploiement 部署 נפרס": "déploiement 部署 נפרס", "two\nlines": "two\nlines",
	} {
		t.Run(want, func(t *testing.T) {
			a := reporttest.Account("production", settings.Report, 0)
			a.Result.Account, a.Result.Problem = name, name
			a.Findings = func(yield func(sweep.Finding, error) bool) {
				yield(sweep.Finding{AccessKey: "AKIAAAAAAAAAAAAAAAAA", User: name, Reason: name, Class: sweep.ClassForeign, Action: sweep.ActionFlag},
					nil)
			}
			page := html(t, a)
			if name != want && strings.Contains(page, name) {
				t.Error("it stands in the page as it is")
			}
			inText, inData := strings.Count(page, want), strings.Count(page, strings.ReplaceAll(strings.ReplaceAll(want, `\`, `\\`), "\n", `\n`))
			if name != want && (inText < 5 || inData != 2) {
				t.Errorf("%d times in the page's text, %d times in its data", inText, inData)
			}
		})
	}
}

// What a number of the index leads to has as many keys as it says.
func TestANumberOfTheIndexLeadsToItsKeys(t *testing.T) {
	a := reporttest.Account("production", settings.Enforce, 500)
	outcomes := []sweep.Outcome{
		sweep.OutcomeLeftOut, sweep.OutcomeGone, sweep.OutcomeNotNotified, sweep.OutcomeDeleteRefused, "one that nobody knows",
		sweep.OutcomeDeleted, sweep.OutcomeFailed,
	}
	fateCounts, i := map[string]int{}, 0
	all := a.Findings
	a.Findings = func(yield func(sweep.Finding, error) bool) {
		i = 0
		for f, err := range all {
			if f.Action.Changes() {
				f.Outcome, i = outcomes[i%len(outcomes)], i+1
			}
			if !yield(f, err) {
				return
			}
		}
	}
	_, data, _ := strings.Cut(html(t, a), `id="data">`)
	data, _, _ = strings.Cut(data, "</script>")
	var drawn struct {
		Fates []struct{ Plan bool }
		Rows  [][]any
	}
	if err := json.Unmarshal([]byte(data), &drawn); err != nil {
		t.Fatal(err)
	}
	for _, row := range drawn.Rows {
		fate := int(row[7].(float64))
		fateCounts[strconv.Itoa(fate)]++
		if drawn.Fates[fate].Plan {
			fateCounts["plan"]++
		}
	}
	sum, err := a.Sum()
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`data-label="([^"]+)"><a href="./production.html#fate=([^"]+)">([\d,]+)</a>`)
	found := link.FindAllStringSubmatch(text(t, Index{Mode: settings.Enforce, Sums: []Sum{sum}}.HTML), -1)
	if len(found) != 4 {
		t.Fatalf("got %q", found)
	}
	for _, cell := range found {
		want := 0
		for _, one := range strings.Split(cell[2], ",") {
			want += fateCounts[one]
		}
		if cell[3] != strconv.Itoa(want) {
			t.Errorf("%s says %s, and leads to %d keys", cell[1], cell[3], want)
		}
	}
	t.Run("an account in parts has no one page for a number", func(t *testing.T) {
		sum.Part = 1
		if page := text(t, Index{Mode: settings.Enforce, Sums: []Sum{sum}}.HTML); link.MatchString(page) ||
			!strings.Contains(page, `href="./production~2.html"`) {
			t.Errorf("got %s", page)
		}
	})
}

func TestTheIndexSaysWhoApproved(t *testing.T) {
	asked, answered := reporttest.Now, reporttest.Now.Add(time.Hour)
	for name, test := range map[string]struct {
		change func(x *Index)
		want   []string
	}{
		"somebody, by the answer": {
			func(x *Index) { x.Approval = &Approval{Asked: asked, Answered: answered, Answer: "Jane"} },
			[]string{"Approved on", "<q>Jane</q>", "nobody has checked it"},
		},
		"nobody yet": {func(x *Index) { x.Approval = &Approval{Asked: asked} }, []string{"A person was asked on"}},
		"nobody: it was refused": {func(x *Index) {
			x.Approval = &Approval{Asked: asked, Answered: answered, Answer: "Rejected: <b>", Refused: true}
		}, []string{"Not approved on", "<q>Rejected: &lt;b&gt;</q>", "Nothing is applied"}},
		"nobody in time": {
			func(x *Index) { x.Approval = &Approval{Asked: asked, Answered: answered, Late: true} },
			[]string{"Nobody approved:", "had not answered by", "Nothing is applied"},
		},
		"nobody was asked": {func(x *Index) { x.Approval = nil }, []string{"Nobody was asked to approve."}},
		"who ran the command": {
			func(x *Index) { x.Approval, x.Plan = nil, &Plan{Made: asked, SHA256: "0123abc", Applied: true} },
			[]string{"Whoever ran the command with it has approved it", "0123abc"},
		},
		"a plan that is written": {
			func(x *Index) { x.Approval, x.Plan = nil, &Plan{Made: asked, SHA256: "0123abc"} }, []string{"The run wrote a plan.", "0123abc"},
		},
		"no one: it never began": {
			func(x *Index) { *x = Index{Problem: "Vault is sealed"} }, []string{"ended before it came to an account", "Vault is sealed."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := reporttest.Index(settings.Enforce, 9)
			test.change(&x)
			page := text(t, x.HTML)
			for _, want := range test.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page lacks %q: %s", want, page)
				}
			}
			if n := strings.Count(page, `id="approval"`); n > 1 {
				t.Errorf("%d answers", n)
			}
		})
	}
}

// A plan's page is read before and after it is decided on: it promises nothing.
func TestThePageOfAPlanIsTrueWhateverIsDecided(t *testing.T) {
	a := reporttest.Account("production", settings.Report, 500)
	a.Undecided = true
	page := html(t, a)
	for _, want := range []string{
		`id="undecided"`, "the page of the run</a> says what was decided", ">plan</span>",
		"Nothing had been changed when this page was written. Applied: ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, promise := range []string{"to be switched off", "to be deleted"} {
		if strings.Contains(page, promise) {
			t.Errorf("the page says %q", promise)
		}
	}
}

func TestFilesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]string{}
	for _, account := range []string{"a", "a~2", "index", "Index", "%69ndex", "../a", "..", ".", "a/b", "a b", "ä", "<script>"} {
		for part := range 2 {
			name := FileName(account, part)
			if other, ok := seen[name]; ok || name == "index" || strings.ContainsAny(name, "/<>\" ") || strings.Trim(name, ".") == "" {
				t.Errorf("%q, part %d, is called %q, as is %q", account, part, name, other)
			}
			seen[name] = account
		}
	}
}

func TestTheIndexSaysFirstWhatNeedsAPerson(t *testing.T) {
	x := reporttest.Index(settings.Enforce, 18)
	page := text(t, x.HTML)
	last := -1
	for _, state := range []string{"given up", "keys failed", "over a cap", "not reached", "to look at", "in order"} {
		at := strings.Index(page, state+"</span><span class=\"small\"")
		if at <= last {
			t.Errorf("%q is at %d, after %d", state, at, last)
		}
		last = at
	}
	for _, want := range []string{`href="./production.html"`, "Jane Doe", "nobody has checked it", "KEEP_USERS ^app$ protects nothing"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	x.Took = 0
	if !strings.Contains(text(t, x.HTML), "This run is not over, or it ended early.") {
		t.Error("an index of a run that is not over does not say so")
	}
	lines := x.Lines(3)
	if len(lines) != 4 || !strings.HasPrefix(lines[3], "and ") || !strings.Contains(lines[0], "given up") {
		t.Errorf("got %q", lines)
	}
}

func TestTheSumsOfPartsAreThoseOfTheWhole(t *testing.T) {
	whole, err := reporttest.Account("a", settings.Enforce, 300).Sum()
	if err != nil {
		t.Fatal(err)
	}
	var sum Sum
	i := 0
	for _, until := range []int{100, 250, 300} {
		part := reporttest.Account("a", settings.Enforce, 300)
		all, from := part.Findings, i
		part.Findings = func(yield func(sweep.Finding, error) bool) {
			n := 0
			for f, err := range all {
				if n++; n > from && n <= until && !yield(f, err) {
					return
				}
			}
		}
		next, err := part.Sum()
		if err != nil {
			t.Fatal(err)
		}
		sum, i = sum.Add(next), until
	}
	got, want := text(t, func(w io.Writer) error { return json.NewEncoder(w).Encode(sum) }),
		text(t, func(w io.Writer) error { return json.NewEncoder(w).Encode(whole) })
	if got != want || whole.Seen != 300 || whole.NeverExpires == 0 ||
		whole.Planned != whole.SwitchedOff+whole.Deleted+whole.Failed+whole.Unsettled {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestThePolicyReport(t *testing.T) {
	result := policysync.Result{
		Mode: settings.Report, Started: time.Now(), Tuned: time.Hour,
		Accounts: []policysync.AccountResult{{
			Account: "production", Before: 0, Wanted: time.Hour, After: 2 * time.Hour, Action: policysync.ActionRatchet,
			Blockers: []policysync.Blocker{{AccessKey: "ABCDEFGHIJKLMNOPQRST", User: "a", Reason: "r", Advice: "b"}}, BlockerCount: 7,
		}},
	}
	p := Policy{About: about, Result: result}
	for _, want := range []string{
		`"schema_version":1`, `"tuned_seconds":3600`, `"after_seconds":7200`, `"blocker_count":7`,
		`"access_key":"ABCD…QRST"`,
	} {
		if out := text(t, p.JSON); !strings.Contains(out, want) {
			t.Errorf("got %s, want %s in it", out, want)
		}
	}
	page := text(t, p.HTML)
	for _, want := range []string{"unlimited", "2 h", "and 6 more keys", "do not get out of the way by themselves", "ABCD…QRST"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "synced", PolicySummary(about, result)...)
	if !strings.Contains(out.String(), `"accounts_drifting":1,"blockers":7`) {
		t.Errorf("got %s", out.String())
	}
}

func TestATrustedKeyIsShownAsSuch(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		var out strings.Builder
		account := Account{Findings: func(yield func(sweep.Finding, error) bool) {
			yield(sweep.Finding{AccessKey: "AKIAIOSFODNN7EXAMPLE", Trusted: trusted}, nil)
		}}
		if err := account.CSV(&out); err != nil {
			t.Fatal(err)
		}
		if want := "," + strconv.FormatBool(trusted) + "\n"; !strings.HasSuffix(out.String(), want) {
			t.Errorf("got %q, want %q at its end", out.String(), want)
		}
	}
}
