// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command sync-policy is the AWS Lambda function that brings the access policy of OUTSCALE accounts and
// the limits of Vault's leases together.
package main

import (
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/handler"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
)

func main() { handler.Start(run.PolicySync) }
