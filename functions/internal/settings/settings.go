// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package settings reads what a run is told by the environment and by its event, once, and
// refuses what does not fit together.
package settings

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// The modes of a run, and what may be done with keys that the engine did not make.
const (
	Report  = "report"
	Enforce = "enforce"
)

// Run is what both functions are told.
type Run struct {
	Mode     string
	ModeWhy  string   // why the mode is not the one that was set; empty: it is
	Accounts []string // names; empty: all
}

// chooseMode settles the mode. An event can only lower it: whoever may invoke a function is
// not always who may decide that it deletes. A local run reports, since sam local hands
// the developer's own credentials to the function.
func (r *Run) chooseMode(getenv func(string) string, event string) error {
	switch {
	case event != "" && event != Report && event != Enforce:
		return fmt.Errorf("the event's mode is %q: give %q, %q or nothing", event, Report, Enforce)
	case event == Enforce && r.Mode == Report:
		return fmt.Errorf("the event's mode is %q, but MODE is %q: an event can lower the mode, and only MODE itself can raise it", event, Report)
	case event == Report && r.Mode == Enforce:
		r.Mode, r.ModeWhy = Report, "the event asks for it"
	}
	if r.Mode == Enforce && getenv("AWS_SAM_LOCAL") == "true" && getenv("ALLOW_LOCAL_ENFORCE") != "true" {
		r.Mode, r.ModeWhy = Report, "AWS_SAM_LOCAL is set and ALLOW_LOCAL_ENFORCE is not true"
	}
	return nil
}

// chooseAccounts narrows the accounts to those of the event.
func (r *Run) chooseAccounts(event []string) error {
	for _, name := range event {
		if len(r.Accounts) > 0 && !slices.Contains(r.Accounts, name) {
			return fmt.Errorf("the event names the account %q, which is not in ACCOUNTS: an event can narrow the accounts, and not widen them", name)
		}
	}
	if len(event) > 0 {
		r.Accounts = event
	}
	return nil
}

// Digest names a set of settings in a few letters, so that two reports can be compared.
func Digest(settings any) (string, error) {
	text, err := json.Marshal(settings)
	if err != nil {
		return "", fmt.Errorf("writing the settings' digest: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6]), nil
}

// fill sets every row of a table from the environment.
func fill[T any](into *T, rows []row[T], getenv func(string) string) error {
	for _, r := range rows {
		value := cmp.Or(getenv(r.name), r.def)
		if err := r.parse(into, value); err != nil {
			return fmt.Errorf("%s is %q: %w", r.name, value, err)
		}
	}
	return nil
}
