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

// inert keeps a spreadsheet from taking a name for a formula: by an apostrophe before each sign that begins one, in its full-width
// form as well, where a cell begins. One begins within a name, too, where the spreadsheet's language parts cells by semicolons or tabs.
func inert(cell string) string {
	var out strings.Builder
	begins := true
	for _, r := range cell {
		parts := strings.ContainsRune(";|\t\r\n", r)
		if begins && (strings.ContainsRune("=+-@＝＋－＠", r) || parts && out.Len() == 0) {
			out.WriteByte('\'')
		}
		out.WriteRune(r)
		begins = parts || begins && strings.ContainsRune(" \"", r)
	}
	return out.String()
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
