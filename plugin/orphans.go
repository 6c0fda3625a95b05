// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// reconcilePrefix is where each account's next reconciliation stands, in local
	// storage.
	reconcilePrefix = "reconcile/"

	// reconcilePeriod is how often the cloud is compared with the ledger. What it finds
	// should not exist: it is the net below the rollback and the reaper.
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
	if lifetime.Waits(a.next.reconcile, time.Now(), reconcilePeriod) {
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
	if a.next.reconcile = state.Next; lifetime.Waits(state.Next, now, reconcilePeriod) {
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
// the ledger does not know, and how many keys it looked at. The order of looking decides:
//
//	cloud → ledger → cloud
//
// A key is in the ledger before it is in the cloud, so a key that is just being issued is
// found there. One that is just being revoked is gone from the cloud before it leaves the
// ledger, and one that is just being handed over has lost its label before: the second look
// at the cloud shows both.
func (b *backend) findOrphans(
	ctx context.Context,
	s logical.Storage,
	a *account,
	user string,
) (orphans []provider.Key, looked int, err error) {
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
	for _, key := range keys {
		if isOurs(key, instance) && !slices.Contains(a.config.ownKeys(), key.ID) {
			orphans = append(orphans, key)
		}
	}
	if orphans, err = b.unknownKeys(ctx, s, orphans); err != nil || len(orphans) == 0 {
		return nil, len(keys), err
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

// unknownKeys are the keys that stand nowhere in the ledger, under whichever account, and in no
// configuration: several accounts can be configured for one cloud account.
func (b *backend) unknownKeys(ctx context.Context, s logical.Storage, keys []provider.Key) ([]provider.Key, error) {
	labels := make([]string, len(keys))
	for i, key := range keys {
		labels[i] = key.Label
	}
	known, err := b.knownLabels(ctx, s, labels)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(key provider.Key) bool {
		_, byID := b.ledger.Find(key.ID) // its holder may have written another label on it
		return known[key.Label] || byID
	})
	if len(keys) == 0 {
		return nil, nil
	}
	configured, err := b.configuredKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(keys, func(key provider.Key) bool { return configured[key.ID] }), nil
}

// knownLabels tells which labels are in the ledger. What is to be called an orphan must be missing
// from the index of every account, whole, and from storage: an entry that cannot be read is known.
func (b *backend) knownLabels(ctx context.Context, s logical.Storage, labels []string) (map[string]bool, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	if err := b.ledger.LoadLabels(ctx, s); err != nil {
		return nil, err
	}
	known, missing := map[string]bool{}, []string(nil)
	for _, label := range labels {
		if known[label] = b.ledger.Has(label); !known[label] {
			missing = append(missing, label)
		}
	}
	stored, err := ledger.Known(ctx, s, missing)
	if err != nil {
		return nil, err
	}
	maps.Copy(known, stored)
	return known, nil
}

func (b *backend) removeOrphan(ctx context.Context, a *account, orphan provider.Key) error {
	if err := a.cloud.RevokeKey(ctx, orphan.Ref(a.config.AccountID)); err != nil {
		return fmt.Errorf("account %q: removing the orphan %s: %w", a.name, orphan.ID, err)
	}
	b.full.forget(a.name, orphan.User)
	b.Logger().Warn("removed an access key of this mount that neither lease nor ledger knew",
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
	if err := b.ledger.Load(ctx, s, account); err != nil {
		return nil, err
	}
	for _, item := range b.ledger.Select(account, func(item *ledger.Item) bool { return item.Kind != keylabel.KindUser }) {
		users = append(users, item.User)
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// usersIdentity stands for all users that were made for one lease each; no user has this name.
const usersIdentity = "%users"

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

// findOrphanUsers returns the users that carry this instance's label and that the ledger does
// not know, and how many of ours it looked at. The order of looking is that of
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
	labels := make([]string, len(ours))
	for i, user := range ours {
		labels[i] = user.Label
	}
	known, err := b.knownLabels(ctx, s, labels)
	if err != nil {
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
	b.Logger().Warn("removed a user of this mount that neither lease nor ledger knew", "account", a.name, "user", user.Name)
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
