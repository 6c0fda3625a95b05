// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package sweep finds the access keys that should no longer exist, plans what to do with
// each, and does exactly that. Planning reads and never writes; a plan is stored before
// anything is changed, so that what a report shows is what an enforcing run does.
package sweep

import (
	"context"
	"log/slog"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Job is one run over some accounts.
type Job struct {
	Settings settings.Sweep
	Accounts []Account
	Connect  Connect

	// Ledger is what Vault knows of its keys. Nil: there is no Vault, and no key is
	// called an orphan.
	Ledger Ledger

	// Store keeps what the next run must know. Nil: nothing is kept.
	Store Store

	// Resume overrides, by account, the cursor that the Store has.
	Resume map[string]string

	// Dir is where plans are spooled; empty: the system's temporary directory.
	Dir string
	Log *slog.Logger
}

// Account is one cloud account, as Vault or the environment describes it.
type Account struct {
	Name       string
	Provider   string
	Region     string
	AccountID  string   // the cloud's id of the account; a key of another account is never touched
	EngineKeys []string // access keys that Vault itself signs with: current, previous, next
	Instance   string   // of the secrets engine, as in its labels; empty: every labelled key is another engine's
}

// Connect opens an account. The returned function gives back what was taken, and is never
// nil beside a cloud.
type Connect func(ctx context.Context, account Account) (Cloud, func(), error)

// Cloud is what a sweep needs of a cloud account. The provider's clients have it.
type Cloud interface {
	provider.Keys
	provider.Users
	provider.Stages
	provider.Caller
	provider.PolicyReader

	ExpiresKeys() bool
}

// Usage is implemented by clouds that tell when a key was last used. It can only save a
// key: silence condemns none, since no cloud sees every use.
type Usage interface {
	// LastUsed is the zero time where no use is known.
	LastUsed(ctx context.Context, user, accessKey string) (time.Time, error)
}

// Ledger is Vault's record of the keys that it gave out.
type Ledger interface {
	// Keys returns the recorded keys of one user of an account; the empty user is the
	// engine's own identity. Whatever keeps it from being complete is an error.
	Keys(ctx context.Context, account, user string) ([]LedgerKey, error)
}

// LedgerKey is one key that Vault gave out.
type LedgerKey struct {
	AccessKey string
	Kind      string // lease, user, root or static
	User      string
	Role      string
	Label     string
	Accessor  string
	Expires   time.Time // zero: none
}

// Store keeps an account's state between runs.
type Store interface {
	// Load returns the zero State where there is none yet.
	Load(ctx context.Context, account string) (State, error)
	Save(ctx context.Context, account string, state State) error
}

// State is what a run must know of those before it. It marshals to JSON.
type State struct {
	// Cursor is the user after which the next run begins; empty: the first.
	Cursor string `json:"cursor,omitempty"`
	// LedgerKeys is how many keys of a whole account the ledger had.
	LedgerKeys int `json:"ledger_keys,omitempty"`
	// Inactive tells since when each key has been known to be switched off.
	Inactive map[string]time.Time `json:"inactive,omitempty"`
}
