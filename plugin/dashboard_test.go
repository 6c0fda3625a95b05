// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTheDashboardShowsWhatTheEngineCounts holds docs/examples/grafana against the engine, both ways: a panel of a metric that
// does not exist stays empty without a word.
func TestTheDashboardShowsWhatTheEngineCounts(t *testing.T) {
	raw, err := os.ReadFile("../docs/examples/grafana/engine.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	var expressions strings.Builder
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			expressions.WriteString(target.Expr + "\n")
		}
	}
	used := regexp.MustCompile(metricPrefix+`[a-z_]+`).FindAllString(expressions.String(), -1)
	for i := range used {
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			used[i] = strings.TrimSuffix(used[i], part)
		}
	}
	emitted := emittedMetrics(t)
	for _, name := range used {
		if !slices.Contains(emitted, name) {
			t.Errorf("the dashboard shows %s, which the engine does not answer", name)
		}
	}
	for _, name := range emitted {
		if !slices.Contains(used, name) {
			t.Errorf("the engine answers %s, which the dashboard does not show", name)
		}
	}
}

// TestTheDashboardsNumbersAreOfNow: a stat of a range shows the last value of the whole range, so that a dead engine would stay green
// for a day, and a table of a range shows times and values instead of labels.
func TestTheDashboardsNumbersAreOfNow(t *testing.T) {
	raw, err := os.ReadFile("../docs/examples/grafana/engine.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct {
				Instant bool
				Format  string
			}
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if (panel.Type == "stat" || panel.Type == "table") && !target.Instant {
				t.Errorf("%s is asked for over a range", panel.Title)
			}
			if panel.Type == "table" && target.Format != "table" {
				t.Errorf("%s is a table of the format %q", panel.Title, target.Format)
			}
		}
	}
}

// emittedMetrics are the names of the families that metrics answers.
func emittedMetrics(t *testing.T) []string {
	t.Helper()
	var text metricsText
	newBackend(Build{}, nil).writeMetrics(&text, nil, time.Now())
	var names []string
	for line := range strings.Lines(text.String()) {
		if comment := commentLine.FindStringSubmatch(strings.TrimSpace(line)); comment != nil && comment[1] == "TYPE" {
			names = append(names, comment[2])
		}
	}
	return names
}
