// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
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
	used := metricsIn(expressions.String())
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

// TestTheAlertsAreOfWhatTheEngineCounts holds the rules against the engine, and the page against the rules: a rule of a metric, or of a
// kind of error, that does not exist never fires.
func TestTheAlertsAreOfWhatTheEngineCounts(t *testing.T) {
	raw, err := os.ReadFile("../docs/examples/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				For                 time.Duration
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(raw, &rules); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, kind := range provider.Kinds() {
		kinds = append(kinds, strings.ReplaceAll(string(kind), " ", "_"))
	}
	emitted, absent := emittedMetrics(t), false
	for _, rule := range rules.Groups[0].Rules {
		t.Run(rule.Alert, func(t *testing.T) {
			absent = absent || strings.HasPrefix(rule.Expr, "absent(")
			if rule.For < time.Minute || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Error("it has no for, summary or description")
			}
			row := fmt.Sprintf("\n| `%s` | %s | ", rule.Alert, rule.Labels["severity"])
			if !slices.Contains([]string{"critical", "warning"}, rule.Labels["severity"]) || !strings.Contains(string(page), row) {
				t.Errorf("the page has no row %q", row)
			}
			for _, name := range metricsIn(rule.Expr) {
				if !slices.Contains(emitted, name) {
					t.Errorf("the engine does not answer %s", name)
				}
			}
			if named := regexp.MustCompile(`kind=~"([^"]+)"`).FindStringSubmatch(rule.Expr); named != nil {
				for kind := range strings.SplitSeq(named[1], "|") {
					if !slices.Contains(kinds, kind) {
						t.Errorf("no error is of the kind %s", kind)
					}
				}
			}
		})
	}
	if !absent {
		t.Error("nothing fires where nothing is scraped")
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(Cloudkeys[A-Za-z]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		if !bytes.Contains(raw, []byte("alert: "+row[1]+"\n")) {
			t.Errorf("no rule is the page's %s", row[1])
		}
	}
	for _, gauge := range []string{"comparison_withheld", "static_keys_switched_off"} { // what waits for somebody to decide
		if !bytes.Contains(raw, []byte(metricPrefix+gauge)) {
			t.Errorf("no rule tells of %s%s", metricPrefix, gauge)
		}
	}
}

// metricsIn are the names of the families in expressions.
func metricsIn(expressions string) []string {
	used := regexp.MustCompile(metricPrefix+`[a-z_]+`).FindAllString(expressions, -1)
	for i := range used {
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			used[i] = strings.TrimSuffix(used[i], part)
		}
	}
	return used
}

// emittedMetrics are the names of the families that metrics answers.
func emittedMetrics(t *testing.T) []string {
	t.Helper()
	var text metricsText
	newBackend(Build{}, nil).writeMetrics(&text, nil, nil, time.Now())
	var names []string
	for line := range strings.Lines(text.String()) {
		if comment := commentLine.FindStringSubmatch(strings.TrimSpace(line)); comment != nil && comment[1] == "TYPE" {
			names = append(names, comment[2])
		}
	}
	return names
}
