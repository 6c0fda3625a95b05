// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package faulttest is what the tests with faults in plugin and functions share.
package faulttest

import (
	"fmt"
	"os"
)

// TotalsVariable names a file to which each package's tests add a line of totals, which
// `make torture` sums up. Empty: none.
const TotalsVariable = "CLOUDKEYS_TORTURE"

// Total adds a line with how many schedules were played and how many faults were injected.
func Total(schedules, faults int) error {
	return Figures(fmt.Sprintf("schedules=%d faults=%d", schedules, faults))
}

// Figures adds a line "name=number ..." to the file. It is one write at the file's end: several
// tests, and test binaries, add to it.
func Figures(line string) error {
	path := os.Getenv(TotalsVariable)
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the file of totals: %w", err)
	}
	if _, err := fmt.Fprintln(file, line); err != nil {
		_ = file.Close()
		return fmt.Errorf("writing the totals: %w", err)
	}
	return file.Close()
}
