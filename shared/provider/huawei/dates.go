// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"errors"
	"time"
)

var errDate = errors.New("the answer holds a date in no form that Huawei Cloud is known to use")

// answerFormats are the forms in which dates come back. Fractions are read with both.
// The second has no zone; what is known of the API says UTC throughout.
var answerFormats = []string{time.RFC3339Nano, "2006-01-02T15:04:05"}

// parseDate reads a date of an answer; an absent one is the zero time. A date that
// cannot be read is an error, never "no date". It is not repeated: it comes out of an
// answer that may hold a secret.
func parseDate(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, format := range answerFormats {
		if t, err := time.Parse(format, s); err == nil && !t.IsZero() {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errDate
}
