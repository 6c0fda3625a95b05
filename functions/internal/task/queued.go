// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/cloud"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// NoProgressError tells that the time of a whole invocation was too short for anything at
// all. Sent on, the message would come back for ever.
type NoProgressError struct{ Account string }

// Error is a sentence for an operator.
func (e *NoProgressError) Error() string {
	return fmt.Sprintf("account %q: the time ran out before the first users were looked at: give the function more time, or see how long the cloud takes to answer", e.Account)
}

// DispatchAnswer is what a dispatch answers to its caller.
type DispatchAnswer struct {
	Accounts int `json:"accounts"` // each has a message of its own now
}

// order is an event as it is sent to the function itself.
type order struct {
	RunID string `json:"run_id,omitempty"`
	settings.SweepEvent
}

func (o order) text() (string, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("writing an event: %w", err)
	}
	return string(text), nil
}

// Revoke carries out one event of revoke-expired-keys.
func Revoke(ctx context.Context, s Surroundings, event settings.SweepEvent) (any, error) {
	switch event.Phase {
	case settings.PhaseDispatch:
		return s.dispatch(ctx, event)
	case settings.PhaseList:
		return s.listAccounts(ctx, event)
	case settings.PhasePlan:
		return s.plan(ctx, event)
	case settings.PhaseJudge:
		return s.judge(ctx, event)
	case settings.PhaseApply:
		return s.apply(ctx, event)
	default:
		return Sweep(ctx, s, event) // which refuses a phase that nobody knows
	}
}

// dispatch sends a message for each account. It looks at none itself.
func (s Surroundings) dispatch(ctx context.Context, event settings.SweepEvent) (*DispatchAnswer, error) {
	if s.Queue == nil {
		return nil, &settings.SettingsRefusedError{Err: errors.New("REQUEST_QUEUE_URL is empty, and the phase dispatch sends each account there")}
	}
	orders, err := s.orders(ctx, event, "")
	if err != nil {
		return nil, err
	}
	bodies := make([]string, 0, len(orders))
	for _, o := range orders {
		body, err := o.text()
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	if err := s.Queue.Send(ctx, bodies); err != nil {
		return nil, err
	}
	s.Log.InfoContext(ctx, "accounts dispatched", "run_id", s.RunID, "accounts", len(bodies))
	return &DispatchAnswer{Accounts: len(bodies)}, nil
}

// orders are the events of a phase, one for each account. Each begins with the first user,
// wherever an earlier run may have ended: so that a message delivered twice means the same.
func (s Surroundings) orders(ctx context.Context, event settings.SweepEvent, phase string) ([]order, error) {
	config, err := settings.ReadSweep(s.Getenv, event)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	names := config.Accounts
	if len(names) == 0 {
		if names, err = cloud.AccountNames(ctx, s.Getenv, s.userAgent(), s.Log); err != nil {
			return nil, err
		}
	}
	orders := make([]order, 0, len(names))
	for _, name := range names {
		orders = append(orders, order{RunID: s.RunID, SweepEvent: settings.SweepEvent{
			Phase: phase, Mode: event.Mode, Accounts: []string{name}, Resume: map[string]string{name: ""},
		}})
	}
	return orders, nil
}

// passOn sends what is left of accounts for which time ran out as messages of their own, and
// returns what is to be said of this one. Keys that could not be changed do not bring it
// back, since what is left would be sent once more each time: the next run plans them again.
func (s Surroundings) passOn(ctx context.Context, event settings.SweepEvent, result sweep.Result, runErr error) error {
	var bodies []string
	for _, a := range result.Accounts {
		if !a.Partial || a.Problem != "" {
			continue
		}
		if a.Cursor == event.Resume[a.Account] && !changed(a.Counts) {
			return &NoProgressError{a.Account}
		}
		body, err := order{RunID: s.RunID, SweepEvent: settings.SweepEvent{
			Mode: event.Mode, Accounts: []string{a.Account}, Resume: map[string]string{a.Account: a.Cursor},
		}}.text()
		if err != nil {
			return err
		}
		bodies = append(bodies, body)
	}
	if len(bodies) == 0 || s.Queue == nil {
		return runErr
	}
	if err := s.Queue.Send(ctx, bodies); err != nil {
		return err
	}
	var failed *sweep.FailedError
	if errors.As(runErr, &failed) && len(failed.Accounts) == 0 {
		s.Log.ErrorContext(ctx, "keys could not be changed, and the rest of the account goes on", "run_id", s.RunID, "problem", runErr.Error())
		return nil
	}
	return runErr
}

func changed(c sweep.Counts) bool {
	return c.Deactivated+c.Deleted+c.Gone > 0
}
