// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"iter"
)

// Finder finds keys whose owner may bear another name by now, and proves which keys are gone.
//
// A cloud's "not found" is no proof: users are renamed, their names are given to others, another
// account knows none of our keys, and OUTSCALE says the same of the key that signs.
type Finder interface {
	// FindKey looks for the key of ref: by its id, or by its label where the answer to its
	// create was lost and the id is empty. There are three outcomes:
	//
	//   - found: the key as it is listed now; its User is the name that its owner bears now, where
	//     the cloud's calls on keys need a name.
	//   - not found, and no error: the key is gone, and that is proven.
	//   - an error: nothing is proven. An *UnprovenError says how far a search has come; the
	//     client remembers that far, so that calling again later goes on and does not start anew.
	//
	// It looks no longer than ctx allows. A label names one key; where a repeated create left
	// two, the second is found once the first is gone.
	FindKey(ctx context.Context, ref KeyRef) (key Key, found bool, err error)
}

// Directory is what a cloud brings to the proof that a key is gone.
type Directory interface {
	// AccountID asks the cloud which account the signing key belongs to.
	AccountID(ctx context.Context) (string, error)

	// UserByID returns the user with this id, under the name that it bears now. It fails with
	// NotFound only where the account surely has no such user.
	UserByID(ctx context.Context, id string) (User, error)

	// ListUsers yields the account's users, each once. It ends at the first error.
	ListUsers(ctx context.Context) iter.Seq2[User, error]

	// KeysOf lists a user's keys: by the id where the cloud can, else by the name. The zero
	// User is the caller itself. Nothing remembered stands in for an answer.
	KeysOf(ctx context.Context, user User) ([]Key, error)

	// ListsKeysByID tells that the cloud takes the id of a user, which a rename does not change.
	ListsKeysByID() bool

	// SigningKey is the id of the key that signs the calls; empty: login and password do.
	SigningKey() string
}

// UnprovenError is a key that was not found and may exist all the same.
type UnprovenError struct {
	Key     string // its id, or its label
	Looked  int    // users whose keys were looked at
	Users   int    // users that the account has, as far as is known
	Further bool   // this call has come further than those before: it is worth calling again soon
	Final   bool   // it has seen all that the signing key is shown: the next call would see no more
	Err     error  // why the search has stopped; never of kind NotFound
}

// Error says how far the search has come, and why no further.
func (e *UnprovenError) Error() string {
	text := fmt.Sprintf("access key %s was not found, but whether it is gone cannot be proven yet", e.Key)
	if e.Users > 0 {
		text += fmt.Sprintf(" (the keys of %d of %d users were looked at, and the next try goes on from there)", e.Looked, e.Users)
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

// Unwrap returns why the search has stopped.
func (e *UnprovenError) Unwrap() error { return e.Err }
