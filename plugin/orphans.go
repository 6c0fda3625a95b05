// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// reconcilePrefix is where each account's next reconciliation stands, in local
	// storage.
	reconcilePrefix = "reconcile/"

	// reconcilePeriod is how often the cloud is compared with the ledger. What it finds
	// should not exist: it is the net below the WAL and the reaper.
	reconcilePeriod = 24 * time.Hour
)

// reconcileState is an account's progress. A round that does not fit into a tick is
// taken up by the next.
type reconcileState struct {
	Next time.Time `json:"next"`           // when the next round begins, or goes on
	Left []string  `json:"left,omitempty"` // identities of this round still to be looked at
}

// reconcileIfDue looks for orphans once a day. The first round is put at a random time
// of the day, so that the mounts of a fleet do not call the cloud together.
func (b *backend) reconcileIfDue(ctx context.Context, s logical.Storage, a *account) error {
	if time.Now().Before(a.next.reconcile) {
		return nil
	}
	state, err := load[reconcileState](ctx, s, reconcilePrefix+a.name)
	if err != nil {
		return err
	}
	now := time.Now()
	if state == nil {
		return save(ctx, s, reconcilePrefix+a.name, &reconcileState{Next: now.Add(rand.N(reconcilePeriod))})
	}
	if a.next.reconcile = state.Next; now.Before(state.Next) {
		return nil
	}
	if len(state.Left) == 0 {
		if state.Left, err = b.identities(ctx, s, a.name); err != nil {
			return err
		}
	}
	var problems []error
	for len(state.Left) > 0 && ctx.Err() == nil {
		if err := b.reconcileIdentity(ctx, s, a, state.Left[0]); err != nil && ctx.Err() == nil {
			problems = append(problems, err)
		} else if err != nil {
			break // the tick is over in the middle of this identity
		}
		state.Left = state.Left[1:]
	}
	if len(state.Left) == 0 {
		state.Next = now.Add(reconcilePeriod)
	}
	return errors.Join(append(problems, save(context.WithoutCancel(ctx), s, reconcilePrefix+a.name, state))...)
}

func (b *backend) reconcileIdentity(ctx context.Context, s logical.Storage, a *account, identity string) (err error) {
	if identity == usersIdentity {
		_, err = b.reconcileUsers(ctx, s, a)
		return err
	}
	_, err = b.reconcile(ctx, s, a, identity)
	return err
}

// reconcile deletes the orphans of an identity and returns what it has deleted.
func (b *backend) reconcile(ctx context.Context, s logical.Storage, a *account, user string) (removed []string, err error) {
	orphans, _, err := b.findOrphans(ctx, s, a, user)
	if err != nil {
		return nil, err
	}
	for _, orphan := range orphans {
		if err := b.removeOrphan(ctx, a, orphan); err != nil {
			return removed, err
		}
		removed = append(removed, orphan.ID)
	}
	return removed, nil
}

// findOrphans returns the keys of an identity that carry this instance's label and that
// neither WAL nor ledger know, and how many keys it looked at. The order of looking
// decides:
//
//	cloud → WAL → ledger → cloud
//
// A key is in the WAL before it is in the cloud, and in the ledger before it leaves the
// WAL, so a key that is just being issued is found in one of them. One that is just
// being revoked is gone from the cloud before it leaves the ledger, and one that is just
// being handed over has lost its label before: the second look at the cloud shows both.
func (b *backend) findOrphans(ctx context.Context, s logical.Storage, a *account, user string) (orphans []provider.Key, looked int, err error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	keys, err := a.cloud.ListKeys(ctx, user)
	if provider.KindOf(err) == provider.KindNotFound {
		return nil, 0, nil // a user that is gone has no keys
	}
	if err != nil {
		return nil, 0, fmt.Errorf("account %q: looking for orphans of user %q: %w", a.name, user, err)
	}
	b.countListed(a.name, user, keys, instance)
	pending, err := pendingLabels(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	for _, key := range keys {
		if !isOurs(key, instance) || pending[key.Label] || slices.Contains(a.config.ownKeys(), key.ID) {
			continue
		}
		entry, err := load[ledgerEntry](ctx, s, ledgerPath(a.name, user, key.ID))
		if err != nil {
			return nil, 0, err
		}
		if entry == nil {
			orphans = append(orphans, key)
		}
	}
	if len(orphans) == 0 {
		return nil, len(keys), nil
	}
	if orphans, err = b.strangers(ctx, s, orphans); err != nil {
		return nil, 0, err
	}
	still, err := a.cloud.ListKeys(ctx, user)
	if err != nil {
		return nil, len(keys), fmt.Errorf("account %q: looking again for orphans of user %q: %w", a.name, user, err)
	}
	orphans = slices.DeleteFunc(orphans, func(orphan provider.Key) bool {
		return !slices.ContainsFunc(still, func(key provider.Key) bool { return key.ID == orphan.ID && key.Label == orphan.Label })
	})
	return orphans, len(keys), nil
}

// strangers are the keys that stand nowhere in the ledger and in no configuration. One
// identity can have several names there: that of another account which is configured for
// the same cloud account, or of the user whose the engine's own key is. A configuration
// names a key that its ledger lacks where a crash came between the two.
func (b *backend) strangers(ctx context.Context, s logical.Storage, keys []provider.Key) ([]provider.Key, error) {
	paths, err := allLedgerPaths(ctx, s)
	if err != nil {
		return nil, err
	}
	known, err := b.configuredKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		known[path.Base(p)] = true
	}
	return slices.DeleteFunc(keys, func(key provider.Key) bool { return known[key.ID] }), nil
}

func (b *backend) removeOrphan(ctx context.Context, a *account, orphan provider.Key) error {
	if err := a.cloud.RevokeKey(ctx, orphan.Ref(a.config.AccountID)); err != nil {
		return fmt.Errorf("account %q: removing the orphan %s: %w", a.name, orphan.ID, err)
	}
	b.full.forget(a.name, orphan.User)
	b.Logger().Warn("removed an access key of this mount that no lease, ledger or WAL entry knew",
		"account", a.name, "user", orphan.User, "access_key", orphan.ID)
	return nil
}

// identities are those that keys of this engine can stand on: the users of the
// account's roles, those in the ledger, the engine's own, and for usersIdentity all users
// made for a lease.
func (b *backend) identities(ctx context.Context, s logical.Storage, account string) ([]string, error) {
	users := []string{"", usersIdentity}
	names, err := s.List(ctx, rolePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing roles: %w", err)
	}
	for _, name := range names {
		role, err := load[roleEntry](ctx, s, rolePrefix+name)
		if err != nil {
			return nil, err
		}
		if role != nil && role.Account == account {
			users = append(users, role.UserNames...)
		}
	}
	static, err := staticRolesOf(ctx, s, account)
	if err != nil {
		return nil, err
	}
	for _, role := range static {
		users = append(users, role.UserName)
	}
	segments, err := s.List(ctx, ledgerAccountPrefix(account))
	if err != nil {
		return nil, fmt.Errorf("listing the ledger of account %q: %w", account, err)
	}
	for _, segment := range segments {
		if segment = path.Clean(segment); segment != ownIdentity && segment != usersIdentity {
			user, err := url.PathUnescape(segment)
			if err != nil {
				return nil, fmt.Errorf("the ledger of account %q has an identity %q that cannot be read: %w", account, segment, err)
			}
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// pendingLabels are the labels in the WAL.
func pendingLabels(ctx context.Context, s logical.Storage) (map[string]bool, error) {
	entries, err := pendingKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	labels := make(map[string]bool, len(entries))
	for _, pending := range entries {
		labels[pending.Label] = true
	}
	return labels, nil
}

// reconcileUsers removes the orphaned users of an account and returns their names.
func (b *backend) reconcileUsers(ctx context.Context, s logical.Storage, a *account) (removed []string, err error) {
	orphans, _, err := b.findOrphanUsers(ctx, s, a)
	if err != nil {
		return nil, err
	}
	for _, orphan := range orphans {
		if err := b.removeOrphanUser(ctx, a, orphan); err != nil {
			return removed, err
		}
		removed = append(removed, orphan.Name)
	}
	return removed, nil
}

// findOrphanUsers returns the users that carry this instance's label and that neither WAL
// nor ledger know, and how many of ours it looked at. The order of looking is that of
// findOrphans. A user that is just being removed is found gone by the removal.
func (b *backend) findOrphanUsers(ctx context.Context, s logical.Storage, a *account) (orphans []provider.User, looked int, err error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	ours, err := labelledUsers(ctx, a, func(label keylabel.Label) bool { return label.Instance == instance })
	if provider.KindOf(err) == provider.KindDenied {
		return nil, 0, nil // a key that may not list users can make no leases of users either
	}
	if err != nil {
		return nil, 0, fmt.Errorf("account %q: looking for orphaned users: %w", a.name, err)
	}
	if len(ours) == 0 {
		return nil, 0, nil
	}
	known, err := pendingLabels(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	if err := labelsInLedger(ctx, s, known); err != nil {
		return nil, 0, err
	}
	for _, user := range ours {
		if !known[user.Label] {
			orphans = append(orphans, user)
		}
	}
	return orphans, len(ours), nil
}

func (b *backend) removeOrphanUser(ctx context.Context, a *account, user provider.User) error {
	ref := provider.UserRef{AccountID: a.config.AccountID, ID: user.ID, Name: user.Name, Label: user.Label}
	if err := a.cloud.RemoveUser(ctx, ref); err != nil {
		return fmt.Errorf("account %q: removing the orphan: %w", a.name, err)
	}
	b.Logger().Warn("removed a user of this mount that no lease, ledger or WAL entry knew", "account", a.name, "user", user.Name)
	return nil
}

// labelsInLedger adds the labels of all users that the ledger knows, under every account:
// two can be configured for one cloud account.
func labelsInLedger(ctx context.Context, s logical.Storage, labels map[string]bool) error {
	accounts, err := s.List(ctx, ledgerPrefix)
	if err != nil {
		return fmt.Errorf("listing the ledger: %w", err)
	}
	for _, account := range accounts {
		entries, err := usersKeys(ctx, s, path.Clean(account))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			labels[entry.Label] = true
		}
	}
	return nil
}

// labelledUsers are the account's users with a label that is wanted.
func labelledUsers(ctx context.Context, a *account, wanted func(keylabel.Label) bool) ([]provider.User, error) {
	var users []provider.User
	for user, err := range a.cloud.ListUsers(ctx) {
		if err != nil {
			return nil, err
		}
		label, err := keylabel.Parse(user.Label)
		if err == nil && label.Kind == keylabel.KindUser && wanted(label) {
			users = append(users, user)
		}
	}
	return users, nil
}
