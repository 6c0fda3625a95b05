// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// An evaluator of CloudWatch's alarms, by the rules of its user guide: "Alarm evaluation", "Configuring how CloudWatch alarms treat
// missing data" and "Using metric math".

// sample is one value that somebody sends.
type sample struct {
	at     time.Duration // since midnight, UTC: periods are aligned to it
	metric string
	value  float64
}

// metricStat is a metric, and what makes one data point of the values of a period.
type metricStat struct {
	metric, stat string
}

// alarm is an alarm of the template, whose parameters have their defaults.
type alarm struct {
	period             time.Duration
	n, m               int // M of N data points must breach
	threshold          float64
	below              bool // LessThanThreshold, and else GreaterThanThreshold
	missing            string
	stats              map[string]metricStat // by id; one alone has the id ""
	terms              []string              // ids whose data points are added up, with 0 where there is none; none: the one metric as it is
	fillsWhatIsNowhere bool                  // the guide leaves open what FILL makes of a metric that has no data point at all: both are tried
}

// alarms are those of the template.
func alarms(t *testing.T) map[string]alarm {
	t.Helper()
	parsed, _ := read(t)
	all := map[string]alarm{}
	for id, resource := range parsed.Resources {
		if resource.Type != "AWS::CloudWatch::Alarm" {
			continue
		}
		p := resource.Properties
		number := func(node yaml.Node, otherwise int) int {
			text := node.Value
			if node.Tag == "!Ref" {
				text = parsed.Parameters[text].Default
			}
			if text == "" {
				return otherwise
			}
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			return n
		}
		a := alarm{
			period: time.Duration(p.Period) * time.Second, n: number(p.EvaluationPeriods, 0), threshold: p.Threshold, missing: p.TreatMissingData,
			below: p.ComparisonOperator == "LessThanThreshold", stats: map[string]metricStat{},
		}
		if a.m = number(p.DatapointsToAlarm, a.n); !a.below && p.ComparisonOperator != "GreaterThanThreshold" {
			t.Fatalf("%s compares by %s", id, p.ComparisonOperator)
		}
		for _, m := range p.Metrics {
			if m.Expression != "" {
				a.terms = termsOf(t, m.Expression)
				continue
			}
			a.stats[m.ID] = metricStat{m.MetricStat.Metric.MetricName, m.MetricStat.Stat}
			a.period = time.Duration(m.MetricStat.Period) * time.Second
		}
		if p.MetricName != "" {
			a.stats[""] = metricStat{p.MetricName, p.Statistic}
		}
		all[id] = a
	}
	return all
}

// termsOf reads FILL(a, 0) + FILL(b, 0).
func termsOf(t *testing.T, expression string) (ids []string) {
	t.Helper()
	for _, term := range strings.Split(expression, " + ") {
		filled := regexp.MustCompile(`^FILL\((\w+), 0\)$`).FindStringSubmatch(term)
		if filled == nil {
			t.Fatalf("the evaluator does not know the expression %s", expression)
		}
		ids = append(ids, filled[1])
	}
	return ids
}

// further is how many data points CloudWatch reads beyond the N that it counts, where some of those may be missing: five for N = 3, in
// the guide's example; it gives no number for others.
const further = 2

// points are the data points of the newest whole periods, the oldest first; nil: missing.
func (a alarm) points(samples []sample, now time.Duration) []*float64 {
	all := make([]*float64, a.n+further)
	values := map[string][]*float64{}
	for id, stat := range a.stats {
		points := make([]*float64, len(all))
		end, known := now.Truncate(a.period), false
		for _, s := range samples {
			i := len(all) - 1 - int((end-a.period-s.at.Truncate(a.period))/a.period)
			if s.metric != stat.metric || s.at >= end || i < 0 {
				continue
			}
			switch known = true; {
			case points[i] == nil:
				points[i] = &s.value
			case stat.stat == "Sum":
				sum := *points[i] + s.value
				points[i] = &sum
			default: // Maximum
				most := max(*points[i], s.value)
				points[i] = &most
			}
		}
		if len(a.terms) > 0 && (known || a.fillsWhatIsNowhere) {
			for i := range points {
				if points[i] == nil {
					points[i] = new(float64)
				}
			}
		}
		values[id] = points
	}
	if len(a.terms) == 0 {
		return values[""]
	}
	for i := range all {
		for _, id := range a.terms {
			switch point := values[id][i]; {
			case point == nil:
			case all[i] == nil:
				all[i] = point
			default:
				sum := *all[i] + *point
				all[i] = &sum
			}
		}
	}
	return all
}

// on tells whether the alarm is in the state ALARM.
//
// Data points that are missing are replaced by older ones of the range that is read, and only where there are not enough of those
// by what the alarm says of missing data.
func (a alarm) on(t *testing.T, samples []sample, now time.Duration) bool {
	t.Helper()
	breaching, counted := 0, 0
	points := a.points(samples, now)
	for i := len(points) - 1; i >= 0 && counted < a.n; i-- {
		if points[i] == nil {
			continue
		}
		counted++
		if value := *points[i]; a.below && value < a.threshold || !a.below && value > a.threshold {
			breaching++
		}
	}
	switch a.missing {
	case "breaching":
		breaching += a.n - counted
	case "notBreaching":
	default:
		t.Fatalf("the evaluator does not know how to treat missing data as %q", a.missing)
	}
	return breaching >= a.m
}

// span is how long an alarm is on.
type span struct{ from, to time.Duration }

func (s span) String() string { return fmt.Sprintf("%s to %s", s.from, s.to) }

// spans evaluates an alarm each minute.
func (a alarm) spans(t *testing.T, samples []sample, from, to time.Duration) (all []span) {
	t.Helper()
	was := false
	for now := from; now <= to; now += time.Minute {
		is := a.on(t, samples, now)
		if is && !was {
			all = append(all, span{now, to})
		}
		if was && !is {
			all[len(all)-1].to = now
		}
		was = is
	}
	return all
}

// The guide's own tables, of three data points of which three or two must breach, 0 within the threshold, X beyond it, - missing.
func TestTheEvaluatorKeepsToTheGuidesTables(t *testing.T) {
	for _, row := range []struct {
		points              string
		m                   int
		breaching, notBreak bool
	}{
		{"0-X-X", 3, false, false},
		{"----0", 3, false, false},
		{"-----", 3, true, false},
		{"0XX-X", 3, true, true},
		{"--X--", 3, true, false},
		{"0-X-X", 2, true, true},
		{"00X0X", 2, true, true},
		{"0-X--", 2, true, false},
		{"----0", 2, true, false},
		{"----X", 2, true, false},
	} {
		var samples []sample
		for i, point := range row.points {
			if point != '-' {
				samples = append(samples, sample{time.Duration(i) * time.Minute, "m", map[rune]float64{'0': 0, 'X': 1}[point]})
			}
		}
		for missing, want := range map[string]bool{"breaching": row.breaching, "notBreaching": row.notBreak} {
			a := alarm{period: time.Minute, n: 3, m: row.m, missing: missing, stats: map[string]metricStat{"": {"m", "Sum"}}}
			if got := a.on(t, samples, 5*time.Minute); got != want {
				t.Errorf("%s, %d of 3, missing data %s: on is %v, and the guide says %v", row.points, row.m, missing, got, want)
			}
		}
	}
}
