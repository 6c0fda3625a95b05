// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
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
	Verdict  string `json:"verdict"`
	Why      string `json:"why,omitempty"`
	Accounts int    `json:"accounts"`
	Failed   int    `json:"failed"`  // have no whole plan, and are left alone
	Refused  int    `json:"refused"` // have a plan over a cap of their own, and are left alone
	Changing int    `json:"changing"`
	Seen     int    `json:"seen"`
	Planned  int    `json:"planned"`
	Items    string `json:"items"`   // name in the archive
	Changes  string `json:"changes"` // the checksum of what is to be applied, which an approval is of

	ByClass     map[sweep.Class]int `json:"by_class"` // of the keys planned
	Largest     []AccountSum        `json:"largest"`  // accounts with the most keys planned
	Lines       []string            `json:"lines"`    // the same as sentences, with what needs a person
	Page        string              `json:"page"`     // where all of the run stands, for people
	Concurrency int                 `json:"concurrency"`
}

// AccountSum is one account's part of what is to be done.
type AccountSum struct {
	Account string `json:"account"`
	Planned int    `json:"planned"`
	Seen    int    `json:"seen"`
}

// largest is how many accounts an approver is told of by name; the page has all.
const largest = 20

// accountPlan is one account's plan.
type accountPlan struct {
	whole   bool
	seen    int
	planned int
	tripped string
	byClass map[sweep.Class]int
	plans   []string
	// unmatched are the patterns that protect nothing in it.
	unmatched []string
	err       error
}

// decide looks at the plans of all accounts together, and writes down those to be applied.
func (s Env) decide(ctx context.Context, event settings.SweepEvent) (*Verdict, error) {
	config, about, err := s.inStates(event)
	if err != nil {
		return nil, err
	}
	orders, err := s.readOrders(ctx)
	if err != nil {
		return nil, err
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
	// Where no account could be planned, there was nothing to stop.
	overCap := verdict.Verdict == VerdictTripped && verdict.Failed < verdict.Accounts
	s.lost(ctx, metrics.Decide(s.Metrics, s.Function, overCap, verdict.Failed))
	p := s.statePages(about, config, 0)
	if verdict.Page, err = p.decided(ctx, verdict, orders, plans); err != nil {
		return nil, err
	}
	verdict.Lines = report.Index{Sums: p.sums}.Lines(largest)
	text, err := json.Marshal(changes)
	if err != nil {
		return nil, fmt.Errorf("writing the changes: %w", err)
	}
	verdict.Changes = checksum(text)
	_, err = s.Archive.Put(ctx, verdict.Items, "application/json", func(w io.Writer) error { _, err := w.Write(text); return err })
	return verdict, err
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
	j := accountPlan{byClass: map[sweep.Class]int{}}
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
		for class, n := range part.ByClass {
			j.byClass[class] += n
		}
		if part.Tripped != "" {
			j.tripped = part.Tripped
		}
		j.plans, j.unmatched = append(j.plans, checksum(text)), part.Unmatched
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
	v := &Verdict{Accounts: len(orders), Items: s.inRun("changes.json"), Concurrency: config.Concurrency, ByClass: map[sweep.Class]int{}}
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
		for class, n := range plan.byClass {
			v.ByClass[class] += n
		}
		v.Seen += plan.seen
		v.Planned += plan.planned
		if plan.planned > 0 {
			v.Changing++
			v.Largest = append(v.Largest, AccountSum{orders[i].Accounts[0], plan.planned, plan.seen})
			changes = append(changes, order{RunID: s.RunID, SweepEvent: settings.SweepEvent{
				Phase: settings.PhaseApply, Accounts: orders[i].Accounts, Plans: plan.plans,
			}})
		}
	}
	slices.SortStableFunc(v.Largest, func(x, y AccountSum) int { return y.Planned - x.Planned })
	v.Largest = v.Largest[:min(len(v.Largest), largest)]
	tripped := ""
	if v.Accounts > 1 || v.Planned > config.RunMaxKeys { // one account has its own share to keep to
		tripped = sweep.RunTripped(config, v.Planned, v.Seen)
	}
	if v.Failed*100 > v.Accounts*config.Tolerated {
		tripped = fmt.Sprintf("%d of %d accounts could not be planned, and TOLERATED_FAILURES is %d percent", v.Failed, v.Accounts,
			config.Tolerated)
	}
	switch {
	case config.Mode != settings.Enforce:
		v.Verdict, v.Why = VerdictReport, config.ModeWhy
	case tripped != "":
		v.Verdict, v.Why = VerdictTripped, tripped
	case v.Failed > 0 && v.Failed == v.Accounts:
		v.Verdict, v.Why = VerdictTripped, "no account could be planned"
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

// unmatched are the patterns that protect nothing in any account; where an account has no whole plan they may.
func unmatched(plans []accountPlan) (patterns []string) {
	for i, plan := range plans {
		if !plan.whole {
			return nil
		}
		if i == 0 {
			patterns = slices.Clone(plan.unmatched)
		}
		patterns = slices.DeleteFunc(patterns, func(pattern string) bool { return !slices.Contains(plan.unmatched, pattern) })
	}
	return patterns
}
