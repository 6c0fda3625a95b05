// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// line is one line of the embedded metric format, as CloudWatch reads it.
type line struct {
	AWS struct {
		Timestamp         int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	} `json:"_aws"`
}

// read returns each line's values, after looking that all that it describes is there.
func read(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range bytes.Lines(out.Bytes()) {
		var described line
		var values map[string]any
		if err := json.Unmarshal(text, &described); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &values); err != nil {
			t.Fatal(err)
		}
		if described.AWS.Timestamp < 1e12 || len(described.AWS.CloudWatchMetrics) != 1 ||
			described.AWS.CloudWatchMetrics[0].Namespace != Namespace {
			t.Errorf("got %s", text)
		}
		directive := described.AWS.CloudWatchMetrics[0]
		for _, name := range directive.Dimensions[0] {
			if _, ok := values[name].(string); !ok {
				t.Errorf("the dimension %s is missing", name)
			}
		}
		for _, m := range directive.Metrics {
			if _, ok := values[m.Name].(float64); !ok || m.Unit == "" {
				t.Errorf("the metric %s is missing", m.Name)
			}
		}
		if len(values) != len(directive.Metrics)+len(directive.Dimensions[0])+1 {
			t.Errorf("a value is not described: %s", text)
		}
		lines = append(lines, values)
	}
	return lines
}

func TestASweepsMetrics(t *testing.T) {
	counts := sweep.Counts{Seen: 10, Deleted: 2, Drifted: 1, ByClass: map[sweep.Class]int{sweep.ClassOrphan: 3}, ByAge: [8]int{0, 0, 0, 4}}
	var out bytes.Buffer
	err := Sweep(&out, "revoke-expired-keys", sweep.Result{Started: time.Now(), Took: 1500 * time.Millisecond, Accounts: []sweep.AccountResult{
		{Provider: "outscale", Counts: counts}, {Provider: "outscale", Counts: counts, Tripped: "x"}, {Provider: "huawei", Problem: "x"},
	}}, true)
	lines := read(t, &out)
	if err != nil || len(lines) != 2 {
		t.Fatalf("got %v and error %v", lines, err)
	}
	huawei, outscale := lines[0], lines[1]
	for name, want := range map[string]float64{
		"TargetsSwept": 2, "TargetsFailed": 0, "BreakerTripped": 1, "KeysSeen": 20, "KeysDeleted": 4, "PlanDrift": 2, "KeysOrphan": 6,
		"KeysUnder90Days": 8, "KeysFlagged": 0, "KeysDeactivated": 0, "KeysUndeletable": 0, "KeysProtected": 0, "RunSeconds": 1.5,
	} {
		if outscale[name] != want {
			t.Errorf("%s is %v, want %v", name, outscale[name], want)
		}
	}
	if huawei["Provider"] != "huawei" || huawei["TargetsFailed"] != 1.0 || huawei["TargetsSwept"] != 0.0 {
		t.Errorf("got %v", huawei)
	}
}

func TestNoBreakerTripsWhereNothingWouldHaveBeenApplied(t *testing.T) {
	for armed, want := range map[bool]float64{true: 1, false: 0} {
		var out bytes.Buffer
		err := Sweep(&out, "f", sweep.Result{Started: time.Now(), Accounts: []sweep.AccountResult{{Provider: "outscale", Tripped: "x"}}}, armed)
		if lines := read(t, &out); err != nil || lines[0]["BreakerTripped"] != want {
			t.Errorf("armed %v: got %v and error %v", armed, lines[0]["BreakerTripped"], err)
		}
	}
}

func TestAPolicySyncsMetrics(t *testing.T) {
	var out bytes.Buffer
	err := PolicySync(&out, "sync-policy", policysync.Result{Started: time.Now(), Accounts: []policysync.AccountResult{
		{Provider: "outscale", Wanted: time.Hour, InForce: 2 * time.Hour, After: time.Hour, BlockerCount: 3}, // a report of what would be changed
		{Provider: "outscale", Wanted: time.Hour, InForce: 0, After: time.Hour},
		{Provider: "outscale", Wanted: time.Hour, InForce: 3 * time.Hour, After: time.Hour, Action: policysync.ActionTighten},
		{Provider: "outscale", Wanted: time.Hour, InForce: time.Hour, After: time.Hour, Action: policysync.ActionTighten}, // it was changed
		{Provider: "outscale", Wanted: time.Hour, InForce: time.Minute, After: time.Minute},                               // stricter
		{Provider: "outscale", Wanted: time.Hour, InForce: 9 * time.Hour, After: 9 * time.Hour, BlockerCount: 1},          // blocked
		{Provider: "outscale", Wanted: time.Hour, InForce: 9 * time.Hour, After: time.Hour, Problem: "x"},
	}})
	lines := read(t, &out)
	if err != nil || len(lines) != 1 || lines[0]["PolicyDrift"] != 3.0 || lines[0]["PolicyBlockers"] != 4.0 ||
		lines[0]["TargetsSwept"] != 6.0 {
		t.Errorf("got %v and error %v", lines, err)
	}
}
