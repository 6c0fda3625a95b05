// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"fmt"
	"os"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

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

// atFullSize tells whether make torture runs, which sums its table from a file.
func atFullSize() bool { return os.Getenv(faulttest.TotalsVariable) != "" }

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
	if err := faulttest.Figures(line); err != nil {
		t.Fatal(err)
	}
}
