// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// readers is how many plans are read at once: 10,000 of them one after the other would take
// minutes.
const readers = 32

// The verdicts.
const (
	VerdictApply   = "apply"
	VerdictApprove = "approve" // a person is to be asked
	VerdictReport  = "report"  // the mode is report
	VerdictNothing = "nothing" // there is nothing to change
	VerdictTripped = "tripped" // the plans together are over a cap
)

// Verdict is what the phase decide returns.
type Verdict struct {
	Verdict     string `json:"verdict"`
	Why         string `json:"why,omitempty"`
	Accounts    int    `json:"accounts"`
	Failed      int    `json:"failed"`  // have no whole plan, and are left alone
	Refused     int    `json:"refused"` // have a plan over a cap of their own, and are left alone
	Changing    int    `json:"changing"`
	Seen        int    `json:"seen"`
	Planned     int    `json:"planned"`
	Items       string `json:"items"` // name in the archive
	Concurrency int    `json:"concurrency"`
}

// accountPlan is one account's plan.
type accountPlan struct {
	whole   bool
	seen    int
	planned int
	tripped string
	plans   []string
	err     error
}

// decide looks at the plans of all accounts together, and writes down those to be applied.
func (s Env) decide(ctx context.Context, event settings.SweepEvent) (*Verdict, error) {
	config, err := s.inStates(event)
	if err != nil {
		return nil, err
	}
	text, err := s.Archive.Get(ctx, s.inRun("accounts.json"))
	if err != nil {
		return nil, err
	}
	var orders []order
	if err := json.Unmarshal(text, &orders); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.inRun("accounts.json"), err)
	}
	plans, err := s.readPlans(ctx, config, orders)
	if err != nil {
		return nil, err
	}
	verdict, changes := s.sum(config, orders, plans)
	s.Log.LogAttrs(ctx, slog.LevelInfo, "plans decided on",
		slog.String("run_id", s.RunID), slog.String("verdict", verdict.Verdict), slog.String("why", verdict.Why),
		slog.Int("accounts", verdict.Accounts), slog.Int("failed", verdict.Failed), slog.Int("refused", verdict.Refused),
		slog.Int("changing", verdict.Changing), slog.Int("seen", verdict.Seen), slog.Int("planned", verdict.Planned))
	s.lost(ctx, metrics.Decide(s.Metrics, s.Function, verdict.Verdict == VerdictTripped, verdict.Failed))
	return verdict, s.putJSON(ctx, verdict.Items, changes)
}

// readPlans reads the plans of all accounts. One that is not there is none; one that cannot
// be read ends the run.
func (s Env) readPlans(ctx context.Context, config settings.Sweep, orders []order) ([]accountPlan, error) {
	plans := make([]accountPlan, len(orders))
	fleet.Each(readers, len(orders), func(i int) { plans[i] = s.readPlan(ctx, config, orders[i].Accounts[0]) })
	for _, plan := range plans {
		if plan.err != nil {
			return nil, plan.err
		}
	}
	return plans, nil
}

// readPlan puts the parts of one account's plan together. Each part must begin where the one
// before it ended: after a repeated part, one of an earlier attempt may be left behind.
func (s Env) readPlan(ctx context.Context, config settings.Sweep, account string) accountPlan {
	var j accountPlan
	for from, n := "", 0; ; n++ {
		text, err := s.Archive.Get(ctx, s.planName(account, n))
		if err != nil || text == nil {
			j.err = err
			return j
		}
		var part partPlan
		if err := json.Unmarshal(text, &part); err != nil {
			j.err = fmt.Errorf("reading %s: %w", s.planName(account, n), err)
			return j
		}
		if part.From != from {
			return j
		}
		j.seen += part.Seen
		j.planned += part.Planned
		if part.Tripped != "" {
			j.tripped = part.Tripped
		}
		j.plans = append(j.plans, checksum(text))
		if !part.Partial {
			j.whole = true
			break
		}
		from = part.Cursor
	}
	if j.tripped == "" {
		j.tripped = sweep.Tripped(config, j.planned, j.seen)
	}
	return j
}

// sum adds the plans up. An account that is left alone counts neither for nor against
// the others.
func (s Env) sum(config settings.Sweep, orders []order, plans []accountPlan) (*Verdict, []order) {
	v := &Verdict{Accounts: len(orders), Items: s.inRun("changes.json"), Concurrency: config.Concurrency}
	changes := []order{}
	for i, plan := range plans {
		switch {
		case !plan.whole:
			v.Failed++
			continue
		case plan.tripped != "":
			v.Refused++
			continue
		}
		v.Seen += plan.seen
		v.Planned += plan.planned
		if plan.planned > 0 {
			v.Changing++
			changes = append(changes, order{RunID: s.RunID, SweepEvent: settings.SweepEvent{
				Phase: settings.PhaseApply, Accounts: orders[i].Accounts, Plans: plan.plans,
			}})
		}
	}
	tripped := sweep.RunTripped(config, v.Planned, v.Seen)
	switch {
	case config.Mode != settings.Enforce:
		v.Verdict, v.Why = VerdictReport, config.ModeWhy
	case tripped != "":
		v.Verdict, v.Why = VerdictTripped, tripped
	case v.Planned == 0:
		v.Verdict = VerdictNothing
	case config.Approval:
		v.Verdict = VerdictApprove
	default:
		v.Verdict = VerdictApply
	}
	if v.Verdict != VerdictApply && v.Verdict != VerdictApprove {
		changes = []order{} // so that nothing can be applied by mistake
	}
	return v, changes
}
