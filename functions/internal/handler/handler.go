// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package handler is what both functions share of living in Lambda, or in FunctionGraph: which
// events start a run, and that a SIGTERM ends it in order.
package handler

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
)

// Run does what one event asks for. Its error's type is what Lambda reports as errorType.
type Run[E any] func(ctx context.Context, event Event[E]) (any, error)

// Start serves invocations until Lambda ends the process. A SIGTERM cancels the context of
// the run in progress, which then has half a second to give back what it has taken. It
// comes only to functions that register for it, which WithEnableSIGTERM does.
func Start[E, A any](do func(ctx context.Context, env run.Env, event E) (A, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if f, is := onFunctionGraph(os.Getenv); is {
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
		if err := f.serve(ctx, func(ctx context.Context, i invocation) (any, error) { return handleOnGraph(ctx, f, i, do) }); err != nil {
			slog.Error("the runtime ends", "problem", err.Error())
			os.Exit(1)
		}
		return
	}
	logOnce(lambdacontext.NewLogger())
	lambda.StartWithOptions(func(ctx context.Context, payload json.RawMessage) (any, error) {
		return Handle(ctx, payload, func(ctx context.Context, event Event[E]) (any, error) {
			return do(ctx, run.Env{
				Getenv: os.Getenv, Function: lambdacontext.FunctionName, Request: requestID(ctx), RunID: event.RunID,
				Archive: archive.FromEnvironment(os.Getenv), Metrics: os.Stdout, Log: slog.Default(),
			}, event.Body)
		})
	}, lambda.WithContext(ctx), lambda.WithEnableSIGTERM())
}

// handleOnGraph runs one invocation of FunctionGraph. Nothing there makes metrics of what a function prints.
func handleOnGraph[E, A any](
	ctx context.Context, f functionGraph, i invocation, do func(ctx context.Context, env run.Env, event E) (A, error),
) (any, error) {
	getenv := f.environment(i)
	return Handle(ctx, i.payload, func(ctx context.Context, event Event[E]) (any, error) {
		return do(ctx, run.Env{
			Getenv: getenv, Function: getenv("RUNTIME_FUNC_NAME"), Request: i.id, RunID: event.RunID,
			Archive: archive.FromEnvironment(getenv), Metrics: io.Discard, Log: slog.Default(),
		}, event.Body)
	})
}

// Handle runs one invocation, and returns the run's answer.
func Handle[E any](ctx context.Context, payload json.RawMessage, do Run[E]) (any, error) {
	event, err := decode[E](payload)
	if err != nil {
		slog.ErrorContext(ctx, "event refused", "problem", err.Error())
		return nil, err
	}
	answer, err := do(ctx, event)
	if err != nil {
		slog.ErrorContext(ctx, "run failed", "problem", err.Error())
	}
	return answer, err
}

// requestID is the id of the invocation; empty outside Lambda.
func requestID(ctx context.Context) string {
	invocation, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return ""
	}
	return invocation.AwsRequestID
}
