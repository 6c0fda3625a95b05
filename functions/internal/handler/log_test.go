// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log"
	"log/slog"
	"testing"

	"github.com/aws/aws-lambda-go/lambda/messages"
)

func TestAnErrorIsLoggedOnceAndAsJSON(t *testing.T) {
	before, output, flags := slog.Default(), log.Writer(), log.Flags()
	defer func() {
		slog.SetDefault(before)
		log.SetOutput(output)
		log.SetFlags(flags)
	}()
	var written bytes.Buffer
	logOnce(slog.New(slog.NewJSONHandler(&written, nil)))
	cause := errors.New("the run has failed")
	if _, err := Handle(t.Context(), json.RawMessage(`{}`), func(context.Context, Event[order]) (any, error) {
		return nil,
			cause
	}); !errors.Is(err, cause) {
		t.Fatal(err)
	}
	payload, err := json.Marshal(messages.InvokeResponse_Error{Message: cause.Error(), Type: "errorString"})
	if err != nil {
		t.Fatal(err)
	}
	log.Printf("%s", payload) // as aws-lambda-go does

	var line struct{ Level, Msg, Problem string }
	if err := json.Unmarshal(written.Bytes(), &line); err != nil || line.Level != "ERROR" || line.Problem != cause.Error() {
		t.Errorf("want one line of JSON, got %q, %v", written.String(), err)
	}

	written.Reset()
	log.Print("expected AWS Lambda environment variables are not defined")
	if err := json.Unmarshal(written.Bytes(), &line); err != nil || line.Problem == "" {
		t.Errorf("what ends the process is lost, or no JSON: %q, %v", written.String(), err)
	}
}
