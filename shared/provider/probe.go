// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"time"
)

// PermissionProber is a cloud that tells what a key may do without doing it.
type PermissionProber interface {
	// ProbePermissions asks for each call of the uses whether the engine's key may make
	// it, and changes nothing. It returns an error for each that it may not make, of kind
	// Denied, and for each that this could not be found out of. Where a cloud tells of no
	// permission to change something, it asks for those to read alone.
	ProbePermissions(ctx context.Context, uses ...Use) []error
}

// Use is something that the engine does with its key.
type Use string

const (
	// UseKeys makes, prolongs and ends access keys, the engine's own included.
	UseKeys Use = "keys"
	// UseUsers makes and removes users.
	UseUsers Use = "users"
	// UseInlinePolicies gives users a policy of their own.
	UseInlinePolicies Use = "inline policies"
	// UseManagedPolicies gives users policies of the account.
	UseManagedPolicies Use = "managed policies"
	// UseGroups puts users into groups.
	UseGroups Use = "groups"
)

// ClockSkew is a client that has seen the cloud's clock.
type ClockSkew interface {
	// ClockSkew is how far the cloud's clock is ahead of this machine's, below zero where
	// it is behind, as the last answers showed. It makes no call; known is false where
	// there was no answer yet.
	ClockSkew() (skew time.Duration, known bool)
}
