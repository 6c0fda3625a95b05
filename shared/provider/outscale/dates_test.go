// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

func TestDatesOfAnswers(t *testing.T) {
	second := time.Date(2028, 2, 20, 10, 4, 5, 0, time.UTC)
	cases := map[string]struct {
		text string
		want time.Time
	}{
		"the usual form, which RFC 3339 does not read": {"2028-02-20T10:04:05.000+0000", second},
		"with milliseconds":                            {"2028-02-20T10:04:05.250+0000", second.Add(250 * time.Millisecond)},
		"without a fraction":                           {"2028-02-20T10:04:05+0000", second},
		"with Z":                                       {"2028-02-20T10:04:05.000Z", second},
		"with Z and without a fraction":                {"2028-02-20T10:04:05Z", second},
		"with a zone that is not UTC":                  {"2028-02-20T12:04:05.000+0200", second},
		"with a zone as in RFC 3339":                   {"2028-02-20T12:04:05+02:00", second},
		"a day alone":                                  {"2028-02-20", time.Date(2028, 2, 20, 0, 0, 0, 0, time.UTC)},
		"a day alone, basic":                           {"20280220", time.Date(2028, 2, 20, 0, 0, 0, 0, time.UTC)},
		"a month alone":                                {"2028-02", time.Date(2028, 2, 1, 0, 0, 0, 0, time.UTC)},
		"a year alone":                                 {"2063", time.Date(2063, 1, 1, 0, 0, 0, 0, time.UTC)},
		"basic, as the API's description allows":       {"20280220T100405Z", second},
		"basic with a zone":                            {"20280220T120405+0200", second},
		"basic with a fraction":                        {"20280220T100405.000+0000", second},
		"without a zone":                               {"2028-02-20T10:04:05.000", second},
		"with a comma before the fraction":             {"2028-02-20T10:04:05,000+0000", second},
		"with the hours of a zone alone":               {"2028-02-20T12:04:05+02", second},
		"with a space":                                 {"2028-02-20 10:04:05", second},
		"as in the description's examples":             {"2028-02-20 12:04:05.000000000 +02:00", second},
		"to the minute":                                {"2028-02-20T10:04Z", second.Add(-5 * time.Second)},
		"empty":                                        {"", time.Time{}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := parseDate(&test.text)
			if err != nil || !got.Equal(test.want) || got.Location() != time.UTC {
				t.Errorf("got %v and error %v, want %v", got, err, test.want)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		if got, err := parseDate(nil); err != nil || !got.IsZero() {
			t.Errorf("got %v and error %v", got, err)
		}
	})
}

func TestEveryDateInTheExamplesOfTheAPIsDescriptionIsRead(t *testing.T) {
	dates := contract.ExampleDates(t)
	if len(dates) < 5 {
		t.Errorf("the description has the dates %q: this test looks for others", dates)
	}
	for _, text := range dates {
		if got, err := parseDate(&text); err != nil || got.IsZero() {
			t.Errorf("%q: got %v and error %v", text, got, err)
		}
	}
}

func TestADateThatCannotBeReadIsAnErrorAndNotNever(t *testing.T) {
	for _, text := range []string{
		"never", "null", "0", " ", "2028-02-30T10:04:05.000+0000", "2028-02-20T25:04:05Z", "1897806245", "20-02-2028",
		"2028-02-20T10:04:05.000+0000 ", "0001-01-01T00:00:00.000+0000", "9999-12-31T23:59:59-12:00", "0001", "202802", "28-02-20", "20280220T10", strings.Repeat("9", 10_000),
	} {
		got, err := parseDate(&text)
		if err == nil || !got.IsZero() {
			t.Errorf("%.50q: got %v and error %v", text, got, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%.50q: the error has %d bytes", text, len(err.Error()))
		}
	}
}

func TestADateIsSentWithItsTimeInUTC(t *testing.T) {
	at := time.Date(2028, 2, 20, 12, 4, 5, 0, time.FixedZone("", 7200))
	if got := *formatDate(at); got != "2028-02-20T10:04:05.000Z" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseDate(f *testing.F) {
	for _, seed := range []string{
		"2028-02-20T10:04:05.000+0000", "2028-02-20T10:04:05Z", "2028-02-20", "", "never", "0000-01-01T00:00:00.000+0000",
		"9999-12-31T23:59:59.999+2359", "2028-02-20T10:04:05,5+0000",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseDate(&text)
		if err != nil {
			if !got.IsZero() {
				t.Errorf("%q: got %v beside an error", text, got)
			}
			return
		}
		if text == "" || got.Year() < 1 || got.Year() > 9999 {
			return // what is sent has four digits
		}
		again, err := parseDate(formatDate(got))
		if err != nil || !again.Equal(got.Truncate(time.Millisecond)) {
			t.Errorf("%q is %v, but what is sent for it reads as %v (error %v)", text, got, again, err)
		}
	})
}
