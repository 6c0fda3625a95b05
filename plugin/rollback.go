// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Kinds of WAL entries.
const (
	walAccessKey = "access_key" // written before an access key is made
	walIAMUser   = "iam_user"   // written before a user and its key are made
)

// pendingKey is what finds a key whose request did not end, and the user made for it:
// its label, on one identity of one cloud account.
type pendingKey struct {
	Account   string `json:"account"`
	AccountID string `json:"account_id"`
	User      string `json:"user"`
	Role      string `json:"role"`
	Label     string `json:"label"`

	StaticRole string `json:"static_role,omitempty"` // whose key it is; empty: none
}

// pending is the WAL entry of a key that is to be made.
func (e *ledgerEntry) pending() pendingKey {
	pending := pendingKey{Account: e.Account, AccountID: e.AccountID, User: e.User, Label: e.Label}
	if e.Kind == keylabel.KindStatic {
		pending.StaticRole = e.Role
	} else {
		pending.Role = e.Role
	}
	return pending
}

// kind is what the key is for; empty where the label cannot be read.
func (p pendingKey) kind() keylabel.Kind {
	label, err := keylabel.Parse(p.Label)
	if err != nil {
		return ""
	}
	return label.Kind
}

func (p pendingKey) walKind() string {
	if p.kind() == keylabel.KindUser {
		return walIAMUser
	}
	return walAccessKey
}

// rollback ends what an unfinished request left in the cloud. An error keeps the
// entry for the next tick.
func (b *backend) rollback(ctx context.Context, req *logical.Request, kind string, data any) error {
	if kind != walAccessKey && kind != walIAMUser {
		return fmt.Errorf("unknown kind of WAL entry %q: it was written by a newer version of the plugin", kind)
	}
	var pending pendingKey
	if err := decodeWAL(data, &pending); err != nil {
		return err
	}
	ctx, cancel, err := b.restOfTick(ctx)
	if err == nil && b.hung.passes(pending.Label) {
		cancel()
		err = errors.New("left to a later tick, since the cloud did not answer in time")
	}
	if err != nil {
		return fmt.Errorf("cleaning up a key of account %q: %w", pending.Account, err)
	}
	defer cancel()

	if pending.kind() == keylabel.KindRoot {
		b.forgetAccount(pending.Account) // whether a rotation got as far as storing its key is in storage
	}
	a, err := b.identified(ctx, req.Storage, pending.Account)
	if err != nil {
		return err
	}
	if a.config.AccountID != pending.AccountID {
		return fmt.Errorf("account %q is now cloud account %s, and the key to be cleaned up is in %s", pending.Account, a.config.AccountID, pending.AccountID)
	}
	looked := a.searches.count(pending.Label)
	removed, err := b.rollbackLabelled(ctx, req.Storage, a, pending)
	if err != nil {
		b.noteHung(ctx, pending, a.searches.count(pending.Label) > looked)
		return err
	}
	b.hung.forget(pending.Label)
	b.active.rolledBack(pending.Label)
	b.full.forget(pending.Account, pending.User)
	b.own.forget(pending.Account, pending.User)
	if removed > 0 {
		b.Logger().Info("removed what an unfinished request had made", "account", pending.Account, "user", pending.User)
	}
	return nil
}

// noteHung has an entry that has used its time up let others go first. A search that came
// further does not hang: it goes on soon, however many ticks it takes.
func (b *backend) noteHung(ctx context.Context, pending pendingKey, cameFurther bool) {
	if timeLeft(ctx) > time.Second { // the pacer does not wait for a turn that comes too late
		return
	}
	if cameFurther {
		b.hung.forget(pending.Label)
	}
	b.hung.note(pending.Label)
}

// rollbackLabelled removes what carries the entry's label. A static role is held meanwhile:
// its key may be handed over between the look at the cloud, where it still has the label, and
// the look at storage, where nothing names it any more.
func (b *backend) rollbackLabelled(ctx context.Context, s logical.Storage, a *account, pending pendingKey) (removed int, err error) {
	if pending.StaticRole != "" {
		unlock, err := b.lock(ctx, staticRolePrefix+pending.StaticRole)
		if err != nil {
			return 0, err
		}
		defer unlock()
	}
	return removeLabelled(ctx, s, a, pending)
}

// removeLabelled removes the key or the user that carries exactly this label, with the
// ledger entry. The lists are searched here: whether the cloud's own Tag filter compares
// exactly is not documented.
func removeLabelled(ctx context.Context, s logical.Storage, a *account, pending pendingKey) (removed int, err error) {
	if pending.kind() == keylabel.KindUser {
		return removeLabelledUsers(ctx, s, a, pending)
	}
	return removeLabelledKeys(ctx, s, a, pending)
}

func removeLabelledUsers(ctx context.Context, s logical.Storage, a *account, pending pendingKey) (removed int, err error) {
	users, err := labelledUsers(ctx, a, func(label keylabel.Label) bool { return label.String() == pending.Label })
	if err != nil {
		return 0, fmt.Errorf("looking for a user to clean up: %w", err)
	}
	for _, user := range users {
		ref := provider.UserRef{AccountID: pending.AccountID, ID: user.ID, Name: user.Name, Label: user.Label}
		if err := a.cloud.RemoveUser(ctx, ref); err != nil {
			return removed, fmt.Errorf("removing the user of an unfinished request: %w", err)
		}
		removed++
	}
	if removed == 0 {
		return 0, nil // where the ledger knows more, the reaper looks again at the key's date
	}
	entries, err := usersKeys(ctx, s, pending.Account)
	if err != nil {
		return removed, err
	}
	for _, entry := range entries {
		if entry.Label != pending.Label {
			continue
		}
		if err := remove(ctx, s, entry.path()); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

func removeLabelledKeys(ctx context.Context, s logical.Storage, a *account, pending pendingKey) (removed int, err error) {
	defer func() {
		if err == nil {
			a.searches.end(pending.Label)
		}
	}()
	owner := pending.User // by its name of today: the ledger knows the former one
	keys, err := a.cloud.ListKeys(ctx, owner)
	if provider.KindOf(err) == provider.KindNotFound && owner != "" {
		owner, keys, err = userRenamed(ctx, a, pending, err) // no keys where the user is gone: the ledger may still have one
	}
	if err != nil {
		return 0, fmt.Errorf("looking for a key to clean up: %w", err)
	}
	inUse, err := keysInUse(ctx, s, a, pending)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if key.Label != pending.Label || slices.Contains(inUse, key.ID) {
			continue
		}
		ref := provider.KeyRef{AccountID: pending.AccountID, User: owner, ID: key.ID, Label: key.Label, Expires: key.End()}
		if err := a.cloud.RevokeKey(ctx, ref); err != nil {
			return removed, fmt.Errorf("deleting access key %s of an unfinished request: %w", key.ID, err)
		}
		if err := remove(ctx, s, ledgerPath(pending.Account, pending.User, key.ID)); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, removeRecorded(ctx, s, a, pending, inUse)
}

// removeRecorded removes what the ledger alone still knows of an unfinished request: its
// key was deleted at once, and storage failed. The reaper would never look at the key of a
// rotation.
func removeRecorded(ctx context.Context, s logical.Storage, a *account, pending pendingKey, inUse []string) error {
	prefix := ledgerIdentityPrefix(pending.Account, pending.User)
	ids, err := s.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("listing the ledger of account %q: %w", pending.Account, err)
	}
	for _, id := range ids {
		entry, err := load[ledgerEntry](ctx, s, prefix+id)
		if err != nil {
			return err
		}
		if entry == nil || entry.Label != pending.Label || slices.Contains(inUse, id) {
			continue
		}
		if err := a.destroy(ctx, entry); err != nil {
			return fmt.Errorf("deleting access key %s of an unfinished request: %w", id, err)
		}
		if err := remove(ctx, s, entry.path()); err != nil {
			return err
		}
	}
	return nil
}

// keysInUse are those that storage names by now: a rotation that has stored its key did
// all that matters.
func keysInUse(ctx context.Context, s logical.Storage, a *account, pending pendingKey) ([]string, error) {
	ids := a.config.ownKeys()
	if pending.StaticRole == "" {
		return ids, nil
	}
	role, err := load[staticRole](ctx, s, staticRolePrefix+pending.StaticRole)
	if err != nil || role == nil {
		return ids, err // what a role that is gone has left in storage names nothing
	}
	creds, err := load[staticCreds](ctx, s, staticCredsPrefix+pending.StaticRole)
	if err != nil || creds == nil {
		return ids, err
	}
	return append(ids, creds.ids()...), nil
}

// pendingKeys are the keys in the WAL, of all accounts, and the first keys.
func pendingKeys(ctx context.Context, s logical.Storage) ([]pendingKey, error) {
	ids, err := framework.ListWAL(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("listing the WAL: %w", err)
	}
	var keys []pendingKey
	for _, id := range ids {
		entry, err := framework.GetWAL(ctx, s, id)
		if err != nil {
			return nil, fmt.Errorf("reading the WAL: %w", err)
		}
		if entry == nil || (entry.Kind != walAccessKey && entry.Kind != walIAMUser) {
			continue
		}
		var pending pendingKey
		if err := decodeWAL(entry.Data, &pending); err != nil {
			continue // it names no key, its rollback fails and tidy shows it: it must not hold up the others
		}
		keys = append(keys, pending)
	}
	first, err := firstKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, key := range first {
		keys = append(keys, key.pending())
	}
	return keys, nil
}

// decodeWAL reads an entry's data, which comes back from storage as generic JSON.
func decodeWAL(data, into any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("reading a WAL entry: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("reading a WAL entry: %w", err)
	}
	return nil
}

// searches remember which users were looked at for the key of a label: an account can have
// more of them than one tick has time for.
type searches struct {
	mu     sync.Mutex // never held while waiting
	looked map[string]map[string]bool
}

// begin makes sure, once a search, that the account that is asked is the key's.
func (s *searches) begin(ctx context.Context, a *account, pending pendingKey, cause error) error {
	if s.has(pending.Label, "") {
		return nil
	}
	account, err := a.cloud.AccountID(ctx)
	if err != nil {
		return err
	}
	if account != pending.AccountID {
		return fmt.Errorf("the configured key is of another account (%s): %w", account, cause)
	}
	s.add(pending.Label, "")
	return nil
}

func (s *searches) has(label, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looked[label][user]
}

func (s *searches) add(label, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked == nil {
		s.looked = map[string]map[string]bool{}
	}
	if s.looked[label] == nil {
		s.looked[label] = map[string]bool{}
	}
	s.looked[label][user] = true
}

// count grows as a search comes further.
func (s *searches) count(label string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.looked[label])
}

func (s *searches) end(label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.looked, label)
}

// userRenamed finds the key of a user that is not there under its name, since the user may
// have been renamed after the key was made: it looks at the users of the account one by one.
// No keys: the user is gone, and the key with it, as far as the right account says so.
func userRenamed(ctx context.Context, a *account, pending pendingKey, cause error) (name string, keys []provider.Key, err error) {
	if err := a.searches.begin(ctx, a, pending, cause); err != nil {
		return "", nil, err
	}
	names, err := otherUsers(ctx, a, pending.User)
	if provider.KindOf(err) == provider.KindDenied {
		return "", nil, nil // the engine's key may not list users, which roles of keys alone do not need
	}
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		if a.searches.has(pending.Label, name) {
			continue
		}
		keys, err := a.cloud.ListKeys(ctx, name)
		if err != nil && provider.KindOf(err) != provider.KindNotFound { // gone meanwhile
			return "", nil, err
		}
		if slices.ContainsFunc(keys, func(key provider.Key) bool { return key.Label == pending.Label }) {
			return name, keys, nil
		}
		a.searches.add(pending.Label, name)
	}
	return "", nil, nil
}

// otherUsers names the account's users, where its whole list lacks one that was not found.
// "Not found" alone is not believed: parts of a cloud may say so of a user that is there.
func otherUsers(ctx context.Context, a *account, missing string) (names []string, err error) {
	for user, err := range a.cloud.ListUsers(ctx) {
		if err != nil {
			return nil, fmt.Errorf("whether user %q is gone cannot be confirmed: %w", missing, err)
		}
		if user.Name == missing {
			return nil, fmt.Errorf("user %q was not found a moment ago, and is listed now", missing)
		}
		names = append(names, user.Name)
	}
	return names, nil
}
