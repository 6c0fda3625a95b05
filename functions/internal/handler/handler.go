// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package handler is what both functions share of living in Lambda: which events start a
// run, how a batch is answered, and that a SIGTERM ends a run in order.
package handler

import (
	"context"
	"encoding/json"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Run does what one event asks for. Its error's type is what Lambda reports as errorType.
type Run[E any] func(ctx context.Context, event Event[E]) (any, error)

// Start serves invocations until Lambda ends the process. A SIGTERM cancels the context of
// the run in progress, which then has half a second to give back what it has taken. It
// comes only to functions that register for it, which WithEnableSIGTERM does.
func Start[E any](run Run[E]) {
	logOnce(lambdacontext.NewLogger())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	lambda.StartWithOptions(func(ctx context.Context, payload json.RawMessage) (any, error) {
		return Handle(ctx, payload, run)
	}, lambda.WithContext(ctx), lambda.WithEnableSIGTERM())
}

// Handle runs one invocation. A batch is answered with the messages to be delivered again;
// everything else with the run's own answer.
func Handle[E any](ctx context.Context, payload json.RawMessage, run Run[E]) (any, error) {
	if messages := batch(payload); len(messages) > 0 {
		return handleBatch(ctx, messages, run), nil
	}
	event, err := decode[E](payload)
	if err != nil {
		slog.ErrorContext(ctx, "event refused", "problem", err.Error())
		return nil, err
	}
	answer, err := run(ctx, event)
	if err != nil {
		slog.ErrorContext(ctx, "run failed", "problem", err.Error())
	}
	return answer, err
}

// handleBatch runs one message after the other, each in its share of the time that is left.
func handleBatch[E any](ctx context.Context, messages []events.SQSMessage, run Run[E]) events.SQSEventResponse {
	answer := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for i, message := range messages {
		err := handleMessage(ctx, message, len(messages)-i, run)
		if err != nil {
			slog.ErrorContext(ctx, "message failed, it will be delivered again", "message", message.MessageId, "problem", err.Error())
			answer.BatchItemFailures = append(answer.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
		}
	}
	return answer
}

func handleMessage[E any](ctx context.Context, message events.SQSMessage, left int, run Run[E]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	event, err := decode[E](json.RawMessage(message.Body))
	if err != nil {
		return err
	}
	event.Queued = true
	_, err = run(ctx, event)
	return err
}

// RequestID is the id of the invocation; empty outside Lambda.
func RequestID(ctx context.Context) string {
	invocation, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return ""
	}
	return invocation.AwsRequestID
}
