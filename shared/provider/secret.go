// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const redacted = "[redacted]"

// Secret is a secret key. However it is printed, logged or marshalled, it shows
// as "[redacted]"; Reveal is the one way to the value, so that a reader can
// find every place that uses it. Two places show it all the same, and must
// not hold one: an unexported field of a struct that fmt prints, and a slice of
// Secrets that hclog prints.
type Secret string

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// String hides the value.
func (Secret) String() string { return redacted }

// Format hides the value from every verb of fmt: String alone would leave %d and
// the like, which print what they take for a mistake as it is.
func (Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // fmt takes no error
}

// LogValue hides the value from log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the value from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Redactor returns a function that hides secrets in what a cloud says. An empty one is left
// out: it would be found between any two characters.
func Redactor(secrets ...Secret) func(string) string {
	var pairs []string
	for _, secret := range secrets {
		if secret != "" {
			pairs = append(pairs, secret.Reveal(), redacted)
		}
	}
	return strings.NewReplacer(pairs...).Replace
}
