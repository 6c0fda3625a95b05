// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	Source     string          `json:"source"`
	Detail     json.RawMessage `json:"detail"`
	Time       string          `json:"time"`
	Trigger    string          `json:"trigger_type"` // of FunctionGraph
	UserEvent  string          `json:"user_event"`   // what a timer of FunctionGraph was given
	Records    []struct {
		Source string `json:"eventSource"` // encoding/json takes SNS's EventSource for it, too
	} `json:"Records"`
}

// decode reads an event that came directly or from a schedule of EventBridge Scheduler, which
// sends its Input as it is, or from a rule of EventBridge or a timer of FunctionGraph, which wrap it. All else is refused:
// whatever another service has to tell is no order to look at all accounts.
func decode[E any](payload json.RawMessage) (Event[E], error) {
	var s shape
	if err := json.Unmarshal(payload, &s); err != nil {
		return Event[E]{}, &EventRefusedError{err}
	}
	switch {
	case len(s.Records) > 0:
		return Event[E]{}, &EventRefusedError{fmt.Errorf("it holds records of %q, and this function takes none", s.Records[0].Source)}
	case s.Trigger == timer:
		event, err := decodeBody[E]([]byte(cmp.Or(strings.TrimSpace(s.UserEvent), "{}")))
		event.RunID = cmp.Or(event.RunID, s.Time)
		return event, err
	case s.Trigger != "":
		return Event[E]{}, &EventRefusedError{fmt.Errorf("it is of a trigger of the type %q, and this function takes a %s "+
			"alone", s.Trigger, timer)}
	case s.DetailType == "":
		return decodeBody[E](payload)
	case s.DetailType != scheduled && strings.HasPrefix(s.Source, "aws."):
		return Event[E]{}, &EventRefusedError{fmt.Errorf("it is a %q of %q, and this function takes a %q "+
			"alone", s.DetailType, s.Source, scheduled)}
	}
	event, err := decodeBody[E](s.Detail)
	if event.RunID == "" {
		event.RunID = s.Time
	}
	return event, err
}

const (
	scheduled = "Scheduled Event" // a rule of EventBridge with a schedule
	timer     = "TIMER"           // a timer of FunctionGraph
)

// decodeBody takes run_id out of the fields, and refuses fields that nobody knows: a
// misspelt "mode" must not pass for none.
func decodeBody[E any](payload json.RawMessage) (Event[E], error) {
	var event Event[E]
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil {
		return event, &EventRefusedError{err}
	}
	if fields == nil {
		return event, &EventRefusedError{errors.New("it is null: give {} to look at all accounts")}
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
