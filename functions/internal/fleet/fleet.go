// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package fleet is what a run over cloud accounts is made of: the accounts, what Vault knows of
// their keys, each account's share of the time, and the way over all of its users.
package fleet

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Account is a cloud account as Vault or the environment describes it. Its configuration has a
// key only where the environment gave one: Vault leases them.
type Account struct {
	Name string
	provider.Config
	AccountID  string   // the cloud's id of the account; a key of another account is never touched
	EngineKeys []string // access keys that Vault itself signs with: current, previous, next
	Mount      string   // of the secrets engine; empty: there is no Vault
	Instance   string   // of the secrets engine, as in its labels; empty: every labelled key is another engine's

	ExpiryGrace time.Duration // that a key outlives its lease by

	// LongestKey is the longest life of a key that Vault gives out on this account if no policy
	// bounds it: lease, grace and margin, the gaps of static roles included. Zero: none, or not known.
	LongestKey time.Duration
}

// Cloud is what a run needs of a cloud account. The providers' clients have it.
type Cloud interface {
	provider.Cloud
	provider.Stages
}

// Connect opens an account. The returned function gives back what was taken, and is never nil
// beside a cloud.
type Connect func(ctx context.Context, account Account) (Cloud, func(), error)

// Ledger is Vault's record of the keys that it gave out.
type Ledger interface {
	// Keys returns the recorded keys of one user of an account. Whatever keeps the list from
	// being complete is an error.
	Keys(ctx context.Context, account, user string) ([]LedgerKey, error)
	// Key returns the record of an access key, of any account of the mount; nil: there is none.
	Key(ctx context.Context, accessKey string) (*LedgerKey, error)
	// Empty tells whether no key of the account is recorded.
	Empty(ctx context.Context, account string) (bool, error)
}

// LedgerKey is one key that Vault gave out.
type LedgerKey struct {
	AccessKey string
	Kind      string // lease, user, root or static
	User      string
	Role      string
	Expires   time.Time // zero: none
}

// keyID is what the ids of both clouds' access keys look like.
var keyID = regexp.MustCompile(`\b[A-Z0-9]{20}\b`)

// Mask leaves enough of an access key's id to be recognised by who has it, and too little
// to be used or searched for by who has not.
func Mask(id string) string {
	if len(id) < 12 {
		return "…"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

// MaskIn masks every access key's id in a text that leaves the account: what a cloud or
// Vault said of a failure may name one.
func MaskIn(text string, known ...string) string {
	for _, id := range known {
		if id != "" {
			text = strings.ReplaceAll(text, id, Mask(id))
		}
	}
	return keyID.ReplaceAllStringFunc(text, Mask)
}

// Store keeps an account's state between runs.
type Store[S any] interface {
	// Load returns the zero state where there is none yet.
	Load(ctx context.Context, account string) (S, error)
	Save(ctx context.Context, account string, state S) error
}
