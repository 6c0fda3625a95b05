// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package provider is the vocabulary that the secrets engine and the functions
// share with every cloud: access keys, callers, access policies, the kinds of
// errors, and the small interfaces by which a cloud's package is reached. It
// knows no cloud and no Vault.
package provider

import (
	"context"
	"errors"
)

// Keys manages the access keys of one cloud account.
type Keys interface {
	// CreateKey makes an access key. It is never repeated blindly: an error of
	// kind Ambiguous means that a key may exist, to be found by its label.
	CreateKey(ctx context.Context, spec KeySpec) (IssuedKey, error)

	// ListKeys returns the keys of an identity, the expired ones included. The
	// empty user is the identity whose key signs the call.
	ListKeys(ctx context.Context, user string) ([]Key, error)

	// MoveExpiry sets the date at which a key ends, and nothing else: an
	// inactive key stays inactive. Where the cloud ends no key by itself, the
	// date is written beside the label.
	MoveExpiry(ctx context.Context, ref KeyRef) error

	// RevokeKey makes a key unusable and removes it, in the steps that the cloud
	// asks for. It is idempotent: a key that is gone is a success, and only then
	// is absence believed when the account of ref answered and does not list it.
	RevokeKey(ctx context.Context, ref KeyRef) error
}

// Stages are the steps of RevokeKey one at a time, for those who keep a key
// switched off for some days before it is removed. Both are idempotent, and a
// key that is gone is a success, believed as RevokeKey believes it.
type Stages interface {
	// DeactivateKey switches a key off. Its date is sent along.
	DeactivateKey(ctx context.Context, ref KeyRef) error

	// DeleteKey removes a key that is switched off.
	DeleteKey(ctx context.Context, ref KeyRef) error
}

// Relabeler changes what is written on a key.
type Relabeler interface {
	// RelabelKey writes the label of ref on a key, and leaves all else as it is. The date
	// of ref is sent along and must be the key's own. It is idempotent.
	RelabelKey(ctx context.Context, ref KeyRef) error
}

// Caller tells whose key signs the calls.
type Caller interface {
	// WhoAmI waits for the lists to show a key of seconds ago, where they alone tell whose it is.
	WhoAmI(ctx context.Context) (Whoami, error)

	// AccountID is the part of WhoAmI that costs one call: on a large account the identity
	// takes dozens.
	AccountID(ctx context.Context) (string, error)

	// OwnKey is the signing key as the cloud lists it: one call, which also proves
	// that the key works. It fails with ErrUnlisted where the key works and is not listed.
	OwnKey(ctx context.Context) (Key, error)
}

// ErrUnlisted is a signing key whose signature the cloud has taken, and which its lists lack: as a rule it was made seconds ago.
var ErrUnlisted = errors.New("the cloud takes its signature, and its lists need not show a key of seconds ago: try again")

// PolicyReader reads the account's access policy.
type PolicyReader interface {
	// AccessPolicy reads the policy in force now.
	AccessPolicy(ctx context.Context) (AccessPolicy, error)
}

// PolicyWriter changes the account's access policy.
type PolicyWriter interface {
	// SetAccessPolicy writes a policy that AccessPolicy has read, with another MaxKeyLifetime.
	// All else is sent back as it was read; a policy that was made up is refused. A policy that
	// existing keys do not allow is of kind PolicyViolated.
	SetAccessPolicy(ctx context.Context, policy AccessPolicy) error
}

// Cloud is what the secrets engine needs of a cloud account.
type Cloud interface {
	Keys
	Finder
	Users
	Caller
	PolicyReader

	// KeyQuota is how many access keys one identity can have.
	KeyQuota() int

	// ExpiresKeys tells whether the cloud itself ends a key at its date (OUTSCALE).
	// Where it does not (Huawei), the date is only written on the key, and nothing
	// but a deletion ends it.
	ExpiresKeys() bool
}
