// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDatesOfAnswers(t *testing.T) {
	want := time.Date(2023, 6, 28, 8, 56, 33, 710_000_000, time.UTC)
	for _, text := range []string{
		"2023-06-28T08:56:33.710000Z", "2023-06-28T08:56:33.71Z", "2023-06-28T08:56:33.710000", "2023-06-28T16:56:33.710+08:00",
	} {
		if got, err := parseDate(text); err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: got %s and %v, want %s", text, got, err, want)
		}
	}
	if got, err := parseDate(""); err != nil || !got.IsZero() {
		t.Errorf("no date: got %s and %v", got, err)
	}
	for _, text := range []string{"tomorrow", "202306", "1687942593", "2023-13-01T00:00:00Z", "0001-01-01T00:00:00Z"} {
		if got, err := parseDate(text); err == nil || strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %s and %v, want an error that does not repeat it", text, got, err)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("2023-06-28T08:56:33.710000Z")
	f.Add("2023-06-28T08:56:33")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseDate(text)
		if err != nil && (!got.IsZero() || !errors.Is(err, errDate)) || err == nil && got.IsZero() != (text == "") {
			t.Errorf("%q: got %s and %v", text, got, err)
		}
	})
}
