// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "time"

// dateLayout is how the API writes dates. The zone has no colon, so time.RFC3339 cannot read it.
const dateLayout = "2006-01-02T15:04:05.000-0700"

// inputLayouts are the ISO 8601 forms that the API reads, basic and extended. Go reads a fraction of a second after any of
// the seconds below.
var inputLayouts = []string{
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05",
	"20060102T150405Z0700",
	"20060102T150405Z07:00",
	"2006-01-02", // midnight at the start of the day
	"20060102",
}

func formatDate(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(dateLayout)
}

// parseDate reads an ExpirationDate. An empty string is refused with "The parameter type of ExpirationDate is unknown.", as
// the real API does.
func parseDate(s string) (time.Time, *apiError) {
	for _, layout := range inputLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errParameterType("ExpirationDate")
}
