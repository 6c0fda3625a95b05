// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"errors"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

var errDate = errors.New("the answer holds a date in no form that Huawei Cloud is known to use")

// parseDate reads a date of an answer; an absent one is the zero time. A date that
// cannot be read is an error, never "no date". It is not repeated: it comes out of an
// answer that may hold a secret.
func parseDate(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if date, ok := provider.ParseDate(s); ok {
		return date, nil
	}
	return time.Time{}, errDate
}
