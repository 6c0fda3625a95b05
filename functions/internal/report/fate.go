// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"strconv"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// fate is what really happens to a key, or has happened: its action, with the caps and the
// outcome taken into account. A report of the actions alone would promise what a cap refuses.
type fate int

// The fates, those that need a person most first: a page sorts by them.
const (
	fateFailed fate = iota
	fateNotTold
	fateUndeletable
	fateDeleteRefused
	fateRefused
	fateDrifted
	fateNotReached
	fateOther
	fateLook
	fatePlannedDelete
	fatePlannedOff
	fatePlannedTell
	fateLater
	fateQuarantine
	fateDeleted
	fateOff
	fateGone
	fateTold
	fateStays
)

// fateView is how a fate is shown. The names of what is planned say no more than that: a page is read when all is decided, too.
type fateView struct {
	Name  string `json:"name"`
	Style string `json:"style"`
	Need  bool   `json:"need"` // a person should look
	Plan  bool   `json:"plan"` // of this run's plan, whatever became of it
	Open  bool   `json:"open"` // it is still to be done
	Done  bool   `json:"done"` // the key is no longer as it was seen
}

// fates are the views of all fates, by fate.
func fates() [fateStays + 1]fateView {
	return [...]fateView{
		fateFailed:        {Name: "failed", Style: "bad", Need: true, Plan: true},
		fateNotTold:       {Name: "owner not told, kept", Style: "bad", Need: true, Plan: true},
		fateUndeletable:   {Name: "undeletable", Style: "bad", Need: true},
		fateDeleteRefused: {Name: "delete refused", Style: "bad", Need: true, Plan: true},
		fateRefused:       {Name: "stays: over a cap", Style: "warn", Need: true, Plan: true},
		fateDrifted:       {Name: "changed meanwhile, left alone", Style: "warn", Need: true, Plan: true},
		fateNotReached:    {Name: "not reached", Style: "warn", Need: true, Plan: true},
		fateOther:         {Name: "not done", Style: "warn", Need: true, Plan: true},
		fateLook:          {Name: "to look at", Style: "warn", Need: true},
		fatePlannedDelete: {Name: "planned: delete", Style: "act", Plan: true, Open: true},
		fatePlannedOff:    {Name: "planned: switch off", Style: "act", Plan: true, Open: true},
		fatePlannedTell:   {Name: "planned: tell the owner", Style: "act", Plan: true, Open: true},
		fateLater:         {Name: "left to a later run", Open: true},
		fateQuarantine:    {Name: "in quarantine"},
		fateDeleted:       {Name: "deleted", Style: "good", Plan: true, Done: true},
		fateOff:           {Name: "switched off", Style: "good", Plan: true, Done: true},
		fateGone:          {Name: "was gone already", Style: "good", Plan: true, Done: true},
		fateTold:          {Name: "owner told", Style: "good", Plan: true},
		fateStays:         {Name: "stays"},
	}
}

// fateOf takes the caps into account: a plan over one changes nothing.
func fateOf(f sweep.Finding) fate {
	switch {
	case f.Class == sweep.ClassUndeletable:
		return fateUndeletable
	case f.Action == sweep.ActionKeep:
		return fateStays
	case f.Action == sweep.ActionFlag:
		return fateLook
	case f.Action == sweep.ActionWait:
		return fateQuarantine
	}
	switch f.Outcome {
	case sweep.OutcomePlanned, "":
		switch f.Action {
		case sweep.ActionNotify:
			return fatePlannedTell
		case sweep.ActionDeactivate:
			return fatePlannedOff
		default:
			return fatePlannedDelete
		}
	case sweep.OutcomeNotified:
		return fateTold
	case sweep.OutcomeNotNotified:
		return fateNotTold
	case sweep.OutcomeFailed:
		return fateFailed
	case sweep.OutcomeUndeletable:
		return fateUndeletable
	case sweep.OutcomeDeleteRefused:
		return fateDeleteRefused
	case sweep.OutcomeRefused:
		return fateRefused
	case sweep.OutcomeDrifted:
		return fateDrifted
	case sweep.OutcomeNotReached:
		return fateNotReached
	case sweep.OutcomeLeftOut:
		return fateLater
	case sweep.OutcomeDeleted:
		return fateDeleted
	case sweep.OutcomeDeactivated:
		return fateOff
	case sweep.OutcomeGone:
		return fateGone
	default:
		return fateOther
	}
}

// withFates is the part of an address after # that shows the keys of some fates.
func withFates(fates ...fate) string {
	names := make([]string, len(fates))
	for i, f := range fates {
		names[i] = strconv.Itoa(int(f))
	}
	return "fate=" + strings.Join(names, ",")
}

// Happens says what really happens to a key, or has happened, as the reports do.
func Happens(f sweep.Finding) string { return fates()[fateOf(f)].Name }
