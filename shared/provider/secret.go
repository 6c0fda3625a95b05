// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
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

// MaxSaid bounds how much of what a cloud says is repeated.
const MaxSaid = 300

// Cleaner returns a function that makes what a cloud says fit for a message to an operator, and hides secrets in it. An empty one is left
// out: it would be found between any two characters.
func Cleaner(secrets ...Secret) func(string) string {
	var pairs []string
	for _, secret := range secrets {
		if secret != "" {
			pairs = append(pairs, secret.Reveal(), redacted)
		}
	}
	hide := strings.NewReplacer(pairs...)
	return func(said string) string {
		said = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, hide.Replace(said))
		if len(said) > MaxSaid {
			said = strings.ToValidUTF8(said[:MaxSaid], "") + "…" // the cut may be within a character
		}
		return said
	}
}
