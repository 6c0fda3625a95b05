// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command sync-policy is the AWS Lambda function that brings the access policy of OUTSCALE accounts and
// the limits of Vault's leases together.
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

func run(ctx context.Context, event handler.Event[settings.PolicySyncEvent]) (any, error) {
	return task.PolicySync(ctx, task.Surroundings{
		Getenv: os.Getenv, Function: lambdacontext.FunctionName, Request: handler.RequestID(ctx), RunID: event.RunID,
		Archive: archive.FromEnvironment(os.Getenv), Metrics: os.Stdout, Log: slog.Default(),
	}, event.Body)
}
