// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	minute  = time.Minute
	nightly = 3*time.Hour + 25*minute // of a day: 03:17, and some of the window of 15 minutes
	day     = 24 * time.Hour
)

// nights are what a function sends in each of some nights, from the first on.
func nights(first, number int, metric string, value float64) (samples []sample) {
	for i := range number {
		samples = append(samples, sample{time.Duration(first+i)*day + nightly, metric, value})
	}
	return samples
}

// everySixHours is what sync-policy sends, from one run to another.
func everySixHours(from, to int, metric string, value float64) (samples []sample) {
	for i := from; i < to; i++ {
		samples = append(samples, sample{time.Duration(i)*6*time.Hour + 10*minute, metric, value})
	}
	return samples
}

// byTurns are runs of some nights, at their time of the day.
func byTurns(at time.Duration, nights ...int) (samples []sample) {
	for _, night := range nights {
		samples = append(samples, sample{time.Duration(night)*day + at, "TargetsSwept", 1})
	}
	return samples
}

func one(at time.Duration, metric string) []sample { return []sample{{at, metric, 1}} }

// bound is when an alarm must have come on, and when it must be off again.
type bound struct{ after, onBy, offBy time.Duration }

func (b bound) String() string {
	return fmt.Sprintf("after %s, on by %s, off by %s", b.after, b.onBy, b.offBy)
}

// soon is an alarm that tells of something minutes after it, and is off minutes later.
func soon(at time.Duration) bound { return bound{at, at + 11*minute, at + 30*minute} }

func TestEachAlarmIsOnWhenAndOnlyWhenItShouldBe(t *testing.T) {
	at, next := day+nightly, 2*day+nightly
	cases := map[string]map[string]struct {
		samples []sample
		on      []bound // none: never
	}{
		"SilenceAlarm": {
			"a run each night": {nights(0, 7, "TargetsSwept", 3), nil},
			"a run each night, early and late by turns": {
				slices.Concat(byTurns(3*time.Hour+17*minute, 0, 2, 4, 6), byTurns(3*time.Hour+58*minute, 1, 3, 5)), nil,
			},
			"a night without one, told the same morning": {
				slices.Concat(nights(0, 3, "TargetsSwept", 3), nights(4, 3, "TargetsSwept", 3)),
				[]bound{{3*day + nightly, 3*day + nightly + 3*time.Hour, 4*day + 5*time.Hour}},
			},
			"no more runs": {nights(0, 3, "TargetsSwept", 3), []bound{{3*day + nightly, 3*day + nightly + 3*time.Hour, 7 * day}}},
			"runs that go over no account": {
				slices.Concat(nights(0, 3, "TargetsSwept", 3), nights(3, 4, "TargetsSwept", 0)),
				[]bound{{3*day + nightly, 3*day + nightly + 3*time.Hour, 7 * day}},
			},
			"a stack that has never run": {nil, []bound{{0, day, 7 * day}}},
		},
		"SyncSilenceAlarm": {
			"a run every six hours": {everySixHours(0, 28, "TargetsSwept", 1), nil},
			"a run that is left out, with others around it": {
				slices.Concat(everySixHours(0, 9, "TargetsSwept", 1), everySixHours(10, 28, "TargetsSwept", 1)), nil,
			},
			"no more runs": {everySixHours(0, 8, "TargetsSwept", 1), []bound{{2 * day, 3 * day, 7 * day}}},
		},
		"FailureAlarm": {
			"an empty queue": {nil, nil},
			"a try that failed, and a second one that did not": {slices.Concat(one(at, "Errors"), one(at+3*minute, "Invocations")), nil},
			"a run that stays in the queue for days": {
				slices.Concat(one(at, "NumberOfMessagesSent"), nights(2, 5, "ApproximateNumberOfMessagesVisible", 1)), []bound{soon(at)},
			},
			"two nights, told twice": {
				slices.Concat(one(at, "NumberOfMessagesSent"), one(next, "NumberOfMessagesSent")), []bound{soon(at), soon(next)},
			},
		},
		"StatesFailedAlarm": {
			"executions that succeed": {nights(0, 7, "ExecutionsSucceeded", 1), nil},
			"no executions at all":    {nil, nil},
			"one that failed":         {one(at, "ExecutionsFailed"), []bound{soon(at)}},
			"one that timed out":      {one(at, "ExecutionsTimedOut"), []bound{soon(at)}},
			"one that was aborted":    {one(at, "ExecutionsAborted"), []bound{soon(at)}},
			"two, of different ends": {
				slices.Concat(one(at, "ExecutionsFailed"), one(next, "ExecutionsAborted")), []bound{soon(at), soon(next)},
			},
		},
		"UnplannedAlarm": {
			"all accounts planned": {nights(0, 7, "AccountsUnplanned", 0), nil},
			"one left out":         {one(at, "AccountsUnplanned"), []bound{soon(at)}},
		},
		"UnappliedAlarm": {
			"all plans applied": {nights(0, 7, "AccountsUnapplied", 0), nil},
			"one that was not":  {one(at, "AccountsUnapplied"), []bound{soon(at)}},
			"a step that failed, and was tried again with success": {
				slices.Concat(one(at, "Errors"), one(at, "TargetsFailed"), nights(0, 7, "AccountsUnapplied", 0)), nil,
			},
		},
		"ApprovalAlarm": {
			"no question": {nil, nil},
			"one that lies in the queue for twelve hours": {
				slices.Concat(one(at, "NumberOfMessagesSent"), []sample{{at + 6*time.Hour, "ApproximateNumberOfMessagesVisible", 1}}),
				[]bound{soon(at)},
			},
		},
		"BreakerAlarm": {
			"plans within the caps": {nights(0, 7, "BreakerTripped", 0), nil},
			"one over them, and the same minute others within": {
				[]sample{{at, "BreakerTripped", 0}, {at, "BreakerTripped", 1}, {at, "BreakerTripped", 0}}, []bound{soon(at)},
			},
		},
		"UndeletableAlarm": {
			"no refusal":     {nights(0, 7, "KeysUndeletable", 0), nil},
			"one, told once": {slices.Concat(one(at, "KeysUndeletable"), nights(2, 5, "KeysUndeletable", 0)), []bound{soon(at)}},
		},
		"PolicyDriftAlarm": {
			"policies in step": {everySixHours(0, 28, "PolicyDrift", 0), nil},
			"no runs at all":   {nil, nil},
			"a drift that stays, told once, and off the hour after it has ended": {
				slices.Concat(everySixHours(0, 8, "PolicyDrift", 0), everySixHours(8, 16, "PolicyDrift", 2), everySixHours(16, 28, "PolicyDrift", 0)),
				[]bound{{2 * day, 2*day + 90*minute, 4*day + 3*time.Hour}},
			},
			"a drift before runs end for good": {everySixHours(0, 8, "PolicyDrift", 1), []bound{{0, 2 * time.Hour, 2*day + 4*time.Hour}}},
		},
	}
	for id, a := range alarms(t) {
		if len(cases[id]) < 2 {
			t.Errorf("%s: nobody says when it is on, and when it is not", id)
		}
		for name, test := range cases[id] {
			for _, a.fillsWhatIsNowhere = range []bool{true, false} {
				t.Run(id+", "+name, func(t *testing.T) { a.mustBeOn(t, test.samples, test.on) })
			}
		}
	}
	if len(cases) != len(alarms(t)) {
		t.Errorf("cases of %v", slices.Sorted(maps.Keys(cases)))
	}
}

// mustBeOn looks at a week. Silence is on before the first run, which is not looked at.
func (a alarm) mustBeOn(t *testing.T, samples []sample, bounds []bound) {
	t.Helper()
	from := time.Duration(0)
	if len(samples) > 0 && a.missing == "breaching" {
		from = samples[0].at.Truncate(a.period) + a.period
	}
	got := a.spans(t, samples, from, 7*day)
	right := len(got) == len(bounds)
	for i := range min(len(got), len(bounds)) {
		right = right && got[i].from >= bounds[i].after && got[i].from <= bounds[i].onBy && got[i].to <= bounds[i].offBy
	}
	if !right {
		t.Errorf("it is on %v, want %v", got, bounds)
	}
}

// The topic that alarms go to is asked for: a default would leave them to a console that nobody looks at.
func TestTheAlarmsTopicIsAskedFor(t *testing.T) {
	parsed, text := read(t)
	_, rest, _ := strings.Cut(text, "\n  AlarmTopicArn:\n")
	own, _, _ := strings.Cut(rest, "\n  SilenceHours:")
	if strings.Contains(own, "Default:") {
		t.Errorf("AlarmTopicArn has a default: %s", own)
	}
	for id, resource := range parsed.Resources {
		if resource.Type == "AWS::CloudWatch::Alarm" && resource.Properties.AlarmActions.Tag != "!If" {
			t.Errorf("%s is sent nowhere", id)
		}
	}
}
