// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// TestTheDashboardShowsWhatTheFunctionsCount holds docs/examples/grafana against the functions, both ways.
func TestTheDashboardShowsWhatTheFunctionsCount(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/examples/grafana/functions.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct {
				Namespace, MetricName string
				Dimensions            map[string]string
			}
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if target.Namespace != Namespace {
				continue
			}
			used[target.MetricName] = true
			if got := slices.Collect(maps.Keys(target.Dimensions)); !slices.Equal(got, []string{"Function"}) {
				t.Errorf("%s is asked for by %v, and is sent by Function", target.MetricName, got)
			}
		}
	}
	emitted := emitted(t)
	for name := range used {
		if !emitted[name] {
			t.Errorf("the dashboard shows %s, which no function sends", name)
		}
	}
	for name := range emitted {
		if !used[name] {
			t.Errorf("a function sends %s, which the dashboard does not show", name)
		}
	}
}

// emitted are the names of all metrics of both functions.
func emitted(t *testing.T) map[string]bool {
	t.Helper()
	var out bytes.Buffer
	if err := Sweep(&out, "f", sweep.Result{Accounts: []sweep.AccountResult{{}}}, true); err != nil {
		t.Fatal(err)
	}
	if err := PolicySync(&out, "f", policysync.Result{Accounts: []policysync.AccountResult{{}}}); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for text := range bytes.Lines(out.Bytes()) {
		var described line
		if err := json.Unmarshal(text, &described); err != nil {
			t.Fatal(err)
		}
		for _, directive := range described.AWS.CloudWatchMetrics {
			for _, metric := range directive.Metrics {
				names[metric.Name] = true
			}
		}
	}
	return names
}
