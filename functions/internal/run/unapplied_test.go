// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// planned carries out a state machine's run until it is decided, and returns the event that applies the one account's plan.
func planned(t *testing.T, s Env) settings.SweepEvent {
	t.Helper()
	for _, event := range []settings.SweepEvent{
		{Phase: settings.PhaseList},
		{Phase: settings.PhasePlan, Accounts: []string{"environment"}, Resume: map[string]string{"environment": ""}},
		{Phase: settings.PhaseDecide},
	} {
		if _, err := Revoke(t.Context(), s, event); err != nil {
			t.Fatal(err)
		}
	}
	text, err := s.Archive.Get(t.Context(), s.inRun("changes.json"))
	var orders []order
	if err != nil || json.Unmarshal(text, &orders) != nil || len(orders) != 1 {
		t.Fatalf("%s, %v", text, err)
	}
	return orders[0].SweepEvent
}

// closed ends the run, and returns its metrics, its page and the account's sum.
func closed(t *testing.T, s Env) (counted, page string, sum report.Sum) {
	t.Helper()
	var out bytes.Buffer
	s.Metrics = &out
	answer, err := Revoke(t.Context(), s, settings.SweepEvent{Phase: settings.PhaseClose})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(answer.(*CloseAnswer).Page)
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.Archive.Get(t.Context(), s.partName("sums", "environment", 0))
	if err != nil || json.Unmarshal(part, &sum) != nil {
		t.Fatalf("%s, %v", part, err)
	}
	return out.String(), string(text), sum
}

// Nobody looks at a page every night: what stays undone must raise the alarm, however the step ended.
func TestAnAccountOfWhichNoPlannedKeyWasReachedRaisesTheAlarm(t *testing.T) {
	t.Run("where the cloud refuses the key while the planned keys are read again", func(t *testing.T) {
		s, sim, has := cloud(t, nil, "app", "backup")
		event := planned(t, s)
		const toOpen = 3 // reads of keys, to find out whose key signs
		sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: 401, Code: "1", Skip: toOpen})
		if _, err := Revoke(t.Context(), s, event); err == nil || !has("app") || !has("backup") {
			t.Fatalf("got error %v, and the keys are there: %v, %v", err, has("app"), has("backup"))
		}
		counted, page, sum := closed(t, s)
		if sum.Planned != 2 || sum.Unsettled != 2 || sum.NotReached != 2 || sum.Failed != 0 || sum.Problem == "" {
			t.Errorf("got %+v", sum)
		}
		if !strings.Contains(counted, `"AccountsUnapplied":1,`) || !strings.Contains(page, "given up") {
			t.Errorf("the metrics are %s, and the page says that the account was given up: %v", counted, strings.Contains(page, "given up"))
		}
	})

	t.Run("but none that was not planned whole, which has an alarm of its own", func(t *testing.T) {
		s, _, _ := cloud(t, nil, "app", "backup")
		planned(t, s)
		if err := s.putJSON(t.Context(), s.inRun("changes.json"), []order{{SweepEvent: settings.SweepEvent{Accounts: []string{"another"}}}}); err != nil {
			t.Fatal(err)
		}
		if counted, _, _ := closed(t, s); !strings.Contains(counted, `"AccountsUnapplied":0,`) {
			t.Errorf("the metrics are %s", counted)
		}
	})

	t.Run("where the time of the invocation was too short for anything", func(t *testing.T) {
		s, _, _ := cloud(t, nil, "app", "backup")
		planned(t, s)
		sum := report.Sum{
			Account: "environment", Reached: true, Partial: true, Planned: 2, Unsettled: 2, NotReached: 2,
			PlannedByClass: map[sweep.Class]int{sweep.ClassOrphan: 2},
		}
		if err := s.putJSON(t.Context(), s.partName("sums", "environment", 0), sum); err != nil {
			t.Fatal(err)
		}
		counted, page, _ := closed(t, s)
		if !strings.Contains(counted, `"AccountsUnapplied":1,`) || !strings.Contains(page, "2 planned keys were not dealt with") {
			t.Errorf("the metrics are %s, and the page says what was not dealt with: %v", counted, strings.Contains(page, "not dealt with"))
		}
	})
}
