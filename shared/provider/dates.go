// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import "time"

// dateForms are the forms of ISO 8601 in which clouds write dates or say that they may, the usual ones first. Go reads
// a fraction of a second, after a point or a comma, with each of those that have seconds. What has no zone is UTC.
var dateForms = []string{
	"2006-01-02T15:04:05Z0700", // OUTSCALE's own: time.RFC3339 does not read its zone, which has no colon
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05",
	"20060102T150405Z0700", // basic
	"20060102T150405Z07:00",
	"20060102T150405",
	"2006-01-02T15:04Z0700",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04",
	"20060102T1504Z0700",
	"20060102T1504",
	"2006-01-02T15:04:05Z07",
	"20060102T150405Z07",
	"2006-01-02 15:04:05 Z07:00", // the examples of OUTSCALE's API description
	"2006-01-02 15:04:05 Z0700",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05",
	time.DateOnly,
	"20060102",
	"2006-01",
	"2006",
}

// ParseDate reads a date of a cloud's answer. A day, month or year alone is its first moment. What cannot be read, or
// would pass for no date at all, is not ok: a key without a date would pass for one that never expires.
func ParseDate(text string) (date time.Time, ok bool) {
	for _, form := range dateForms {
		date, err := time.Parse(form, text)
		if date = date.UTC(); err == nil && !date.IsZero() && date.Year() >= 0 && date.Year() <= 9999 { // JSON holds no other years
			return date, true
		}
	}
	return time.Time{}, false
}
