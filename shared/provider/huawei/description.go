// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"fmt"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// until stands between label and date in a key's description. Which characters a
// description may have is not documented: these are allowed for those of users, where
// spaces are too, and @#%&<>\$^* are not.
const until = "/until/"

// describe is the description of a key with this label, which should be removed at due;
// zero: never. The cloud ends no key by itself, so the date is for those who do.
func describe(label string, due time.Time) (string, error) {
	if due.IsZero() {
		return label, nil
	}
	if _, err := keylabel.Parse(label); err != nil {
		return "", fmt.Errorf("a date is written only beside a label of the engine: %w", err)
	}
	return label + until + due.UTC().Format(time.RFC3339), nil
}

// readDescription takes a description apart. One that the engine did not write, or that
// somebody has changed since, is a label as a whole, and no key of the engine's.
func readDescription(text string) (label string, due time.Time) {
	label, date, found := strings.Cut(text, until)
	if !found {
		return text, time.Time{}
	}
	due, err := time.Parse(time.RFC3339, date)
	if err != nil || due.IsZero() {
		return text, time.Time{}
	}
	if again, err := describe(label, due); err != nil || again != text {
		return text, time.Time{}
	}
	return label, due.UTC()
}
