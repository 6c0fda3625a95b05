// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

func reportsOf(t *testing.T, s Env, mode string) *pages {
	t.Helper()
	return s.newPages(report.About{Function: s.Function}, settings.Sweep{Run: settings.Run{Mode: mode}})
}

// files are the names below a run's reports.
func (p *pages) files(t *testing.T) (names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(string(p.env.Archive.(archive.Directory)), p.folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		names = append(names, filepath.Base(name))
	}
	return names
}

func (p *pages) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(p.env.Archive.(archive.Directory)), p.folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var twoAccounts = []fleet.Account{{Name: "production"}, {Name: "zeta"}}

func TestARunThatIsKilledLeavesAnIndexAndWhatItHasGoneOver(t *testing.T) {
	p := reportsOf(t, around(t, nil), settings.Report)
	p.begin(t.Context(), twoAccounts)
	if page := p.read(t, "index.html"); !strings.Contains(page, "zeta") || !strings.Contains(page, "This run is not over, or it ended early") {
		t.Errorf("at the beginning the index is %s", page)
	}
	result := reporttest.Result(t, settings.Report)
	p.indexed = time.Now().Add(-time.Hour)
	p.account(t.Context(), result.Accounts[0], result.Of("production"))
	want := []string{"index.html", "index.json", "production.csv", "production.html", "production.json"}
	if got := p.files(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	page := p.read(t, "index.html")
	if !strings.Contains(page, `href="./production.html"`) || !strings.Contains(page, "the run has not come to it") ||
		!strings.Contains(page, "This run is not over") {
		t.Errorf("the index is %s", page)
	}
}

func TestARunThatIsCancelledWritesItsPagesAfterTheKeysAreGivenBack(t *testing.T) {
	p := reportsOf(t, around(t, nil), settings.Report)
	p.begin(t.Context(), twoAccounts)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	result := reporttest.Result(t, settings.Report)
	p.account(ctx, result.Accounts[0], result.Of("production"))
	if got := p.files(t); slices.Contains(got, "production.html") {
		t.Error("it was written first")
	}
	places, err := p.rest(ctx, result)
	if err != nil || len(places) != 5 || !strings.HasSuffix(places[3], "index.html") {
		t.Errorf("got %q and error %v", places, err)
	}
	if page := p.read(t, "index.html"); !strings.Contains(page, `href="./production.html"`) || !strings.Contains(page, "not reached") ||
		strings.Contains(page, "This run is not over") {
		t.Errorf("the index is %s", page)
	}
}

func TestTheIndexKnowsTheLastGoodRun(t *testing.T) {
	s := around(t, nil)
	result := reporttest.Result(t, settings.Report)
	for _, problem := range []string{"", "the cloud is away"} {
		p := reportsOf(t, s, settings.Report)
		result.Accounts[0].Problem = problem
		if _, err := p.rest(t.Context(), result); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: ">this one<", false: ">" + time.Now().UTC().Format(time.DateOnly) + "<"}[problem == ""]
		if page := p.read(t, "index.html"); !strings.Contains(page, want) {
			t.Errorf("with the problem %q the index lacks %s: %s", problem, want, page)
		}
	}
}

// full is an archive that takes nothing.
type full struct{}

func (full) Put(context.Context, string, string, func(io.Writer) error) (string, error) {
	return "", errors.New("the disk is full")
}

func (full) Get(context.Context, string) ([]byte, error) { return nil, nil }

func TestReportsThatAreLostAreAnErrorAfterTheRun(t *testing.T) {
	s := around(t, nil)
	s.Archive = full{}
	p := reportsOf(t, s, settings.Report)
	p.begin(t.Context(), twoAccounts)
	var lost *ReportLostError
	if _, err := p.rest(t.Context(), reporttest.Result(t, settings.Report)); !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}

func TestWhatWasAppliedStandsBesideAllThatWasSeen(t *testing.T) {
	s := around(t, map[string]string{"MODE": "enforce", "APPROVAL": "true", "ACCOUNTS": "production,zeta"})
	if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseList}); err != nil {
		t.Fatal(err)
	}
	planned := reporttest.Result(t, settings.Report)
	config, err := settings.ReadSweep(s.Getenv, settings.SweepEvent{Phase: settings.PhaseList})
	if err != nil {
		t.Fatal(err)
	}
	p := s.statePages(report.About{}, config, 0)
	if err := p.keepFound(t.Context(), planned); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second attempt finds the keys gone
		if err := s.statePages(report.About{}, config, 0).keepApplied(t.Context(), reporttest.Result(t, settings.Enforce)); err != nil {
			t.Fatal(err)
		}
	}
	var got struct{ Keys []sweep.Finding }
	if err := json.Unmarshal([]byte(p.read(t, "production.json")), &got); err != nil {
		t.Fatal(err)
	}
	outcomes := map[sweep.Outcome]int{}
	for _, key := range got.Keys {
		outcomes[key.Outcome]++
	}
	if len(got.Keys) != len(reporttest.IDs()) || outcomes[sweep.OutcomePlanned] != 0 || outcomes[sweep.OutcomeDeactivated] == 0 ||
		outcomes[sweep.OutcomeDeleted] == 0 {
		t.Errorf("%d keys, %v", len(got.Keys), outcomes)
	}
	t.Run("and the run's page says who approved, as the answer says", func(t *testing.T) {
		if err := s.putJSON(t.Context(), s.inRun("run.json"), runRecord{
			Mode: "enforce", Started: time.Now(), Verdict: VerdictApprove,
			Asked: time.Now(),
		}); err != nil {
			t.Fatal(err)
		}
		for answer, want := range map[string]string{
			`{"approved_by": "Jane <b>Doe</b>"}`: "<q>Jane &lt;b&gt;Doe&lt;/b&gt;</q>",
			`{}`:                                 "The answer does not say by whom.",
			`{"approved_by": "Jane", "ticket": "CHG-1"}`: "CHG-1",
			`"` + strings.Repeat("w", 5000) + `"`:        strings.Repeat("w", 400),
		} {
			if err := s.putJSON(t.Context(), s.inRun("approved-by.json"), approvalAnswer{time.Now(), json.RawMessage(answer)}); err != nil {
				t.Fatal(err)
			}
			if want == "CHG-1" { // as Step Functions store a text
				text, err := json.Marshal(approvalAnswer{time.Now(), json.RawMessage(answer)})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.putJSON(t.Context(), s.inRun("approved-by.json"), string(text)); err != nil {
					t.Fatal(err)
				}
			}
			closed, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseClose})
			if err != nil {
				t.Fatal(err)
			}
			if page := p.read(t, "index.html"); !strings.HasSuffix(closed.(*CloseAnswer).Page, "index.html") || !strings.Contains(page, want) ||
				!strings.Contains(page, `href="./production.html"`) || !strings.Contains(page, "the run has not come to it") || len(page) > 40_000 {
				t.Errorf("%s: the page is %s", answer, page)
			}
		}
	})
}

// A person who says no, or nothing in time, ends the run: its page says so, and the pages of the plans promise nothing.
func TestARunThatNobodyApprovedSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   string
	}{
		"refused":             {`{"Error": "Rejected", "Cause": "too many, says Jane"}`, "<q>Rejected: too many, says Jane</q>"},
		"refused, no cause":   {`{"Error": "Rejected"}`, "<q>Rejected</q>"},
		"nobody answered":     {`{"Error": "States.Timeout", "Cause": ""}`, "had not answered by"},
		"an endless cause":    {`{"Error": "Rejected", "Cause": "` + strings.Repeat("w", 5000) + `"}`, strings.Repeat("w", 400)},
		"no answer, by close": {"", "Where this page names none, nobody has approved."},
	} {
		t.Run(name, func(t *testing.T) {
			s := around(t, map[string]string{"MODE": "enforce", "APPROVAL": "true"})
			plans(t, s, map[string][]partPlan{"a": {{Planned: 3, Seen: 50}}, "b": {{Seen: 1}}, "c": {{Seen: 1}}})
			if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseDecide}); err != nil {
				t.Fatal(err)
			}
			if test.answer != "" {
				if err := s.putJSON(t.Context(), s.inRun("refused-by.json"), approvalAnswer{time.Now(), json.RawMessage(test.answer)}); err != nil {
					t.Fatal(err)
				}
			}
			closed, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseClose})
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(closed.(*CloseAnswer).Page)
			if err != nil {
				t.Fatal(err)
			}
			page := string(text)
			if !strings.Contains(page, test.want) || len(page) > 40_000 || strings.Contains(page, "were not dealt with") {
				t.Errorf("the page lacks %s: %s", test.want, page)
			}
			if asked := strings.Contains(page, "A person was asked on"); asked != (test.answer == "") {
				t.Errorf("the page is %s", page)
			}
		})
	}
}

func TestAnAccountWhosePlanWasNotAppliedSaysSo(t *testing.T) {
	s := around(t, map[string]string{"MODE": "enforce", "ACCOUNTS": "production"})
	if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseList}); err != nil {
		t.Fatal(err)
	}
	if err := s.putJSON(t.Context(), s.inRun("run.json"), runRecord{Mode: "enforce", Started: time.Now(), Verdict: VerdictApply}); err != nil {
		t.Fatal(err)
	}
	config, err := settings.ReadSweep(s.Getenv, settings.SweepEvent{Phase: settings.PhaseList})
	if err != nil {
		t.Fatal(err)
	}
	p := s.statePages(report.About{}, config, 0)
	if err := p.keepFound(t.Context(), reporttest.Result(t, settings.Report)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name            string
		failed, refused int // keys; -1: nothing was applied
		counted         string
	}{
		{"an invocation that died", -1, 0, `"AccountsUnapplied":1,`},
		{"one that could not change a key", 1, 0, `"AccountsUnapplied":1,`},
		{"one whose delete the cloud has refused, and that tries again the next night", 1, 1, `"AccountsUnapplied":0,`},
		{"one that has done its work", 0, 0, `"AccountsUnapplied":0,`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.failed >= 0 {
				applied := s.statePages(report.About{}, config, 0)
				if err := applied.keepApplied(t.Context(), reporttest.Result(t, settings.Enforce)); err != nil {
					t.Fatal(err)
				}
				sum := *applied.sumOf("production")
				sum.Failed, sum.Refused = test.failed, test.refused
				if err := s.putJSON(t.Context(), s.partName("sums", "production", 0), sum); err != nil {
					t.Fatal(err)
				}
			}
			var counted bytes.Buffer
			s.Metrics = &counted
			if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseClose}); err != nil {
				t.Fatal(err)
			}
			if page := p.read(t, "index.html"); strings.Contains(page, "planned keys were not dealt with") != (test.failed < 0) {
				t.Errorf("the index is %s", page)
			}
			if !strings.Contains(counted.String(), test.counted) {
				t.Errorf("the metrics are %s, want %s", counted.String(), test.counted)
			}
		})
	}
}

func TestARunWithoutSpaceForItsPlanHasAPage(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	s := around(t, map[string]string{
		"OSC_ACCESS_KEY": "AK", "OSC_SECRET_KEY": "SK", "OSC_REGION": "eu-west-2", "OSC_ENDPOINT_API": "http://127.0.0.1:1/api/v1",
	})
	var log bytes.Buffer
	s.Log = slog.New(slog.NewJSONHandler(&log, nil))
	var failed *RunFailedError
	if _, err := Revoke(t.Context(), s, settings.SweepEvent{}); !errors.As(err, &failed) {
		t.Fatalf("got error %T, and Lambda tells its type", err)
	}
	if strings.Contains(log.String(), "sweep done") {
		t.Errorf("nothing was swept, and the log says %s", log.String())
	}
	step := settings.SweepEvent{Phase: settings.PhasePlan, Accounts: []string{"default"}, Resume: map[string]string{"default": ""}}
	if _, err := Revoke(t.Context(), s, step); !errors.As(err, &failed) || strings.Contains(log.String(), "sweep done") {
		t.Errorf("a step of a state machine: %T, and the log says %s", err, log.String())
	}
	found, err := filepath.Glob(filepath.Join(string(s.Archive.(archive.Directory)), "reports", "*", "index.html"))
	if err != nil || len(found) != 1 {
		t.Fatalf("got %q, %v", found, err)
	}
	page, err := os.ReadFile(found[0])
	if err != nil || !strings.Contains(string(page), "ended before it came to an account") ||
		!strings.Contains(string(page), "Spooling the plan") {
		t.Errorf("the index is %s, %v", page, err)
	}
}

func TestARunThatComesToNoAccountHasAPage(t *testing.T) {
	p := reportsOf(t, around(t, nil), settings.Report)
	p.failed(t.Context(), nil, errors.New("Vault is sealed"))
	if page := p.read(t, "index.html"); !strings.Contains(page, "Vault is sealed.") || strings.Contains(page, "This run is not over") {
		t.Errorf("the index is %s", page)
	}
}

func TestARunOfPolicySyncHasAPage(t *testing.T) {
	s := around(t, nil)
	s.Function = "sync-policy"
	places, err := s.keepPolicy(t.Context(), report.About{}, settings.PolicySync{}, reporttest.Policy(settings.Report, 20).Result)
	if err != nil || len(places) != 2 || !strings.HasSuffix(places[1], "sync-policy-local/index.html") {
		t.Fatalf("got %q and error %v", places, err)
	}
	page, err := os.ReadFile(places[1])
	if err != nil || !strings.Contains(string(page), "Keys in the way, by user") {
		t.Errorf("the page is %s (%v)", page, err)
	}
}
