// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// unapplied marks the accounts of which planned keys were left alone: their invocation ended before it could say so itself, or could not
// go on. It returns the number of accounts whose plan was to be applied and of which some planned keys were not changed, including
// accounts that reported this themselves. Not counted: a delete that the cloud refuses, and a key that has changed since the plan; both
// are left to the next run.
func (p *pages) unapplied(changes []order) (accounts int) {
	for i := range p.sums {
		s := &p.sums[i]
		left := s.Planned - s.SwitchedOff - s.Deleted - s.Told - s.Failed - (s.Unsettled - s.NotReached)
		if left > 0 && s.Tripped == "" {
			s.Problem = cmp.Or(s.Problem, fmt.Sprintf("%d planned keys were not dealt with: the log says why", left))
		}
		if s.Tripped == "" && (left > 0 || s.Failed > s.Refused) && decidedOn(changes, s.Account) {
			accounts++
		}
	}
	return accounts
}

// readChanges reads what decide has written down; nil: nothing is.
func (s Env) readChanges(ctx context.Context) (changes []order, err error) {
	text, err := s.Archive.Get(ctx, s.inRun("changes.json"))
	if err != nil || text == nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &changes); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.inRun("changes.json"), err)
	}
	return changes, nil
}

// decidedOn tells whether an account's plan was to be applied: one that could not be planned whole has keys that were not reached, too,
// and another alarm. Where what was decided is not written down, all were.
func decidedOn(changes []order, account string) bool {
	return changes == nil || slices.ContainsFunc(changes, func(o order) bool { return slices.Contains(o.Accounts, account) })
}
