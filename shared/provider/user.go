// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"iter"
	"time"
)

// Users makes and removes users that exist for one access key.
type Users interface {
	// CreateUser makes a user without rights. It is never repeated blindly: an
	// error of kind Ambiguous means that the user may exist, to be found by its
	// label. One of kind Conflict means that the name is somebody else's.
	CreateUser(ctx context.Context, spec UserSpec) (User, error)

	// GrantUser gives a user all these rights, at the same time. The error says
	// which could not be given; the others may have been.
	GrantUser(ctx context.Context, user User, rights Rights) error

	// ListUsers yields the account's users, each once. It ends at the first error.
	ListUsers(ctx context.Context) iter.Seq2[User, error]

	// RemoveUser removes a user with everything that hangs on it, its keys first.
	// It is idempotent, and touches a user only if it carries the label of ref.
	// Its absence is believed only when the account of ref says so.
	RemoveUser(ctx context.Context, ref UserRef) error
}

// UserSpec describes a user to be made.
type UserSpec struct {
	Name  string
	Path  string // under which it is to stand, with slashes at both ends
	Label string // written on the user, and what it is recognised by
}

// User is a user as the cloud lists it.
type User struct {
	ID    string
	Name  string
	Path  string
	Label string // empty: this software did not make it
}

// UserRef names a user to be removed. Names are used again, so it is the id that
// finds the user; where it never became known, the label does.
type UserRef struct {
	AccountID string // the cloud account that the user was made in
	ID        string // empty: unknown
	Name      string // for messages: it may have been changed
	Label     string
	Made      time.Time // when the cloud has surely made it; zero: long ago, or not known
}

// Rights are what a user may do.
type Rights struct {
	PolicyORNs []string // managed policies
	Document   string   // an inline policy, as JSON; empty: none
	Groups     []string // by name, or by path and name
}
