// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"fmt"
	"runtime"

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificate authorities; a machine's own go first
)

// Set by release builds (-ldflags "-X main.version=v1.2.3 -X main.commit=0123abc").
var version, commit string

// built says what this binary was made of.
func built() string {
	return fmt.Sprintf("cloudkeys %s (commit %s, %s)", cmp.Or(version, "development build"), cmp.Or(commit, "unknown"), runtime.Version())
}
