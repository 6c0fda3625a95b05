// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command revoke-expired-keys is the AWS Lambda function that finds access keys which should
// no longer exist, and in enforce mode deactivates and deletes them.
package main

import (
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/handler"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
)

func main() { handler.Start(run.Revoke) }
