// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// order is an event as a function may define one.
type order struct {
	Mode     string   `json:"mode,omitempty"`
	Accounts []string `json:"accounts,omitempty"`
}

func TestWhatStartsARun(t *testing.T) {
	cases := map[string]struct {
		payload string
		want    Event[order]
		refused bool
	}{
		"nothing": {`{}`, Event[order]{}, false},
		"a direct event": {
			`{"mode":"report","accounts":["a"]}`, Event[order]{Body: order{Mode: "report", Accounts: []string{"a"}}}, false,
		},
		"a schedule's input": {`{"run_id":"2026-01-02T03:04:05Z"}`, Event[order]{RunID: "2026-01-02T03:04:05Z"}, false},
		"a rule of EventBridge": {
			`{"detail-type":"Scheduled Event","source":"aws.events","time":"2026-01-02T03:04:05Z","detail":{}}`,
			Event[order]{RunID: "2026-01-02T03:04:05Z"},
			false,
		},
		"a rule with an order": {
			`{"detail-type":"x","time":"t","detail":{"run_id":"r","mode":"report"}}`, Event[order]{RunID: "r", Body: order{Mode: "report"}}, false,
		},
		"a field that nobody knows":        {`{"mod":"report"}`, Event[order]{}, true},
		"a list":                           {`[]`, Event[order]{}, true},
		"a run_id that is no text":         {`{"run_id":1}`, Event[order]{}, true},
		"a field of the wrong type":        {`{"mode":1}`, Event[order]{}, true},
		"an unknown field in a rule":       {`{"detail-type":"x","detail":{"mod":"report"}}`, Event[order]{}, true},
		"a rule without any detail":        {`{"detail-type":"x"}`, Event[order]{}, true},
		"text that is no JSON at all":      {`report`, Event[order]{}, true},
		"nothing at all":                   {`null`, Event[order]{}, true},
		"an event of S3":                   {`{"Records":[{"eventSource":"aws:s3","s3":{}}]}`, Event[order]{}, true},
		"an event of SNS":                  {`{"Records":[{"EventSource":"aws:sns","Sns":{"Message":"{}"}}]}`, Event[order]{}, true},
		"an event of Kinesis":              {`{"Records":[{"eventSource":"aws:kinesis","kinesis":{}}]}`, Event[order]{}, true},
		"no records of anybody":            {`{"Records":[]}`, Event[order]{}, true},
		"news of another service":          {`{"detail-type":"Object Created","source":"aws.s3","time":"t","detail":{}}`, Event[order]{}, true},
		"a rule with nothing for an order": {`{"detail-type":"x","source":"my.app","detail":null}`, Event[order]{}, true},
		"messages of a queue":              {`{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"{}"}]}`, Event[order]{}, true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			var got Event[order]
			answer, err := Handle(t.Context(), json.RawMessage(test.payload), func(_ context.Context, event Event[order]) (any, error) {
				got = event
				return "done", nil
			})
			var refused *EventRefusedError
			if errors.As(err, &refused) != test.refused || (answer == "done") == test.refused || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, answer %v and error %v", got, answer, err)
			}
		})
	}
}

func TestARefusalSaysWhatCame(t *testing.T) {
	for payload, want := range map[string]string{
		`{"Records":[{"eventSource":"aws:kinesis"}]}`:                               "aws:kinesis",
		`{"Records":[{"EventSource":"aws:sns"}]}`:                                   "aws:sns",
		`{"detail-type":"Object Created","source":"aws.s3","time":"t","detail":{}}`: "Object Created",
		`null`: "null",
	} {
		_, err := Handle(t.Context(), json.RawMessage(payload), func(context.Context, Event[order]) (any, error) { return nil, nil })
		var refused *EventRefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", payload, err, want)
		}
	}
}
