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
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func around(t *testing.T, env map[string]string) Env {
	t.Helper()
	return Env{
		Getenv: func(name string) string { return env[name] }, Function: "f", RunID: "run-1", Archive: archive.Directory(t.TempDir()),
		Metrics: io.Discard, Log: slog.New(slog.DiscardHandler),
	}
}

func TestAListHasAnEventForEachAccount(t *testing.T) {
	s := around(t, map[string]string{"ACCOUNTS": "a,b"})
	got, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseList, Mode: settings.Report})
	if err != nil {
		t.Fatal(err)
	}
	list := got.(*ListAnswer)
	text, err := s.Archive.Get(t.Context(), list.Items)
	const want = `[{"run_id":"run-1","mode":"report","accounts":["a"],"resume":{"a":""},"phase":"plan"},` +
		`{"run_id":"run-1","mode":"report","accounts":["b"],"resume":{"b":""},"phase":"plan"}]`
	if err != nil || list.Accounts != 2 || strings.TrimSpace(string(text)) != want {
		t.Errorf("got %+v, %s and error %v", list, text, err)
	}
}

func TestWhatIsRefusedBeforeAnything(t *testing.T) {
	one := []string{"a"}
	cases := map[string]struct {
		event  settings.SweepEvent
		change func(*Env)
	}{
		"a phase that nobody knows":      {settings.SweepEvent{Phase: "destroy"}, nil},
		"a dispatch to a queue":          {settings.SweepEvent{Phase: "dispatch"}, nil},
		"a list without a bucket":        {settings.SweepEvent{Phase: settings.PhaseList}, func(s *Env) { s.Archive = nil }},
		"a list without a name":          {settings.SweepEvent{Phase: settings.PhaseList}, func(s *Env) { s.RunID = "" }},
		"a plan of no account":           {settings.SweepEvent{Phase: settings.PhasePlan}, nil},
		"a plan of two accounts":         {settings.SweepEvent{Phase: settings.PhasePlan, Accounts: []string{"a", "b"}}, nil},
		"changes without a plan":         {settings.SweepEvent{Phase: settings.PhaseApply, Accounts: one}, nil},
		"changes beyond the plan":        {settings.SweepEvent{Phase: settings.PhaseApply, Accounts: one, Part: 1, Plans: []string{"x"}}, nil},
		"changes where only a report is": {settings.SweepEvent{Phase: settings.PhaseApply, Accounts: one, Plans: []string{"x"}}, nil},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s := around(t, nil)
			if test.change != nil {
				test.change(&s)
			}
			_, err := Revoke(t.Context(), s, test.event)
			var refused *settings.SettingsRefusedError
			if !errors.As(err, &refused) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// plans writes the plans of a run as its earlier steps leave them.
func plans(t *testing.T, s Env, parts map[string][]partPlan) {
	t.Helper()
	orders := []order{}
	for _, account := range []string{"a", "b", "c"} {
		orders = append(orders, order{RunID: s.RunID, SweepEvent: settings.SweepEvent{Phase: settings.PhasePlan, Accounts: []string{account}}})
		for n, part := range parts[account] {
			if err := s.putJSON(t.Context(), s.planName(account, n), part); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.putJSON(t.Context(), s.inRun("accounts.json"), orders); err != nil {
		t.Fatal(err)
	}
}

func TestAJudgement(t *testing.T) {
	whole := func(planned, seen int) []partPlan { return []partPlan{{Planned: planned, Seen: seen}} }
	enforce := func(more ...string) map[string]string {
		env := map[string]string{"MODE": "enforce", "RUN_MAX_KEYS": "5"}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	cases := map[string]struct {
		env     map[string]string
		mode    string
		parts   map[string][]partPlan
		want    Verdict
		changes []string
	}{
		"small plans are applied": {
			env: enforce(), parts: map[string][]partPlan{"a": whole(2, 50), "b": whole(3, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictApply, Accounts: 3, Changing: 2, Seen: 109, Planned: 5}, changes: []string{"a", "b"},
		},
		"together they are over the number": {
			env: enforce(), parts: map[string][]partPlan{"a": whole(3, 50), "b": whole(3, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictTripped, Accounts: 3, Changing: 2, Seen: 109, Planned: 6},
		},
		"together they are over the share": {
			env: enforce("RUN_MAX_PERCENT", "1"), parts: map[string][]partPlan{"a": whole(5, 50), "b": whole(0, 49), "c": whole(0, 0)},
			want: Verdict{Verdict: VerdictTripped, Accounts: 3, Changing: 1, Seen: 99, Planned: 5},
		},
		"a report changes nothing": {
			env: map[string]string{"MODE": "report"}, parts: map[string][]partPlan{"a": whole(1, 50), "b": whole(0, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictReport, Accounts: 3, Changing: 1, Seen: 109, Planned: 1},
		},
		"an event lowers it": {
			env: enforce(), mode: settings.Report, parts: map[string][]partPlan{"a": whole(1, 50), "b": whole(0, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictReport, Accounts: 3, Changing: 1, Seen: 109, Planned: 1},
		},
		"a person is asked": {
			env: enforce("APPROVAL", "true"), parts: map[string][]partPlan{"a": whole(1, 50), "b": whole(0, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictApprove, Accounts: 3, Changing: 1, Seen: 109, Planned: 1}, changes: []string{"a"},
		},
		"nobody is asked for nothing": {
			env: enforce("APPROVAL", "true"), parts: map[string][]partPlan{"a": whole(0, 50), "b": whole(0, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictNothing, Accounts: 3, Seen: 109},
		},
		"an account without a plan is left alone": {
			env: enforce(), parts: map[string][]partPlan{"a": whole(1, 50), "b": nil, "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictApply, Accounts: 3, Failed: 1, Changing: 1, Seen: 59, Planned: 1}, changes: []string{"a"},
		},
		"accounts without a plan, as many as are tolerated": {
			env: enforce("TOLERATED_FAILURES", "67"), parts: map[string][]partPlan{"a": whole(1, 50)},
			want: Verdict{Verdict: VerdictApply, Accounts: 3, Failed: 2, Changing: 1, Seen: 50, Planned: 1}, changes: []string{"a"},
		},
		"and more than are": {
			env: enforce("TOLERATED_FAILURES", "66"), parts: map[string][]partPlan{"a": whole(1, 50)},
			want: Verdict{Verdict: VerdictTripped, Accounts: 3, Failed: 2, Changing: 1, Seen: 50, Planned: 1},
		},
		"so is one over its own cap, and its keys do not count": {
			env: enforce("MAX_KEYS", "4"), parts: map[string][]partPlan{"a": whole(1, 50), "b": whole(5, 50), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictApply, Accounts: 3, Refused: 1, Changing: 1, Seen: 59, Planned: 1}, changes: []string{"a"},
		},
		"one of whose parts was over it": {
			env: enforce(), parts: map[string][]partPlan{"a": {
				{Planned: 1, Seen: 50, Partial: true, Cursor: "u"},
				{From: "u", Planned: 1, Seen: 50, Tripped: "x"},
			}, "b": whole(0, 1), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictNothing, Accounts: 3, Refused: 1, Seen: 10},
		},
		"the parts of an account are one plan": {
			env: enforce(), parts: map[string][]partPlan{"a": {
				{Planned: 1, Seen: 50, Partial: true, Cursor: "u"},
				{From: "u", Planned: 1, Seen: 50},
			}, "b": whole(0, 1), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictApply, Accounts: 3, Changing: 1, Seen: 110, Planned: 2}, changes: []string{"a"},
		},
		"whose parts do not meet, it has none": {
			env: enforce(), parts: map[string][]partPlan{"a": {
				{Planned: 1, Seen: 50, Partial: true, Cursor: "u"},
				{From: "v", Planned: 1, Seen: 50},
			}, "b": whole(0, 1), "c": whole(0, 9)},
			want: Verdict{Verdict: VerdictNothing, Accounts: 3, Failed: 1, Seen: 10},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s := around(t, test.env)
			plans(t, s, test.parts)
			answer, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseDecide, Mode: test.mode})
			if err != nil {
				t.Fatal(err)
			}
			got := *answer.(*Verdict)
			why := got.Why
			got.Why, got.Items, got.Concurrency, got.Changes, got.Page, got.Largest, got.ByClass, got.Lines = "", "", 0, "", "", nil, nil, nil
			if !reflect.DeepEqual(got, test.want) || (why != "") != (got.Verdict == VerdictTripped || test.mode != "") {
				t.Errorf("got  %+v (%s)\nwant %+v", got, why, test.want)
			}
			if changes := changesOf(t, s); !slices.Equal(changes, test.changes) {
				t.Errorf("to be applied are %q, want %q", changes, test.changes)
			}
		})
	}
}

func changesOf(t *testing.T, s Env) []string {
	t.Helper()
	text, err := s.Archive.Get(t.Context(), "runs/run-1/changes.json")
	if err != nil || bytes.HasPrefix(text, []byte("null")) {
		t.Fatalf("got %s and error %v", text, err)
	}
	var orders []order
	if err := json.Unmarshal(text, &orders); err != nil {
		t.Fatal(err)
	}
	var accounts []string
	for _, o := range orders {
		if o.Phase != settings.PhaseApply || o.RunID != "run-1" || len(o.Plans) == 0 {
			t.Errorf("got %+v", o)
		}
		accounts = append(accounts, o.Accounts...)
	}
	return accounts
}

func TestAPlanThatWasChangedIsNotApplied(t *testing.T) {
	s := around(t, map[string]string{"MODE": "enforce"})
	parts := map[string][]partPlan{"a": {{Planned: 1, Seen: 50}}, "b": {{Seen: 1}}, "c": {{Seen: 1}}}
	plans(t, s, parts)
	if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseDecide}); err != nil {
		t.Fatal(err)
	}
	text, err := s.Archive.Get(t.Context(), s.planName("a", 0))
	if err != nil {
		t.Fatal(err)
	}
	parts["a"][0].Findings = []sweep.Finding{{AccessKey: "another"}}
	plans(t, s, parts)
	_, err = Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseApply, Accounts: []string{"a"}, Plans: []string{checksum(text)}})
	var changed *PlanChangedError
	if !errors.As(err, &changed) {
		t.Errorf("got %v", err)
	}
}

// Whoever may invoke the function is not who decides: the approval is what the state machine has
// written down of it, which the function may not write.
func TestNothingIsAppliedThatNobodyApproved(t *testing.T) {
	approved := map[string]struct {
		env      string
		approval func(changes []byte) string // empty: none was given
		other    bool                        // the event is of another plan than the run's
		refused  bool
	}{
		"without an approval":                 {"true", nil, false, true},
		"with the approval of other changes":  {"true", func([]byte) string { return checksum([]byte("others")) }, false, true},
		"with an approval, and another plan":  {"true", func(c []byte) string { return checksum(c) }, true, true},
		"with the approval of these changes":  {"true", func(c []byte) string { return checksum(c) + "\n" }, false, false},
		"where none is asked for":             {"false", nil, false, false},
		"where none is asked for, other plan": {"false", nil, true, true},
	}
	for name, test := range approved {
		t.Run(name, func(t *testing.T) {
			s := around(t, map[string]string{"MODE": "enforce", "APPROVAL": test.env})
			plans(t, s, map[string][]partPlan{"a": {{Planned: 1, Seen: 50}}, "b": {{Seen: 1}}, "c": {{Seen: 1}}})
			if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseDecide}); err != nil {
				t.Fatal(err)
			}
			changes, err := s.Archive.Get(t.Context(), s.inRun("changes.json"))
			if err != nil {
				t.Fatal(err)
			}
			if test.approval != nil {
				text := test.approval(changes)
				_, err := s.Archive.Put(t.Context(), s.inRun("approved.json"), "text/plain",
					func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
				if err != nil {
					t.Fatal(err)
				}
			}
			var orders []order
			if err := json.Unmarshal(changes, &orders); err != nil || len(orders) != 1 {
				t.Fatalf("%s: %v", changes, err)
			}
			event := orders[0].SweepEvent
			if test.other {
				event.Accounts = []string{"b"}
			}
			_, err = Revoke(t.Context(), s, event)
			var none *NotApprovedError
			if errors.As(err, &none) != test.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An approval is of one run: whoever may invoke the function could repeat it otherwise, also when a person has refused a later one.
func TestAnApprovalEndsWithItsRun(t *testing.T) {
	for name, test := range map[string]struct {
		given   time.Duration // ago
		closed  bool
		refused bool
	}{
		"while the run is under way": {time.Hour, false, false},
		"when it is over":            {time.Hour, true, true},
		"after three days":           {73 * time.Hour, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := around(t, map[string]string{"MODE": "enforce", "APPROVAL": "true"})
			plans(t, s, map[string][]partPlan{"a": {{Planned: 1, Seen: 50}}, "b": {{Seen: 1}}, "c": {{Seen: 1}}})
			answer, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseDecide})
			if err != nil {
				t.Fatal(err)
			}
			by := approvalAnswer{time.Now().Add(-test.given), json.RawMessage(`{}`)}
			for file, value := range map[string]any{"approved.json": answer.(*Verdict).Changes, "approved-by.json": by} {
				if err := s.putJSON(t.Context(), s.inRun(file), value); err != nil {
					t.Fatal(err)
				}
			}
			if test.closed {
				if _, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseClose}); err != nil {
					t.Fatal(err)
				}
			}
			text, err := s.Archive.Get(t.Context(), s.inRun("changes.json"))
			var orders []order
			if err != nil || json.Unmarshal(text, &orders) != nil || len(orders) != 1 {
				t.Fatalf("%s, %v", text, err)
			}
			_, err = Revoke(t.Context(), s, orders[0].SweepEvent)
			var none *NotApprovedError
			if errors.As(err, &none) != test.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Who is asked sees what is to be done: sums by account and class, and where the run's page is.
func TestTheApproverSeesWhatIsToBeDone(t *testing.T) {
	s := around(t, map[string]string{"MODE": "enforce", "APPROVAL": "true"})
	plans(t, s, map[string][]partPlan{
		"a": {{Planned: 1, Seen: 50, ByClass: map[sweep.Class]int{sweep.ClassOrphan: 1}}},
		"b": {{Planned: 3, Seen: 50, ByClass: map[sweep.Class]int{sweep.ClassOrphan: 1, sweep.ClassExpired: 2}}},
		"c": {{Seen: 1}},
	})
	answer, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseDecide})
	if err != nil {
		t.Fatal(err)
	}
	v := answer.(*Verdict)
	if v.ByClass[sweep.ClassOrphan] != 2 || v.ByClass[sweep.ClassExpired] != 2 || len(v.Largest) != 2 ||
		v.Largest[0] != (AccountSum{"b", 3, 50}) {
		t.Errorf("got %+v", v)
	}
	if want := []string{"b: 3 of 50 keys planned (1 orphan, 2 expired)", "a: 1 of 50 keys planned (1 orphan)"}; !slices.Equal(v.Lines, want) {
		t.Errorf("got %q, want %q", v.Lines, want)
	}
	page, err := os.ReadFile(v.Page)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{">b<", ">3<", "orphan", "run-1", "./b.html"} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the run's page does not say %s:\n%s", part, page)
		}
	}
}

// A reserve that is longer than the function's time leaves none to look at anything: that must not
// pass for a sweep that found nothing.
func TestAReserveThatLeavesNoTimeIsRefused(t *testing.T) {
	env := map[string]string{
		"OSC_ACCESS_KEY": "AK", "OSC_SECRET_KEY": "SK", "OSC_REGION": "eu-west-2",
		"OSC_ENDPOINT_API": "http://127.0.0.1:1", "RESERVE": "1h",
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var refused *settings.SettingsRefusedError
	if _, err := Revoke(ctx, around(t, env), settings.SweepEvent{}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "RESERVE") {
		t.Errorf("revoke-expired-keys: got %v", err)
	}
	if _, err := PolicySync(ctx, around(t, env), settings.PolicySyncEvent{}); !errors.As(err, &refused) ||
		!strings.Contains(err.Error(), "RESERVE") {
		t.Errorf("sync-policy: got %v", err)
	}
}

func TestChangesGoOnUntilTheLastPart(t *testing.T) {
	s := around(t, nil)
	event := settings.SweepEvent{Phase: settings.PhaseApply, Accounts: []string{"a"}, Plans: []string{"x", "y"}}
	for name, test := range map[string]struct {
		part    int
		account sweep.AccountResult
		next    int // -1: it is done, -2: it fails
	}{
		"a part that is done, and another":    {0, sweep.AccountResult{}, 1},
		"the last part":                       {1, sweep.AccountResult{}, -1},
		"a part for which time ran out":       {0, sweep.AccountResult{Partial: true, Counts: sweep.Counts{Deleted: 1}}, 0},
		"one of which owners were told":       {0, sweep.AccountResult{Partial: true, Counts: sweep.Counts{Notified: 1}}, 0},
		"a part of which nothing was reached": {0, sweep.AccountResult{Partial: true}, -2},
	} {
		t.Run(name, func(t *testing.T) {
			event := event
			event.Part = test.part
			got, err := s.applied(event, test.account)
			switch {
			case test.next == -2:
				var none *NoProgressError
				if !errors.As(err, &none) {
					t.Errorf("got %+v and error %v", got, err)
				}
			case err != nil || got.Done != (test.next == -1) || (got.Next == nil) != got.Done || got.Next != nil && got.Next.Part != test.next:
				t.Errorf("got %+v and error %v", got, err)
			}
		})
	}
}

// Lambda reports the name of an error's type: one that no page names tells nobody anything.
func TestEveryFailureHasATypeThatThePageExplains(t *testing.T) {
	page, err := os.ReadFile("../../../docs/functions.md")
	if err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(t.TempDir(), "a file where a directory should be")
	if err := os.WriteFile(full, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		env    map[string]string
		change func(*Env)
		event  settings.SweepEvent
		want   string
	}{
		"no such Vault": {
			map[string]string{"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": "t"},
			nil,
			settings.SweepEvent{},
			"VaultUnreachableError",
		},
		"no settings": {nil, nil, settings.SweepEvent{}, "SettingsRefusedError"},
		"an archive gone": {
			nil, func(s *Env) { s.Archive = archive.Directory(full) }, settings.SweepEvent{Phase: settings.PhaseDecide}, "RunFailedError",
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VAULT_MAX_RETRIES", "0")
			t.Setenv("VAULT_ADDR", test.env["VAULT_ADDR"])
			s := around(t, test.env)
			if test.change != nil {
				test.change(&s)
			}
			_, err := Revoke(t.Context(), s, test.event)
			if err == nil || reflect.TypeOf(err).Kind() != reflect.Pointer {
				t.Fatalf("got %v", err)
			}
			if got := reflect.TypeOf(err).Elem().Name(); got != test.want || !strings.Contains(string(page), "`"+got+"`") {
				t.Errorf("the type is %s (%v), want %s, explained in docs/functions.md", got, err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q has more than one line", err)
			}
		})
	}
}

// cloud is an account without Vault, with a key of each user that is to be removed.
func cloud(t *testing.T, settings map[string]string, users ...string) (s Env, sim *cloudsim.Cloud, has func(user string) bool) {
	t.Helper()
	const instance = "INSTANCEAAAAAAAA"
	sim = cloudsim.New()
	account := sim.AddAccount("123456789012")
	root, ids := account.RootKey(), map[string]string{}
	for _, user := range users {
		ids[user] = account.AddKey(cloudsim.KeySpec{
			User: user, Tag: keylabel.New(instance, keylabel.KindLease).String(),
			Created: time.Now().Add(-72 * time.Hour), Expires: time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Second),
		}).AccessKey
	}
	env := map[string]string{
		"MODE": "enforce", "OSC_ACCESS_KEY": root.AccessKey, "OSC_SECRET_KEY": root.SecretKey, "OSC_REGION": "eu-west-2",
		"OSC_ENDPOINT_API": sim.Start(t), "ENGINE_INSTANCE": instance,
	}
	maps.Copy(env, settings)
	return around(t, env), sim, func(user string) bool { _, has := account.Key(ids[user]); return has }
}

// roleOfDirect is an archive as the stack's role lets the function reach it where there is no state machine.
type roleOfDirect struct{ archive.Archive }

func (r roleOfDirect) Get(ctx context.Context, name string) ([]byte, error) {
	if strings.HasPrefix(name, "runs/") {
		return nil, errors.New("AccessDenied")
	}
	return r.Archive.Get(ctx, name)
}

// A schedule names its run, which is none of a state machine's.
func TestAScheduledSweepOfOneAccountReadsNothingOfAStateMachine(t *testing.T) {
	s, _, has := cloud(t, map[string]string{"FOREIGN": "enforce", "ACCOUNTS": "environment"}, "app")
	s.RunID, s.Archive = "2026-11-22T03:17:00Z", roleOfDirect{s.Archive}
	if _, err := Revoke(t.Context(), s, settings.SweepEvent{}); err != nil || has("app") {
		t.Errorf("got error %v, and the key is there: %v", err, has("app"))
	}
}

func TestAKeyThatFailsDoesNotKeepTheLaterPartsOfItsAccount(t *testing.T) {
	s, sim, has := cloud(t, nil, "app", "backup")
	do := func(event settings.SweepEvent) (any, error) { return Revoke(t.Context(), s, event) }
	if _, err := do(settings.SweepEvent{Phase: settings.PhaseList}); err != nil {
		t.Fatal(err)
	}
	event := settings.SweepEvent{Phase: settings.PhasePlan, Accounts: []string{"environment"}, Resume: map[string]string{"environment": ""}}
	if _, err := do(event); err != nil {
		t.Fatal(err)
	}
	text, err := s.Archive.Get(t.Context(), s.planName("environment", 0))
	var whole partPlan
	if err != nil || json.Unmarshal(text, &whole) != nil || len(whole.Findings) != 2 {
		t.Fatalf("%s, %v", text, err)
	}
	slices.SortFunc(whole.Findings, func(x, y sweep.Finding) int { return strings.Compare(x.User, y.User) })
	for n, part := range []partPlan{
		{Account: "environment", Partial: true, Cursor: "app", Seen: 2, Planned: 1, Findings: whole.Findings[:1]},
		{Account: "environment", From: "app", Seen: 1, Planned: 1, Findings: whole.Findings[1:]},
	} {
		if err := s.putJSON(t.Context(), s.planName("environment", n), part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := do(settings.SweepEvent{Phase: settings.PhaseDecide}); err != nil {
		t.Fatal(err)
	}
	changes, err := s.Archive.Get(t.Context(), s.inRun("changes.json"))
	var orders []order
	if err != nil || json.Unmarshal(changes, &orders) != nil || len(orders) != 1 {
		t.Fatalf("%s, %v", changes, err)
	}
	cancel := sim.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 400})
	answer, err := do(orders[0].SweepEvent)
	if err != nil || answer.(*StepAnswer).Next == nil || answer.(*StepAnswer).Next.Part != 1 {
		t.Fatalf("got %+v and error %v", answer, err)
	}
	if _, err := do(answer.(*StepAnswer).Next.SweepEvent); err == nil {
		t.Error("a key of the last part could not be switched off, and nobody says so")
	}
	cancel()
	if _, err := do(answer.(*StepAnswer).Next.SweepEvent); err != nil || has("backup") || !has("app") {
		t.Errorf("got error %v, and the keys are there: %v, %v", err, has("app"), has("backup"))
	}
}

// measuring is an archive that notes how much the process holds when what a plan has seen is written.
type measuring struct {
	archive.Archive
	held *uint64
}

func (m measuring) Put(ctx context.Context, name, contentType string, write func(io.Writer) error) (string, error) {
	return m.Archive.Put(ctx, name, contentType, func(w io.Writer) error {
		err := write(w)
		if strings.Contains(name, "/found/") {
			*m.held = held()
		}
		return err
	})
}

func held() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// The command plans an account in one part, however large: a million keys must not have to fit into a container.
func TestWhatAPlanHasSeenIsNeverHeldAtOnce(t *testing.T) {
	const keys = 5000
	s, _, _ := cloud(t, nil, slices.Repeat([]string{"a", "b", "c", "d", "e"}, keys/5)...)
	event := settings.SweepEvent{Phase: settings.PhasePlan, Accounts: []string{"environment"}, Resume: map[string]string{"environment": ""}}
	before, during := held(), uint64(0)
	s.Archive = measuring{s.Archive, &during}
	if _, err := Revoke(t.Context(), s, event); err != nil {
		t.Fatal(err)
	}
	if during == 0 || during > before+200*keys {
		t.Errorf("it holds %d KB for %d keys", (int64(during)-int64(before))/1000, keys)
	}
}
