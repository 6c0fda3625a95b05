// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package lifetime

import (
	"strings"
	"testing"
	"time"
)

// noon is a Wednesday.
var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func TestNextRotation(t *testing.T) {
	created := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	tests := map[string]struct{ life, period, want time.Duration }{
		"a key without date and period is never replaced":       {0, 0, 0},
		"the period counts from the key's creation":             {0, day, day},
		"a key with a date is replaced with a third left":       {900 * time.Second, 0, 600 * time.Second},
		"a long period does not outlast the date":               {900 * time.Second, day, 600 * time.Second},
		"a short period comes before the date":                  {30 * day, day, day},
		"a short life keeps a few ticks of lead":                {300 * time.Second, 0, 120 * time.Second},
		"a life shorter than the lead is replaced at each tick": {115 * time.Second, 0, -65 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var expires, want time.Time
			if test.life > 0 {
				expires = created.Add(test.life)
			}
			if test.want != 0 {
				want = created.Add(test.want)
			}
			if got := NextRotation(created, expires, test.period); !got.Equal(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestASchedule(t *testing.T) {
	for name, test := range map[string]struct{ schedule, says string }{
		"every night":                           {"0 3 * * *", ""},
		"on Sundays, by name":                   {"0 3 * * SUN", ""},
		"every six hours on weekdays":           {"0 */6 * * 1-5", ""},
		"spaces around it":                      {"  0 3 * * *  ", ""},
		"nothing":                               {"", "either rotation_period or rotation_schedule"},
		"spaces alone":                          {" ", "0 fields"},
		"a zone that nothing follows":           {"TZ=UTC", "1 fields"},
		"the same with as many fields as usual": {"TZ=UTC 3 * * *", `"TZ=UTC" holds`},
		"a zone before five fields":             {"CRON_TZ=Asia/Tokyo 0 2 * * *", "6 fields"},
		"a descriptor":                          {"@daily", "1 fields"},
		"a descriptor among fields":             {"@every 1h * * *", `"@every" holds`},
		"six fields":                            {"0 0 3 * * *", "6 fields"},
		"words":                                 {"at three in the night", "rotation_schedule"},
		"a line break":                          {"0 3 * *\n*", ""},
		"a day that never comes":                {"0 0 30 2 *", "never comes"},
		"each minute":                           {"* * * * *", "1m0s apart, and 5m0s is the least"},
		"two rotations within minutes":          {"0,3 2 * * *", "3m0s apart"},
		"a step of zero":                        {"*/0 * * * *", "rotation_schedule"},
		"a step beyond every number":            {"*/99999999999999999999 * * * *", "rotation_schedule"},
		"a long list":                           {strings.Repeat("1,", 200) + "1 * * * *", "characters"},
		"another alphabet":                      {"０ 3 * * *", "holds"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Static{Schedule: test.schedule}.Check(noon)
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q in it", err, test.says)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("the refusal has %d characters", len(err.Error()))
			}
		})
	}
}

func TestARotationThatCannotWorkIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		static Static
		says   string
	}{
		"a day":                            {Static{Period: day, Grace: time.Hour}, ""},
		"both":                             {Static{Period: day, Schedule: "0 3 * * *"}, "either"},
		"less than five minutes":           {Static{Period: 299 * time.Second}, "5m0s is the least"},
		"171 years, twice which overflows": {Static{Period: 1500000 * time.Hour}, "ten years"},
		"less than nothing":                {Static{Period: -time.Hour}, "the least"},
		"a window with a period":           {Static{Period: day, Window: time.Hour}, "goes with rotation_schedule"},
		"a window under an hour":           {Static{Schedule: "0 3 * * *", Window: 59 * time.Minute}, "1h0m0s is the least"},
		"a window of a century":            {Static{Schedule: "0 3 * * *", Window: 1500000 * time.Hour}, "ten years"},
		"a negative grace":                 {Static{Period: day, Grace: -1}, "negative"},
		"a grace of the whole period":      {Static{Period: day, Grace: day}, "must be shorter"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.static.Check(noon)
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q in it", err, test.says)
			}
		})
	}
}

func TestWhenAStaticKeyIsDue(t *testing.T) {
	nightly := Static{Schedule: "0 3 * * *", Window: 2 * time.Hour, Grace: time.Hour}
	for name, test := range map[string]struct {
		static                      Static
		last, created, expires, now time.Time
		want                        time.Time
	}{
		"a period counts from the last rotation": {Static{Period: day}, noon, noon, time.Time{}, noon.Add(time.Hour), noon.Add(day)},
		"a schedule is in UTC":                   {nightly, noon.In(time.FixedZone("east", 9*3600)), noon, time.Time{}, noon, noon.Add(15 * time.Hour)},
		"within its window it is still due":      {nightly, noon, noon, time.Time{}, noon.Add(16 * time.Hour), noon.Add(15 * time.Hour)},
		"past its window it waits for the next":  {nightly, noon, noon, time.Time{}, noon.Add(18 * time.Hour), noon.Add(39 * time.Hour)},
		"never after the key's own date":         {Static{Period: 10 * day}, noon, noon, noon.Add(day), noon, noon.Add(day - RotationLead)},
		"a short life keeps a third of it":       {Static{Period: day, Grace: 20 * time.Hour}, noon, noon, noon.Add(3 * time.Hour), noon, noon.Add(2 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.static.Due(test.last, test.created, test.expires, test.now)
			if err != nil || !got.Equal(test.want) {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"0 3 * * *", "TZ=UTC", "CRON_TZ=UTC 0 3 * * *", "@daily", "*/5 * * * *", "0-0/0 1,2 ? * SUN-SAT", "\x00 \xff * * *"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, schedule string) {
		s := Static{Schedule: schedule}
		if s.Check(noon) != nil {
			return
		}
		next, err := s.Next(noon)
		if err != nil || !next.After(noon) || next.Location() != time.UTC {
			t.Errorf("%q was accepted, and comes at %s: %v", schedule, next, err)
		}
	})
}
