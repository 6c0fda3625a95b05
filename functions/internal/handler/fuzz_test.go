// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
)

// FuzzEvent: whatever starts a function either reaches its run whole or is refused; a field
// that nobody knows never passes for "no orders".
func FuzzEvent(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"mode":"report","accounts":["a"]}`, `{"mod":"report"}`, `{"run_id":1}`,
		`{"detail-type":"Scheduled Event","time":"2026-01-02T03:04:05Z","detail":{}}`, `{"detail-type":"x","detail":{"mode":"enforce"}}`,
		`{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"{\"mode\":\"report\"}"}]}`, `{"Records":[]}`, `{"Records":[{"body":"x"}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		runs := 0
		answer, err := Handle(t.Context(), json.RawMessage(payload), func(_ context.Context, event Event[order]) (any, error) {
			runs++
			return event, nil
		})
		var refused *EventRefusedError
		switch {
		case err != nil && (!errors.As(err, &refused) || runs != 0):
			t.Errorf("%q: %d runs and error %v", payload, runs, err)
		case err == nil && (runs != 1 || answer == nil):
			t.Errorf("%q: %d runs, and the answer %v", payload, runs, answer)
		case err == nil && !json.Valid([]byte(payload)):
			t.Errorf("%q was taken for an event", payload)
		}
	})
}
