// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package policysync brings an account's access policy and Vault's lease limits together:
// the strictest wins.
package policysync

import (
	"context"
	"log/slog"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Job is one run over some accounts.
type Job struct {
	Settings settings.PolicySync
	Accounts []Account
	Connect  Connect
	Ledger   sweep.Ledger // nil: no Vault; then no key is shortened
	Vault    Vault        // nil: no Vault
	Log      *slog.Logger
}

// Account is one cloud account, and what Vault needs of its policy.
type Account struct {
	sweep.Account

	// LongestKey is the longest life of a key that Vault gives out on this account if no
	// policy bounds it: lease, grace and margin, the gaps of static roles included.
	// Zero: unknown, and the settings must say what is wanted.
	LongestKey time.Duration
	// Slack is how much longer than its lease a key lives: grace and margin.
	Slack time.Duration
}

// Connect opens an account. The returned function gives back what was taken, and is never
// nil beside a cloud.
type Connect func(ctx context.Context, account Account) (Cloud, func(), error)

// Cloud is what the sync needs of a cloud account. One that is no provider.PolicyWriter
// as well is only reported.
type Cloud interface {
	provider.Keys
	provider.Users
	provider.Caller
	provider.PolicyReader

	ExpiresKeys() bool
}

// Vault is what the sync changes in Vault.
type Vault interface {
	// Refresh makes the engine read the account's policy now.
	Refresh(ctx context.Context, account string) error
	// MaxLease is the mount's longest lease.
	MaxLease(ctx context.Context) (time.Duration, error)
	// TuneMaxLease sets the mount's longest lease.
	TuneMaxLease(ctx context.Context, max time.Duration) error
}
