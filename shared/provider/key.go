// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"fmt"
	"time"
)

// KeySpec describes an access key to be made.
type KeySpec struct {
	User    string    // the owner; empty: the identity whose key signs the call
	Label   string    // written on the key, and the only way to find it if the answer is lost
	Expires time.Time // UTC, whole seconds; zero: never. Where the cloud ends no key, it is written beside the label
}

// Key is an access key as the cloud lists it: without its secret.
type Key struct {
	ID      string
	User    string // the owner; empty: the identity whose key signs the call
	UserID  string // the owner's id, where the cloud has told it of this very key; empty: it does not (OUTSCALE)
	Label   string
	Active  bool
	Trusted bool // made in a trusted session: what an account in secure mode asks for (OUTSCALE)
	Created time.Time
	Changed time.Time // when anything of the key was last changed, its state or its date; zero: the cloud does not tell
	Expires time.Time // at which the cloud ends the key; zero: never
	Due     time.Time // at which the key should be removed, as written on it where the cloud ends no key by itself; zero: nothing is written
}

// End is the date at which the key ends by itself or should be removed; zero: none.
func (k Key) End() time.Time {
	if k.Expires.IsZero() {
		return k.Due
	}
	return k.Expires
}

// Ref names the key to a call that changes it.
func (k Key) Ref(accountID string) KeyRef {
	return KeyRef{
		AccountID: accountID, User: k.User, UserID: k.UserID, UserIDCertain: k.UserID != "", ID: k.ID, Label: k.Label, Expires: k.End(),
	}
}

// LiveAt tells whether the key can sign at time t. A cloud may list a key as
// active long after its date (OUTSCALE does), so the date decides as well.
func (k Key) LiveAt(t time.Time) bool {
	return k.Active && (k.Expires.IsZero() || t.Before(k.Expires))
}

// IssuedKey is a new access key with its secret, which the cloud tells once.
type IssuedKey struct {
	Key
	Secret Secret
}

// Format leaves the secret out: fmt does not ask a Secret behind a nested pointer
// how it wants to be shown.
func (k IssuedKey) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%+v %s}", k.Key, k.Secret) // fmt takes no error
}

// KeyRef names a key to be changed, and carries what every change must send
// along: OUTSCALE reads an update without a date as "never expires", which
// would make a revoked key immortal.
type KeyRef struct {
	AccountID string // the cloud account that the key was made in
	User      string // the owner's name when the key was made; empty: the identity whose key signs the call

	// UserID is the owner's id, whatever its name by now; empty: not known. Of a key of the calling
	// identity it is that identity's, so that the key is found also where another signs by now.
	UserID string
	// UserIDCertain tells that the key surely is this user's: the cloud said so, or lists of users
	// from before and after its create have the name at this id. Else the id is a hint.
	UserIDCertain bool
	// AnyUser tells, in FindKey alone, that nobody knows whose key it is. User is empty then.
	AnyUser bool

	ID      string    // empty, in FindKey alone: the label finds the key
	Label   string    // written on the key: a cloud that keeps the date beside it writes both at once
	Expires time.Time // the key's date; zero: never
	Made    time.Time // when the cloud has answered its create; zero: long ago, or not known
}

// Whoami is what the cloud says of the key that signs the calls.
type Whoami struct {
	AccountID string
	Identity  Identity
	Further   bool // the identity is unknown so far: there are users left to ask, and the next call goes on with them
	Key       Key  // the signing key
}

// Identity tells whose the signing key is.
type Identity struct {
	// Kind is one of the Identity constants.
	Kind IdentityKind
	// User is the user's name where Kind is IdentityUser.
	User string
	// UserID is the user's id where Kind is IdentityUser; on Huawei Cloud that of the account's
	// owner as well, who is a user like others.
	UserID string
}

// Same tells whether both are one identity. Users are compared by their ids, since names move;
// where an id is not known, by their names.
func (i Identity) Same(other Identity) bool {
	if i.Kind == other.Kind && i.UserID != "" && other.UserID != "" {
		return i.UserID == other.UserID
	}
	return i == other
}

// IdentityKind tells how much is known of an identity.
type IdentityKind string

const (
	// IdentityRoot is the account itself.
	IdentityRoot IdentityKind = "root"
	// IdentityUser is a user whose name is known.
	IdentityUser IdentityKind = "user"
	// IdentityUnknown is a user whose name the key is not allowed to find out.
	IdentityUnknown IdentityKind = "unknown"
	// IdentitySession is a temporary key, which stands in no list of keys.
	IdentitySession IdentityKind = "session"
)

// AccessPolicy is the account's rule for all its access keys.
type AccessPolicy struct {
	// MaxKeyLifetime bounds the life of every key; zero means unlimited
	// (OUTSCALE MaxAccessKeyExpirationSeconds).
	MaxKeyLifetime time.Duration
	// RequireTrustedEnv demands a trusted session of the account's users.
	RequireTrustedEnv bool
	// SecureMode lets the account and its users sign with trusted keys alone, those that were
	// made in Cockpit v2 after a multi-factor authentication: with no key that this software
	// makes (OUTSCALE RequireTrustedEnvSecureMode).
	SecureMode bool
	// Rest is everything else that the policy said when it was read, as JSON with its names in
	// order: the two switches above, and what the cloud has added since this was written. It is
	// sent back as it is. Empty: the policy was not read, and cannot be written.
	Rest string
}
