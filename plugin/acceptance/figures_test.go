// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"fmt"
	"os"
	"testing"
)

// tortureVariable names the file that make torture sums its table from. Where it is set,
// the tests run at full size.
const tortureVariable = "CLOUDKEYS_TORTURE"

// The figures of that table.
const (
	figureFaults      = "faults"
	figureKills       = "kills"
	figureLeases      = "leases"
	figureOrphans     = "orphans"
	figureConfigs     = "configurations_lost"
	figureIrrevocable = "irrevocable"
	figureSecrets     = "secrets_leaked"
)

func atFullSize() bool { return os.Getenv(tortureVariable) != "" }

// atSize is the small number in the ordinary suite, and the full one in make torture.
func atSize[T any](small, full T) T {
	if atFullSize() {
		return full
	}
	return small
}

// figure adds to a figure of the table.
func figure(t *testing.T, name string, n int) {
	t.Helper()
	line := fmt.Sprintf("torture: %s=%d", name, n)
	t.Log(line)
	path := os.Getenv(tortureVariable)
	if path == "" {
		return
	}
	// One write a line, at the file's end: several tests, and test binaries, add to it.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := fmt.Fprintln(file, line); err != nil {
		t.Fatal(err)
	}
}
