// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// CSV writes every key of the account, a line each, for spreadsheets.
func (a Account) CSV(w io.Writer) error {
	out := csv.NewWriter(w)
	r := a.Result
	// A csv.Writer keeps its error until Flush.
	_ = out.Write([]string{
		"account", "account_id", "provider", "region", "mount", "instance", "access_key", "user", "active", "created", "age_days",
		"expires", "last_used",
		"class", "action", "outcome", "what_happens", "reason", "detail", "trusted",
	})
	for f, err := range a.Findings {
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		k := showKey(f, a.Started, a.WholeIDs)
		line := []string{
			r.Account, r.AccountID, r.Provider, r.Region, r.Mount, r.Instance, k.AccessKey, k.User, strconv.FormatBool(k.Active),
			instant(k.Created), strconv.Itoa(k.AgeDays), instant(k.End), instant(k.LastUsed),
			string(k.Class), string(k.Action), string(k.Outcome), k.Happens, k.Reason, k.Detail, strconv.FormatBool(k.Trusted),
		}
		if k.Created.IsZero() {
			line[10] = ""
		}
		if k.End.IsZero() {
			line[11] = "never"
		}
		for i, cell := range line {
			line[i] = inert(cell)
		}
		_ = out.Write(line)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// inert keeps a spreadsheet from taking a name for a formula.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
