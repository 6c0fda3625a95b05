// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"regexp"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

const ours = "cloudkeys-AAAAAAAAAAAAAAAA-lease-BBBBBBBBBBBBBBBB"

func TestDescriptions(t *testing.T) {
	due := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		text  string
		label string
		due   time.Time
	}{
		"label and date":                 {ours + "/until/2026-11-22T10:00:00Z", ours, due},
		"a label alone":                  {ours, ours, time.Time{}},
		"nothing":                        {"", "", time.Time{}},
		"somebody else's text":           {"deploy key of Ann", "deploy key of Ann", time.Time{}},
		"somebody else's with a date":    {"mine/until/2026-11-22T10:00:00Z", "mine/until/2026-11-22T10:00:00Z", time.Time{}},
		"a date in another zone":         {ours + "/until/2026-11-22T10:00:00+02:00", ours + "/until/2026-11-22T10:00:00+02:00", time.Time{}},
		"a date with a fraction":         {ours + "/until/2026-11-22T10:00:00.5Z", ours + "/until/2026-11-22T10:00:00.5Z", time.Time{}},
		"a date that is none":            {ours + "/until/tomorrow", ours + "/until/tomorrow", time.Time{}},
		"a date that is cut off":         {ours + "/until/2026-11-22T10", ours + "/until/2026-11-22T10", time.Time{}},
		"two dates":                      {ours + "/until/2026-11-22T10:00:00Z/until/2026-11-22T10:00:00Z", ours + "/until/2026-11-22T10:00:00Z/until/2026-11-22T10:00:00Z", time.Time{}},
		"a note that an operator added":  {ours + "/until/2026-11-22T10:00:00Z keep", ours + "/until/2026-11-22T10:00:00Z keep", time.Time{}},
		"the year 1, which means no day": {ours + "/until/0001-01-01T00:00:00Z", ours + "/until/0001-01-01T00:00:00Z", time.Time{}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			label, due := readDescription(test.text)
			if label != test.label || !due.Equal(test.due) {
				t.Errorf("got %q until %s", label, due)
			}
		})
	}
}

func TestADateStandsOnlyBesideALabelOfTheEngine(t *testing.T) {
	for _, label := range []string{"", "mine", ours + "x"} {
		if text, err := describe(label, time.Now()); err == nil {
			t.Errorf("got %q", text)
		}
		if text, err := describe(label, time.Time{}); err != nil || text != label {
			t.Errorf("without a date: got %q and %v", text, err)
		}
	}
}

func FuzzADescriptionIsReadAsItWasWritten(f *testing.F) {
	f.Add(int64(1_795_341_600))
	f.Add(int64(0))
	f.Add(int64(-1))
	alphabet := regexp.MustCompile(`^[A-Za-z0-9:._/-]{1,255}$`)
	f.Fuzz(func(t *testing.T, seconds int64) {
		due := time.Unix(seconds%(1<<37), 0).UTC()
		if due.Year() < 1 || due.Year() > 9999 || due.IsZero() {
			return
		}
		want := keylabel.New(keylabel.NewID(), keylabel.KindUser).String()
		text, err := describe(want, due)
		mustDo(t, err)
		if label, got := readDescription(text); label != want || !got.Equal(due) || !alphabet.MatchString(text) {
			t.Errorf("%q reads as %q until %s, want %q until %s", text, label, got, want, due)
		}
	})
}

func FuzzADescriptionLosesNothing(f *testing.F) {
	f.Add(ours + "/until/2026-11-22T10:00:00Z")
	f.Add(ours + "/until/")
	f.Add("/until/2026-11-22T10:00:00Z")
	f.Fuzz(func(t *testing.T, text string) {
		label, due := readDescription(text)
		if again, err := describe(label, due); err != nil || again != text {
			t.Errorf("%q becomes %q, %v", text, again, err)
		}
	})
}
