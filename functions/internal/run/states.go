// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/accounts"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// A state machine's run has six steps, and the function's answer to each holds the event of
// the next: the machine passes them on, and knows nothing of accounts and plans.
//
//	list   accounts.json: an event "plan" for each account; engine-keys.json where unlabelled keys may be removed
//	plan   plans/<account>/<part>.json; again where time ran out
//	decide changes.json: an event "apply" for each account with something to change
//	apply  again where time ran out
//	close  nothing: it writes the run's page
//
// All of it stands in the archive below runs/<run>/. Answers name accounts and numbers, and
// no key: they stay in the execution's history.

// order is an event as the state machine passes it on.
type order struct {
	RunID string `json:"run_id,omitempty"`
	settings.SweepEvent
}

// Revoke carries out one event of revoke-expired-keys.
func Revoke(ctx context.Context, s Env, event settings.SweepEvent) (answer any, err error) {
	switch event.Phase {
	case settings.PhaseList:
		answer, err = s.listAccounts(ctx, event)
	case settings.PhasePlan:
		answer, err = s.plan(ctx, event)
	case settings.PhaseDecide:
		answer, err = s.decide(ctx, event)
	case settings.PhaseApply:
		answer, err = s.apply(ctx, event)
	case settings.PhaseClose:
		answer, err = s.closeForGood(ctx, event)
	default:
		answer, err = Sweep(ctx, s, event) // which refuses a phase that nobody knows
	}
	return answer, named(err)
}

// ListAnswer is what the phase list answers.
type ListAnswer struct {
	Accounts    int    `json:"accounts"`
	Items       string `json:"items"` // name in the archive
	Concurrency int    `json:"concurrency"`
	Decide      order  `json:"decide"` // the event of the next phase
}

// StepAnswer is what the phases plan and apply answer.
type StepAnswer struct {
	Account string `json:"account"`
	Part    int    `json:"part"`
	Done    bool   `json:"done"`
	Next    *order `json:"next,omitempty"` // the event of the next part

	Seen        int    `json:"seen,omitempty"`
	Planned     int    `json:"planned,omitempty"`
	Deactivated int    `json:"deactivated,omitempty"`
	Deleted     int    `json:"deleted,omitempty"`
	Tripped     string `json:"tripped,omitempty"`
}

// NoProgressError tells that the time of a whole invocation was too short for anything at
// all. Repeated, the step would never end.
type NoProgressError struct{ Account string }

// Error is a sentence for an operator.
func (e *NoProgressError) Error() string {
	return fmt.Sprintf("account %q: the time ran out before the first users were looked at: give the function more time, or see "+
		"how long the cloud takes to answer", e.Account)
}

// PlanChangedError tells that a plan is not the one that was decided on. Nothing was changed.
type PlanChangedError struct{ Name string }

// Error is a sentence for an operator.
func (e *PlanChangedError) Error() string {
	return e.Name + " is missing, or not the plan that was decided on: nothing of it is applied; start another run"
}

// NotApprovedError tells that a change is none of those that were decided on and, where approval
// is asked for, approved. Nothing was changed.
type NotApprovedError struct{ Why string }

// Error is a sentence for an operator.
func (e *NotApprovedError) Error() string { return "nothing is changed: " + e.Why }

// partPlan is one part of one account's plan. It holds whole key ids, which the archive
// keeps and reports do not show.
type partPlan struct {
	Account  string              `json:"account"`
	Provider string              `json:"provider,omitempty"`
	From     string              `json:"from"` // the user after which it begins
	Cursor   string              `json:"cursor"`
	Partial  bool                `json:"partial"`
	Seen     int                 `json:"seen"`
	Planned  int                 `json:"planned"`
	ByClass  map[sweep.Class]int `json:"by_class,omitempty"` // of those planned
	Tripped  string              `json:"tripped,omitempty"`
	// Unmatched are the patterns that protect nothing in a whole account.
	Unmatched []string        `json:"unmatched,omitempty"`
	Findings  []sweep.Finding `json:"findings"`
}

func checksum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// inRun is a name below the run's own place in the archive.
func (s Env) inRun(name string) string {
	return "runs/" + url.PathEscape(s.RunID) + "/" + name
}

func (s Env) planName(account string, part int) string {
	return s.inRun("plans/" + url.PathEscape(account) + "/" + strconv.Itoa(part) + ".json")
}

// inStates is what every step of a state machine begins with: its settings, and what its pages say of
// them. It refuses a step that has nowhere to leave its work.
func (s Env) inStates(event settings.SweepEvent) (config settings.Sweep, about report.About, err error) {
	switch {
	case s.Archive == nil:
		err = errors.New("REPORT_BUCKET is empty, and a state machine's run keeps its plans there")
	case s.RunID == "":
		err = errors.New("the event has no run_id, and a state machine's run keeps its plans by that name")
	default:
		config, err = settings.ReadSweep(s.Getenv, event)
	}
	if err != nil {
		return settings.Sweep{}, report.About{}, &settings.SettingsRefusedError{Err: err}
	}
	about, err = s.about(config)
	return config, about, err
}

func (s Env) putJSON(ctx context.Context, name string, value any) error {
	_, err := s.Archive.Put(ctx, name, "application/json", func(w io.Writer) error { return json.NewEncoder(w).Encode(value) })
	return err
}

// listAccounts writes down an event for each account. Each begins with the first user,
// wherever an earlier run may have ended, so that an attempt made twice means the same.
func (s Env) listAccounts(ctx context.Context, event settings.SweepEvent) (*ListAnswer, error) {
	config, about, err := s.inStates(event)
	if err != nil {
		return nil, err
	}
	names := config.Accounts
	if len(names) == 0 {
		if names, err = accounts.Names(ctx, s.Getenv, s.userAgent(), s.Log); err != nil {
			return nil, err
		}
	}
	if err := s.keepEngineKeys(ctx, config); err != nil {
		return nil, err
	}
	orders := make([]order, 0, len(names))
	for _, name := range names {
		orders = append(orders, order{RunID: s.RunID, SweepEvent: settings.SweepEvent{
			Phase: settings.PhasePlan, Mode: event.Mode, Accounts: []string{name}, Resume: map[string]string{name: ""},
		}})
	}
	answer := &ListAnswer{
		Accounts: len(orders), Items: s.inRun("accounts.json"), Concurrency: config.Concurrency,
		Decide: order{RunID: s.RunID, SweepEvent: settings.SweepEvent{Phase: settings.PhaseDecide, Mode: event.Mode}},
	}
	if err := s.putJSON(ctx, answer.Items, orders); err != nil {
		return nil, err
	}
	return answer, s.statePages(about, config, 0).listed(ctx, names)
}

// readOrders reads what listAccounts has written down.
func (s Env) readOrders(ctx context.Context) ([]order, error) {
	text, err := s.Archive.Get(ctx, s.inRun("accounts.json"))
	if err != nil {
		return nil, err
	}
	var orders []order
	if err := json.Unmarshal(text, &orders); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.inRun("accounts.json"), err)
	}
	return orders, nil
}

// plan plans one account, from the cursor on and as far as time allows.
func (s Env) plan(ctx context.Context, event settings.SweepEvent) (*StepAnswer, error) {
	config, about, err := s.inStates(event)
	if err != nil {
		return nil, err
	}
	enforced := config.Mode == settings.Enforce
	if enforced {
		config.Mode, config.ModeWhy = settings.Report, "it is applied later, if the plans of all accounts are allowed together"
	}
	p := s.statePages(about, config, event.Part)
	p.provisional = enforced
	result, runErr := s.sweep(ctx, config, event.Resume, nil, nil)
	defer func() { _ = result.Close() }()
	if err := s.finish(ctx, about, result, runErr, p, p.keepFound); err != nil {
		return nil, err
	}
	return s.keepPlan(ctx, event, result)
}

// finish reports a step's sweep, and returns why the step has failed, if it has.
func (s Env) finish(
	ctx context.Context,
	about report.About,
	result sweep.Result,
	runErr error,
	p *pages,
	keep func(context.Context, sweep.Result) error,
) error {
	if result.Started.IsZero() {
		return runErr // there was no run
	}
	var keepErr error
	if runErr == nil || len(result.Accounts) > 0 { // one that came to no account is not done
		defer s.tell(ctx, about, result, p.provisional || result.Mode == settings.Enforce)
	}
	if len(result.Accounts) > 0 {
		if keepErr = cmp.Or(keep(ctx, result), p.err); keepErr != nil {
			keepErr = &ReportLostError{keepErr}
		}
	}
	return cmp.Or(runErr, keepErr)
}

// keepPlan stores what was planned. A plan that a cap stopped has no keys: it is not to be
// applied whatever is decided of the others.
func (s Env) keepPlan(ctx context.Context, event settings.SweepEvent, result sweep.Result) (*StepAnswer, error) {
	account := result.Accounts[0]
	part := partPlan{
		Account: account.Account, Provider: account.Provider, From: event.Resume[account.Account], Cursor: account.Cursor,
		Partial: account.Partial,
		Seen:    account.Counts.Seen, Planned: account.Counts.Planned, Tripped: account.Tripped, Findings: []sweep.Finding{},
		ByClass: map[sweep.Class]int{}, Unmatched: result.Unmatched,
	}
	for f, err := range result.Findings() {
		if err != nil {
			return nil, err
		}
		if f.Outcome == sweep.OutcomePlanned {
			f.Outcome = ""
			part.Findings = append(part.Findings, f)
			part.ByClass[f.Class]++
		}
	}
	answer := &StepAnswer{
		Account: part.Account, Part: event.Part, Done: !part.Partial, Seen: part.Seen, Planned: part.Planned, Tripped: part.Tripped,
	}
	if part.Partial {
		if part.Cursor == part.From {
			return nil, &NoProgressError{part.Account}
		}
		answer.Next = &order{RunID: s.RunID, SweepEvent: settings.SweepEvent{
			Phase: settings.PhasePlan, Mode: event.Mode, Accounts: event.Accounts, Part: event.Part + 1,
			Resume: map[string]string{part.Account: part.Cursor},
		}}
	}
	return answer, s.putJSON(ctx, s.planName(part.Account, event.Part), part)
}

// apply changes what one part of a plan names.
func (s Env) apply(ctx context.Context, event settings.SweepEvent) (*StepAnswer, error) {
	config, about, err := s.inStates(event)
	if err != nil {
		return nil, err
	}
	if config.Mode != settings.Enforce {
		return nil, &settings.SettingsRefusedError{Err: fmt.Errorf("the mode is %s, and the phase apply changes keys", config.Mode)}
	}
	if err := s.approved(ctx, config, event); err != nil {
		return nil, err
	}
	name := s.planName(event.Accounts[0], event.Part)
	text, err := s.Archive.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if checksum(text) != event.Plans[event.Part] {
		return nil, &PlanChangedError{name}
	}
	result, runErr := s.applyPlan(ctx, config, text)
	defer func() { _ = result.Close() }()
	p := s.statePages(about, config, event.Part)
	if err := s.finish(ctx, about, result, runErr, p, p.keepApplied); err != nil && !s.goesOn(ctx, event, result, err) {
		return nil, err
	}
	return s.applied(event, result.Accounts[0])
}

// goesOn tells whether there is more to apply after an error: keys that could not be changed are in the report and in the metrics, and
// must not keep the rest of their account from its turn, night after night.
func (s Env) goesOn(ctx context.Context, event settings.SweepEvent, result sweep.Result, err error) bool {
	var failed *fleet.FailedError
	if !errors.As(err, &failed) || len(failed.Accounts) > 0 || !result.Accounts[0].Partial && event.Part+1 == len(event.Plans) {
		return false
	}
	s.Log.WarnContext(ctx, "the account's plan is gone on with", "account", event.Accounts[0], "part", event.Part, "problem", err.Error())
	return true
}

// approved refuses a change that the run did not decide on, or that nobody approved. The approval
// is a file that the state machine writes when it was given, and that this function may not
// write: whoever may invoke the function is not who decides.
func (s Env) approved(ctx context.Context, config settings.Sweep, event settings.SweepEvent) error {
	changes, err := s.Archive.Get(ctx, s.inRun("changes.json"))
	if err != nil {
		return err
	}
	var orders []order
	if changes == nil || json.Unmarshal(changes, &orders) != nil {
		return &NotApprovedError{"the run has decided on no changes"}
	}
	if !slices.ContainsFunc(orders, func(o order) bool {
		return slices.Equal(o.Accounts, event.Accounts) && slices.Equal(o.Plans, event.Plans)
	}) {
		return &NotApprovedError{fmt.Sprintf("the run has not decided on this plan of account %q", event.Accounts[0])}
	}
	if !config.Approval {
		return nil
	}
	approval, err := s.Archive.Get(ctx, s.inRun("approved.json"))
	if err != nil {
		return err
	}
	if strings.Trim(strings.TrimSpace(string(approval)), `"`) != checksum(changes) {
		return &NotApprovedError{"APPROVAL is true, and nobody has approved these changes of the run"}
	}
	return s.approvalHolds(ctx)
}

// approvalHolds refuses changes whose approval was for a run that is over, or is as old as no plan may be: whoever may invoke the
// function could repeat them whenever he likes, also after a later run in which a person has said no.
func (s Env) approvalHolds(ctx context.Context) error {
	closed, err := s.Archive.Get(ctx, s.inRun(closedName))
	if err != nil {
		return err
	}
	if closed != nil {
		return &NotApprovedError{"the run that was approved is over"}
	}
	given, err := s.approvalAnswer(ctx, "approved-by.json") // nil: of the command, which has looked at its plan's age
	if err != nil {
		return err
	}
	if given != nil && time.Since(given.At) > planLife {
		return &NotApprovedError{fmt.Sprintf("the run was approved at %s, and one of more than %s ago is not applied",
			given.At.Format(time.RFC3339), planLife)}
	}
	return nil
}

func (s Env) applyPlan(ctx context.Context, config settings.Sweep, text []byte) (sweep.Result, error) {
	var part partPlan
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&part); err != nil {
		return sweep.Result{}, fmt.Errorf("reading the plan: %w", err)
	}
	return s.sweep(ctx, config, nil, part.all(), nil)
}

// applied tells how a plan goes on: with the same part where time ran out, else with the next.
func (s Env) applied(event settings.SweepEvent, account sweep.AccountResult) (*StepAnswer, error) {
	if c := account.Counts; account.Partial && c.Deactivated+c.Deleted+c.Gone+c.Notified == 0 {
		return nil, &NoProgressError{account.Account}
	}
	next := event
	if !account.Partial {
		next.Part++
	}
	answer := &StepAnswer{
		Account: account.Account, Part: event.Part, Done: next.Part == len(event.Plans),
		Deactivated: account.Counts.Deactivated, Deleted: account.Counts.Deleted,
	}
	if !answer.Done {
		answer.Next = &order{RunID: s.RunID, SweepEvent: next}
	}
	return answer, nil
}
