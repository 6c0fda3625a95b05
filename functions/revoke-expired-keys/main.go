// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command revoke-expired-keys is the AWS Lambda function that finds access keys which should
// no longer exist, and in enforce mode deactivates and deletes them.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/handler"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/task"
)

func main() {
	handler.Start(run)
}

func run(ctx context.Context, event handler.Event[settings.SweepEvent]) (any, error) {
	return task.Revoke(ctx, task.Surroundings{
		Getenv: os.Getenv, Function: lambdacontext.FunctionName, Request: handler.RequestID(ctx), RunID: event.RunID,
		Archive: archive.FromEnvironment(os.Getenv), Metrics: os.Stdout, Log: slog.Default(),
	}, event.Body)
}
