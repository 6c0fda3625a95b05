// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Event is one order to a function.
type Event[E any] struct {
	RunID string // the scheduled time, where there is one: the same for every attempt
	Body  E
}

// EventRefusedError tells that an invocation is none of those that the function knows.
type EventRefusedError struct{ err error }

// Error does not repeat the event: it ends up in logs.
func (e *EventRefusedError) Error() string { return "the event is not understood: " + e.err.Error() }

// Unwrap returns what is wrong with it.
func (e *EventRefusedError) Unwrap() error { return e.err }

// shape is what tells invocations apart.
type shape struct {
	DetailType string          `json:"detail-type"`
	Detail     json.RawMessage `json:"detail"`
	Time       string          `json:"time"`
}

// decode reads an event that came directly or from a schedule of EventBridge Scheduler, which
// sends its Input as it is, or from a rule of EventBridge, which wraps it.
func decode[E any](payload json.RawMessage) (Event[E], error) {
	var s shape
	if err := json.Unmarshal(payload, &s); err != nil {
		return Event[E]{}, &EventRefusedError{err}
	}
	if s.DetailType == "" {
		return decodeBody[E](payload)
	}
	event, err := decodeBody[E](s.Detail)
	if event.RunID == "" {
		event.RunID = s.Time
	}
	return event, err
}

// decodeBody takes run_id out of the fields, and refuses fields that nobody knows: a
// misspelt "mode" must not pass for none.
func decodeBody[E any](payload json.RawMessage) (Event[E], error) {
	var event Event[E]
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(payload, &fields); err != nil {
		return event, &EventRefusedError{err}
	}
	if runID, ok := fields["run_id"]; ok {
		if err := json.Unmarshal(runID, &event.RunID); err != nil {
			return event, &EventRefusedError{fmt.Errorf("run_id: %w", err)}
		}
		delete(fields, "run_id")
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return event, &EventRefusedError{err}
	}
	decoder := json.NewDecoder(bytes.NewReader(rest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&event.Body); err != nil {
		return event, &EventRefusedError{err}
	}
	return event, nil
}
