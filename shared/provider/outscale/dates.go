// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// dateFormat is sent for every date: a date alone would mean the midnight at
// which that day begins (osc-api), which has often passed already.
const dateFormat = "2006-01-02T15:04:05.000Z"

func formatDate(t time.Time) *string {
	s := t.UTC().Format(dateFormat)
	return &s
}

// parseDate reads a date of an answer; an absent one is the zero time. A date
// that cannot be read is an error, never "no date": a key without a date would
// pass for one that never expires.
func parseDate(s *string) (time.Time, error) {
	if s == nil || *s == "" {
		return time.Time{}, nil
	}
	if date, ok := provider.ParseDate(*s); ok {
		return date, nil
	}
	return time.Time{}, fmt.Errorf("%.40q is not a date in any form that OUTSCALE is known to use", *s)
}
