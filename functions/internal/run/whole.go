// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// whole is a run that one process carries out from beginning to end, by the steps that a state machine takes on AWS, with
// CONCURRENCY accounts at once.
type whole struct {
	env    Env
	config settings.Sweep
	event  settings.SweepEvent // lowers the mode of every step where the run's is lowered

	mu       sync.Mutex
	problems map[string]error // by account
}

// underWay is what a run leaves in the archive for the next while it is at work.
type underWay struct {
	RunID  string    `json:"run_id,omitempty"` // empty: there is none
	Begun  time.Time `json:"begun,omitzero"`
	Digest string    `json:"settings_digest,omitempty"`
}

const (
	// resumeLife is how old a run may be that is gone on with where it was cut off. The next night's is a day later: a fleet that takes
	// longer than a night's deadline would begin anew each night, and never come to its changes.
	resumeLife = 30 * time.Hour
	// underWayName is the one entry of its state.
	underWayName = "run"
)

// BreakerTrippedError tells that the plans of all accounts together are over a cap. Nothing was changed.
type BreakerTrippedError struct{ Why string }

// Error is a sentence for an operator.
func (e *BreakerTrippedError) Error() string { return "nothing was changed in any account: " + e.Why }

// CutOffError tells that a run was ended before it was over.
type CutOffError struct{ err error }

// Error is a sentence for an operator.
func (e *CutOffError) Error() string {
	return "the run was cut off, and the next one within " + resumeLife.String() + " goes on with it: " + e.err.Error()
}

// Unwrap returns what cut it off.
func (e *CutOffError) Unwrap() error { return e.err }

// Whole carries out a run of revoke-expired-keys over all accounts in one process. One that was cut off or killed is gone on with.
func Whole(ctx context.Context, s Env, event settings.SweepEvent) (answer *SweepAnswer, err error) {
	defer func() { err = named(err) }()
	w, err := s.newWhole(event)
	if err != nil {
		return nil, err
	}
	state := archive.State[underWay]{Archive: s.Archive, Folder: "state/under-way/"}
	earlier, err := state.Load(ctx, underWayName)
	if err != nil {
		return nil, err
	}
	now := underWay{w.env.RunID, time.Now().UTC(), ""}
	if now.Digest, err = settings.Digest(w.config); err != nil {
		return nil, err
	}
	if earlier.RunID != "" && earlier.Digest == now.Digest && time.Since(earlier.Begun) < resumeLife {
		w.env.RunID = earlier.RunID
		s.Log.InfoContext(ctx, "going on with a run that was cut off", "run_id", earlier.RunID, "begun", earlier.Begun)
	} else if err := cmp.Or(state.Save(ctx, underWayName, now), w.forget(ctx, earlier.RunID)); err != nil {
		return nil, err
	}
	answer, err = w.run(ctx)
	if ctx.Err() != nil {
		return answer, &CutOffError{ctx.Err()}
	}
	return answer, cmp.Or(err, state.Save(ctx, underWayName, underWay{}), w.clear(ctx))
}

// newWhole reads the settings, and names the run.
func (s Env) newWhole(event settings.SweepEvent) (*whole, error) {
	config, err := settings.ReadSweep(s.Getenv, event)
	if err == nil && config.NeedsRecords() && !s.remembers() {
		err = errNoRecords
	}
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	s.RunID = s.runID(time.Now())
	w := &whole{env: s, config: config, event: settings.SweepEvent{ModeWhy: config.ModeWhy}, problems: map[string]error{}}
	if config.Mode == settings.Report {
		w.event.Mode = settings.Report
	}
	return w, nil
}

// run carries the steps out. What each has left in the archive is not done again by a run that goes on.
//
//	list    accounts.json
//	plan    each account's plan. Killed in it, those that are whole are kept, and the others begin with their first user
//	decide  changes.json, from all plans together: the same again where it is done again
//	apply   each account's changes. Killed in it, a key that was changed is found to be so
//	close   the run's page
func (w *whole) run(ctx context.Context) (*SweepAnswer, error) {
	// 1. list
	orders, err := w.list(ctx)
	if err != nil {
		if about, aboutErr := w.env.about(w.config); aboutErr == nil {
			w.env.statePages(about, w.config, 0).failed(ctx, nil, err)
		}
		return nil, err
	}
	// 2. plan
	w.each(ctx, orders, w.plan)
	if ctx.Err() != nil {
		return w.close(ctx, orders)
	}
	// 3. decide
	verdict, err := w.env.decide(ctx, w.phase(settings.PhaseDecide))
	if err != nil {
		return nil, err
	}
	// 4. apply
	if verdict.Verdict == VerdictApply || verdict.Verdict == VerdictApprove {
		changes, err := w.changes(ctx, verdict)
		if err != nil {
			return nil, err
		}
		w.each(ctx, changes, w.apply)
	}
	// 5. close
	answer, err := w.close(ctx, orders)
	if err == nil && verdict.Verdict == VerdictTripped && verdict.Failed < verdict.Accounts {
		err = &BreakerTrippedError{verdict.Why}
	}
	return answer, cmp.Or(w.failed(orders), err)
}

// phase is the event of a step.
func (w *whole) phase(phase string) settings.SweepEvent {
	event := w.event
	event.Phase = phase
	return event
}

// each works on some accounts at once. One that fails does not stop the others.
func (w *whole) each(ctx context.Context, orders []order, work func(context.Context, order) error) {
	fleet.Each(w.config.Concurrency, len(orders), func(i int) {
		if ctx.Err() != nil {
			return
		}
		if err := work(ctx, orders[i]); err != nil && ctx.Err() == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.problems[orders[i].Accounts[0]] = err
			w.env.Log.ErrorContext(ctx, "account failed", "account", orders[i].Accounts[0], "problem", err.Error())
		}
	})
}

// list writes down which accounts there are, where that was not done.
func (w *whole) list(ctx context.Context) ([]order, error) {
	there, err := w.env.Archive.Get(ctx, w.env.inRun("accounts.json"))
	if err != nil {
		return nil, err
	}
	if there == nil {
		if _, err := w.env.listAccounts(ctx, w.phase(settings.PhaseList)); err != nil {
			return nil, err
		}
	}
	return w.env.readOrders(ctx)
}

// plan plans one account, where that was not done.
func (w *whole) plan(ctx context.Context, o order) error {
	account := o.Accounts[0]
	if done := w.env.readPlan(ctx, w.config, account); done.whole || done.err != nil {
		return done.err
	}
	event := w.phase(settings.PhasePlan)
	event.Accounts, event.Resume = o.Accounts, map[string]string{account: ""}
	for ctx.Err() == nil {
		answer, err := w.env.plan(ctx, event)
		if err != nil || answer.Next == nil {
			return err
		}
		event.Part, event.Resume = answer.Next.Part, answer.Next.Resume
	}
	return ctx.Err()
}

// changes are what was decided on. Where somebody is to approve them, he has: by giving the file of a plan.
func (w *whole) changes(ctx context.Context, verdict *Verdict) (orders []order, err error) {
	text, err := w.env.Archive.Get(ctx, verdict.Items)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &orders); err != nil {
		return nil, fmt.Errorf("reading %s: %w", verdict.Items, err)
	}
	if verdict.Verdict == VerdictApprove {
		err = w.env.putJSON(ctx, w.env.inRun("approved.json"), verdict.Changes)
	}
	return orders, err
}

// apply changes what one account's plan names.
func (w *whole) apply(ctx context.Context, o order) error {
	event := w.phase(settings.PhaseApply)
	event.Accounts, event.Plans = o.Accounts, o.Plans
	for ctx.Err() == nil {
		answer, err := w.env.apply(ctx, event)
		if err != nil || answer.Next == nil {
			return err
		}
		event.Part = answer.Next.Part
	}
	return ctx.Err()
}

// close writes the run's page, of a run that was cut off as well, and sums it up.
func (w *whole) close(ctx context.Context, orders []order) (*SweepAnswer, error) {
	ctx = context.WithoutCancel(ctx)
	closed, err := w.env.closeRun(ctx, w.phase(settings.PhaseClose))
	if err != nil {
		return nil, err
	}
	p := w.env.statePages(report.About{}, w.config, 0)
	if err := p.readSums(ctx, orders); err != nil {
		return nil, err
	}
	answer := &SweepAnswer{Mode: w.config.Mode, ModeWhy: w.config.ModeWhy, Accounts: []SweptAccount{}, Sums: p.sums}
	if !w.env.Passing {
		answer.Reports = []string{closed.Page}
	}
	for _, sum := range p.sums {
		account := SweptAccount{
			Account: sum.Account, Seen: sum.Seen, Planned: sum.Planned, Flagged: sum.Look, Deactivated: sum.SwitchedOff, Deleted: sum.Deleted,
			Undeletable: sum.Undeletable, Failed: sum.Failed, Partial: sum.Partial || !sum.Reached, Tripped: sum.Tripped, Problem: sum.Problem,
		}
		if err := w.problems[sum.Account]; err != nil && account.Problem == "" && account.Failed == 0 {
			account.Problem = fleet.MaskIn(err.Error())
		}
		answer.Accounts = append(answer.Accounts, account)
	}
	return answer, nil
}

// failed is what went wrong with single accounts, in their order.
func (w *whole) failed(orders []order) error {
	var all fleet.FailedError
	for _, o := range orders {
		err := w.problems[o.Accounts[0]]
		var failed *fleet.FailedError
		switch {
		case err == nil:
			continue
		case errors.As(err, &failed) && len(failed.Accounts) == 0:
			all.Keys += failed.Keys
			continue
		case all.Err == nil:
			all.Err = err
			if failed != nil {
				all.Err = failed.Err
			}
		}
		all.Accounts = append(all.Accounts, o.Accounts[0])
	}
	if len(all.Accounts) == 0 && all.Keys == 0 {
		return nil
	}
	return &all
}

// forget removes what a run has left that was cut off, and that nobody goes on with.
func (w *whole) forget(ctx context.Context, runID string) error {
	if runID == "" {
		return nil
	}
	former := whole{env: w.env}
	former.env.RunID = runID
	return former.clear(ctx)
}

// clear removes what only a run that is under way needs: it has whole ids of keys. A bucket has a rule for that.
func (w *whole) clear(ctx context.Context) error {
	place, can := w.env.Archive.(interface {
		Remove(ctx context.Context, folder string) error
	})
	if !can {
		return nil
	}
	return place.Remove(ctx, w.env.inRun(""))
}

// put writes plans into the archive as the step plan would have.
func (w *whole) put(ctx context.Context, parts []partPlan) error {
	var orders []order
	numbers := map[string]int{}
	for _, part := range parts {
		if numbers[part.Account] == 0 {
			event := settings.SweepEvent{Phase: settings.PhasePlan, Accounts: []string{part.Account}}
			orders = append(orders, order{RunID: w.env.RunID, SweepEvent: event})
		}
		n := numbers[part.Account]
		if err := w.env.putJSON(ctx, w.env.planName(part.Account, n), part); err != nil {
			return err
		}
		sum := report.Sum{
			Account: part.Account, Provider: part.Provider, Part: n, Seen: part.Seen, Tripped: part.Tripped, Partial: part.Partial, Reached: true,
		}
		if err := w.env.putJSON(ctx, w.env.partName("sums", part.Account, n), sum); err != nil {
			return err
		}
		numbers[part.Account]++
	}
	if err := w.env.keepEngineKeys(ctx, w.config); err != nil {
		return err
	}
	return w.env.putJSON(ctx, w.env.inRun("accounts.json"), slices.Concat([]order{}, orders))
}
