// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// ledgerPrefix is where every issued key is recorded, in local storage, until the
// cloud is known to have lost it: ledger/<account>/<identity>/<access key>.
const ledgerPrefix = "ledger/"

// ownIdentity stands in ledger paths for the identity of the engine's own key. No
// user name can be mistaken for it, since a percent sign is always escaped.
const ownIdentity = "%self"

// usersIdentity stands in ledger paths for all users that were made for one lease each:
// a directory a lease would be walked by every look at the ledger.
const usersIdentity = "%users"

// ledgerEntry says who was given a key and until when. It holds no secret.
type ledgerEntry struct {
	Kind      keylabel.Kind `json:"kind"`
	AccessKey string        `json:"access_key"`
	Account   string        `json:"account"`
	AccountID string        `json:"account_id"` // the cloud account the key was made in
	User      string        `json:"user"`
	UserID    string        `json:"user_id,omitempty"` // of a user that goes with the key
	Role      string        `json:"role"`
	Label     string        `json:"label"`
	Issued    time.Time     `json:"issued"`
	Made      time.Time     `json:"made,omitzero"` // when the cloud has answered the create
	Expires   time.Time     `json:"expires"`       // never earlier than the key's date in the cloud

	Accessor    string `json:"accessor"` // of the token that asked
	EntityID    string `json:"entity_id"`
	DisplayName string `json:"display_name"`
	RequestID   string `json:"request_id"`

	// Problem is why the reaper could not remove the key, and RetryAt when it tries
	// again.
	Problem  string    `json:"problem,omitempty"`
	Failures int       `json:"failures,omitempty"`
	RetryAt  time.Time `json:"retry_at,omitzero"`

	// unrecorded marks what was made up from a lease, the ledger having no entry.
	unrecorded bool
}

func ledgerAccountPrefix(account string) string { return ledgerPrefix + account + "/" }

func ledgerIdentityPrefix(account, user string) string {
	return ledgerAccountPrefix(account) + identitySegment(user) + "/"
}

func identitySegment(user string) string {
	if user == "" {
		return ownIdentity
	}
	// Vault refuses storage paths with "..", and OUTSCALE allows dots in names.
	return strings.ReplaceAll(url.PathEscape(user), ".", "%2E")
}

func ledgerUsersPrefix(account string) string {
	return ledgerAccountPrefix(account) + usersIdentity + "/"
}

func ledgerPath(account, user, accessKey string) string {
	return ledgerIdentityPrefix(account, user) + accessKey
}

func (e *ledgerEntry) path() string {
	if e.Kind == keylabel.KindUser {
		return ledgerUsersPrefix(e.Account) + e.AccessKey
	}
	return ledgerPath(e.Account, e.User, e.AccessKey)
}

// leased tells keys of leases from the engine's own.
func (e *ledgerEntry) leased() bool {
	return e.Kind == keylabel.KindLease || e.Kind == keylabel.KindUser
}

// keySpec orders the key from the cloud.
func (e *ledgerEntry) keySpec() provider.KeySpec {
	return provider.KeySpec{User: e.User, Label: e.Label, Expires: e.Expires}
}

// ref names the key to the cloud.
func (e *ledgerEntry) ref() provider.KeyRef {
	return provider.KeyRef{AccountID: e.AccountID, User: e.User, ID: e.AccessKey, Label: e.Label, Expires: e.Expires, Made: e.Made}
}

// strike takes a key out of the ledger once the cloud is known to have lost it, and out
// of what is counted.
func (b *backend) strike(ctx context.Context, s logical.Storage, entry *ledgerEntry) error {
	if err := remove(ctx, s, entry.path()); err != nil {
		return err
	}
	b.due.struck(entry)
	b.revokedBefore.Delete(entry.AccessKey)
	b.active.drop(entry.Label)
	b.own.removed(entry)
	b.full.forget(entry.Account, entry.User)
	return nil
}

// countLeased counts those of them that are leased.
func countLeased(ctx context.Context, s logical.Storage, account, user string) (int, error) {
	prefix := ledgerIdentityPrefix(account, user)
	keys, err := s.List(ctx, prefix)
	if err != nil {
		return 0, fmt.Errorf("counting the ledger's keys of account %q: %w", account, err)
	}
	leased := 0
	for _, key := range keys {
		entry, err := load[ledgerEntry](ctx, s, prefix+key)
		if err != nil {
			return 0, err
		}
		if entry != nil && entry.Kind == keylabel.KindLease {
			leased++
		}
	}
	return leased, nil
}

// leasedKeys yields the entries of an account whose keys are leased.
func leasedKeys(ctx context.Context, s logical.Storage, account string) iter.Seq2[*ledgerEntry, error] {
	return func(yield func(*ledgerEntry, error) bool) {
		for path, err := range ledgerPaths(ctx, s, account) {
			var entry *ledgerEntry
			if err == nil {
				entry, err = load[ledgerEntry](ctx, s, path)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if entry != nil && entry.leased() && !yield(entry, nil) {
				return
			}
		}
	}
}

// usersKeys are the entries of an account whose users were made for one lease each.
func usersKeys(ctx context.Context, s logical.Storage, account string) ([]*ledgerEntry, error) {
	prefix := ledgerUsersPrefix(account)
	ids, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing the ledger of account %q: %w", account, err)
	}
	var entries []*ledgerEntry
	for _, id := range ids {
		entry, err := load[ledgerEntry](ctx, s, prefix+id)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// ledgerPaths yields the storage paths of an account's entries, identity by
// identity. The caller may delete the entries it gets.
func ledgerPaths(ctx context.Context, s logical.Storage, account string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		prefix := ledgerAccountPrefix(account)
		identities, err := s.List(ctx, prefix)
		if err != nil {
			yield("", fmt.Errorf("listing the ledger of account %q: %w", account, err))
			return
		}
		for _, identity := range identities {
			keys, err := s.List(ctx, prefix+identity)
			if err != nil {
				yield("", fmt.Errorf("listing the ledger of account %q: %w", account, err))
				return
			}
			for _, key := range keys {
				if !yield(prefix+identity+key, nil) {
					return
				}
			}
		}
	}
}

// identityPaths yields those of one user, or of the engine's own identity where it is
// empty. The users made for leases share one segment, so its entries are looked at.
func identityPaths(ctx context.Context, s logical.Storage, account, user string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		prefix := ledgerIdentityPrefix(account, user)
		keys, err := s.List(ctx, prefix)
		if err != nil {
			yield("", fmt.Errorf("listing the ledger of account %q: %w", account, err))
			return
		}
		for _, key := range keys {
			if !yield(prefix+key, nil) {
				return
			}
		}
		if user == "" {
			return
		}
		made, err := usersKeys(ctx, s, account)
		if err != nil {
			yield("", err)
			return
		}
		for _, entry := range made {
			if entry.User == user && !yield(entry.path(), nil) {
				return
			}
		}
	}
}
