// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"regexp"
	"strings"
)

// keyID is what the ids of both clouds' access keys look like.
var keyID = regexp.MustCompile(`\b[A-Z0-9]{20}\b`)

// Mask leaves enough of an access key's id to be recognised by who has it, and too little
// to be used or searched for by who has not.
func Mask(id string) string {
	if len(id) < 12 {
		return "…"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

// MaskIn masks every access key's id in a text that leaves the account: what a cloud or
// Vault said of a failure may name one.
func MaskIn(text string, known ...string) string {
	for _, id := range known {
		if id != "" {
			text = strings.ReplaceAll(text, id, Mask(id))
		}
	}
	return keyID.ReplaceAllStringFunc(text, Mask)
}
