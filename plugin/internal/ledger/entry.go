// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package ledger is the one record of every key that the secrets engine makes, in the mount's
// local storage, and the one index over all of them, in memory. A key has one entry:
//
//	begun (before the create) → made (after it) → removed (when the key is proven gone)
//
// so that every live key of ours is in the ledger, at every moment and after every crash.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Prefix begins the path of every entry: ledger/<account>/<label>.
const Prefix = "ledger/"

// version is the format of the entries that are written. An entry of a newer one is kept, counts
// as in use, and is reported; it is never dropped.
const version = 1

// State is how far a key has got.
type State string

const (
	// Begun is a key that is to be made, or that may have been: its label alone finds it.
	Begun State = "begun"
	// Made is a key that the cloud has made and that its request has settled.
	Made State = "made"
)

// Entry says what a key is, who was given it and until when. It holds no secret.
type Entry struct {
	Version int           `json:"version"`
	State   State         `json:"state"`
	Kind    keylabel.Kind `json:"kind"`
	Label   string        `json:"label"`

	Account   string            `json:"account"`
	AccountID string            `json:"account_id,omitempty"` // the cloud account; empty: of a first key, until it is known
	Endpoint  string            `json:"endpoint,omitempty"`   // where a first key is made, until its cloud account is known
	Identity  provider.Identity `json:"identity,omitzero"`    // of the engine's key at the create, where the key is its own identity's
	User      string            `json:"user,omitempty"`       // the owner; empty: the engine's own identity
	UserID    string            `json:"user_id,omitempty"`    // the owner's id, as far as it is known
	Certain   bool              `json:"certain,omitempty"`    // whether the key surely is that id's, under whatever name

	AccessKey string    `json:"access_key,omitempty"` // empty until the key is made
	Role      string    `json:"role,omitempty"`
	Issued    time.Time `json:"issued"`
	MadeAt    time.Time `json:"made_at,omitzero"` // when the cloud has answered the create
	Expires   time.Time `json:"expires"`          // never earlier than the key's date in the cloud, and in its clock; zero: none

	// Skew is by how much the cloud's clock was ahead of this machine's when the date was written.
	Skew time.Duration `json:"skew,omitempty"`

	Accessor    string `json:"accessor,omitempty"` // of the token that requested it
	EntityID    string `json:"entity_id,omitempty"`
	DisplayName string `json:"display_name,omitempty"`
	RequestID   string `json:"request_id,omitempty"`

	// Problem is why an expired key could not be removed, and RetryAt when that is tried again.
	Problem  string    `json:"problem,omitempty"`
	Failures int       `json:"failures,omitempty"`
	RetryAt  time.Time `json:"retry_at,omitzero"`

	// Abandoned is a key whose account was deleted with force: nobody can delete it. EndsByDate: its cloud ends it at its date.
	Abandoned  bool `json:"abandoned,omitempty"`
	EndsByDate bool `json:"ends_by_date,omitempty"`

	// Unrecorded marks what was made up from a lease, the ledger having no entry. It is not stored.
	Unrecorded bool `json:"-"`
}

// Leased tells keys of leases from those that the engine replaces by itself.
func (e *Entry) Leased() bool { return leased(e.Kind) }

func leased(kind keylabel.Kind) bool {
	return kind == keylabel.KindLease || kind == keylabel.KindUser
}

// Spec orders the key from the cloud.
func (e *Entry) Spec() provider.KeySpec {
	return provider.KeySpec{User: e.User, Label: e.Label, Expires: e.Expires}
}

// EndedAt is when, by this machine's clock, the key has ended at its date, and the record of one that nobody can look at
// may go. The clock may have been set since the date was written: skew is what is known now, and the latest of all counts.
func (e *Entry) EndedAt(skew time.Duration) time.Time {
	return lifetime.EndedAt(e.Expires, min(e.Skew, skew, 0))
}

// Ref names the key to the cloud.
func (e *Entry) Ref() provider.KeyRef {
	return provider.KeyRef{
		AccountID: e.AccountID, User: e.User, UserID: e.UserID, UserIDCertain: e.Certain,
		ID: e.AccessKey, Label: e.Label, Expires: e.Expires, Made: e.MadeAt,
	}
}

// UserRef names the user that was made for the key, where one was.
func (e *Entry) UserRef() provider.UserRef {
	return provider.UserRef{AccountID: e.AccountID, ID: e.UserID, Name: e.User, Label: e.Label, Made: e.MadeAt}
}

func accountPrefix(account string) string { return Prefix + account + "/" }

// Path is where the entry of a label stands.
func Path(account, label string) string { return accountPrefix(account) + label }

// AccountOf returns the account of an entry's path; empty where it is none of the ledger's.
func AccountOf(path string) string {
	rest, ours := strings.CutPrefix(path, Prefix)
	account, _, found := strings.Cut(rest, "/")
	if !ours || !found {
		return ""
	}
	return account
}

// UnreadableError is an entry that is there and cannot be understood: it is kept as it is.
type UnreadableError struct{ path, reason string }

// Error implements error.
func (e *UnreadableError) Error() string {
	return fmt.Sprintf("the ledger's entry %s cannot be used, and is kept: %s", e.path, e.reason)
}

// Read returns the entry of a label as it is stored; nil where there is none. The label may come
// from a lease that was damaged: one that is no label of this software names no entry.
func Read(ctx context.Context, s logical.Storage, account, label string) (*Entry, error) {
	if _, err := keylabel.Parse(label); err != nil {
		return nil, nil
	}
	return read(ctx, s, Path(account, label))
}

func read(ctx context.Context, s logical.Storage, path string) (*Entry, error) {
	raw, err := s.Get(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("reading %s from storage: %w", path, err)
	}
	if raw == nil {
		return nil, nil
	}
	var format struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw.Value, &format); err != nil {
		return nil, &UnreadableError{path, "it is damaged (" + err.Error() + ")"}
	}
	if format.Version > version {
		return nil, &UnreadableError{
			path,
			fmt.Sprintf("a newer version of the plugin has written it (format %d, and this one reads %d): upgrade again", format.Version, version),
		}
	}
	var e Entry
	if err := json.Unmarshal(raw.Value, &e); err != nil {
		return nil, &UnreadableError{path, "it is damaged (" + err.Error() + ")"}
	}
	if Path(e.Account, e.Label) != path || e.State != Begun && e.State != Made {
		return nil, &UnreadableError{path, "it is damaged (its contents are not of this path)"}
	}
	return &e, nil
}

func write(ctx context.Context, s logical.Storage, e *Entry) error {
	e.Version = version
	path := Path(e.Account, e.Label)
	entry, err := logical.StorageEntryJSON(path, e)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	if err := s.Put(ctx, entry); err != nil {
		return fmt.Errorf("writing %s to storage: %w", path, err)
	}
	return nil
}
