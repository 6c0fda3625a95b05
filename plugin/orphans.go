// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// findOrphans returns the keys of an identity, nil where there is no such user, and those of them that
// carry this instance's label and that the ledger does not know. The order of looking decides:
//
//	cloud → ledger → cloud
//
// A key is in the ledger before it is in the cloud, so a key that is just being issued is
// found there. One that is just being revoked is gone from the cloud before it leaves the
// ledger, and one that is just being handed over has lost its label before: the second look
// at the cloud shows both.
func (b *backend) findOrphans(ctx context.Context, s logical.Storage, a *account, user string) (keys, orphans []provider.Key, err error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	keys, _, _, err = b.listCounted(ctx, a, user, instance)
	if provider.KindOf(err) == provider.KindNotFound {
		return nil, nil, nil // a user that is gone has no keys
	}
	if err != nil {
		return nil, nil, fmt.Errorf("account %q: looking for orphans of user %q: %w", a.name, user, err)
	}
	for _, key := range keys {
		if isOurs(key, instance) && !slices.Contains(a.config.ownKeys(), key.ID) {
			orphans = append(orphans, key)
		}
	}
	if orphans, err = b.unknownKeys(ctx, s, orphans); err != nil || len(orphans) == 0 {
		return keys, nil, err
	}
	still, err := a.cloud.ListKeys(ctx, user)
	if err != nil {
		return keys, nil, fmt.Errorf("account %q: looking again for orphans of user %q: %w", a.name, user, err)
	}
	orphans = slices.DeleteFunc(orphans, func(orphan provider.Key) bool {
		return !slices.ContainsFunc(still, func(key provider.Key) bool { return key.ID == orphan.ID && key.Label == orphan.Label })
	})
	return keys, orphans, nil
}

// unknownKeys are the keys that stand nowhere in the ledger, under whichever account, and in no
// configuration: several accounts can be configured for one cloud account. A label that the ledger has of
// another key was copied. So is a key unknown that was given up with its static role, or with its account: nothing names it.
func (b *backend) unknownKeys(ctx context.Context, s logical.Storage, keys []provider.Key) ([]provider.Key, error) {
	labels := make([]string, len(keys))
	for i, key := range keys {
		labels[i] = key.Label
	}
	known, err := b.knownLabels(ctx, s, labels)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(key provider.Key) bool { return b.isKnown(ctx, s, key, known[key.Label]) })
	if len(keys) == 0 {
		return nil, nil
	}
	configured, err := b.configuredKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(keys, func(key provider.Key) bool { return configured[key.ID] }), nil
}

// isKnown tells whether the ledger has a key: by its id, since its holder may have written another label on
// it, or by its label, unless that is another key's.
func (b *backend) isKnown(ctx context.Context, s logical.Storage, key provider.Key, labelled bool) bool {
	if item, byID := b.ledger.Find(key.ID); byID {
		if item.Leased() {
			return true
		}
		e, err := ledger.Read(ctx, s, item.Account, item.Label)
		if err != nil || e == nil {
			return true
		}
		abandoned, err := b.isAbandoned(ctx, s, e)
		return err != nil || !abandoned
	}
	another := false
	for _, item := range b.ledger.Select("", func(item *ledger.Item) bool { return item.Label == key.Label && !item.Unfinished() }) {
		e, err := ledger.Read(ctx, s, item.Account, item.Label)
		another = another || err == nil && e != nil && e.State == ledger.Made && e.AccessKey != "" && e.AccessKey != key.ID
	}
	return labelled && !another
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

func (b *backend) removeOrphan(ctx context.Context, s logical.Storage, a *account, orphan provider.Key) error {
	if err := a.cloud.RevokeKey(ctx, orphan.Ref(a.config.AccountID)); err != nil {
		return fmt.Errorf("account %q: removing the orphan %s: %w", a.name, orphan.ID, err)
	}
	if item, abandoned := b.ledger.Find(orphan.ID); abandoned {
		if err := b.ledger.Remove(ctx, s, item.Account, item.Label); err != nil {
			return err
		}
	}
	b.slots.forget(a.name, orphan.User)
	b.slots.unlearn(a.name, orphan.User) // it was counted among the keys of others
	b.Logger().Warn("removed an access key of this mount that neither lease nor ledger knew",
		"account", a.name, "user", orphan.User, "access_key", orphan.ID)
	return nil
}

// identities are those that keys of this engine can stand on: the users of the
// account's roles, those in the ledger, the engine's own, now and of its abandoned keys, and for usersIdentity all users
// made for a lease. Of these the keys of those that last longest are looked at as well.
func (b *backend) identities(ctx context.Context, s logical.Storage, account string) ([]string, error) {
	users := []string{"", usersIdentity}
	roles, err := b.leaseRoles(ctx, s, account)
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		users = append(users, role.UserNames...)
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
		if item.Kind != keylabel.KindRoot {
			continue
		}
		e, err := ledger.Read(ctx, s, account, item.Label)
		if err == nil && e != nil && e.Abandoned { // the engine may have been another user then
			users = append(users, e.Identity.User)
		}
	}
	soon := time.Now().Add(time.Hour)
	leased := b.ledger.Select(account, func(item *ledger.Item) bool { return item.Kind == keylabel.KindUser && item.Expires.After(soon) })
	slices.SortFunc(leased, func(x, y ledger.Item) int { return y.Expires.Compare(x.Expires) })
	for _, item := range leased[:min(len(leased), maxLeasedUsers)] {
		users = append(users, item.User)
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// maxLeasedUsers bounds how many users that were made for leases a comparison looks at: each takes a call.
const maxLeasedUsers = 1000

// usersIdentity stands for all users that were made for one lease each; no user has this name.
const usersIdentity = "%users"

// findOrphanUsers returns the users that carry this instance's label and that the ledger does
// not know. The order of looking is that of findOrphans. A user that is just being removed is found gone by the removal.
func (b *backend) findOrphanUsers(ctx context.Context, s logical.Storage, a *account) ([]provider.User, error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, err
	}
	ours, err := labelledUsers(ctx, a, func(label keylabel.Label) bool { return label.Instance == instance })
	if provider.KindOf(err) == provider.KindDenied {
		return nil, nil // a key that may not list users can make no leases of users either
	}
	if err != nil {
		return nil, fmt.Errorf("account %q: looking for orphaned users: %w", a.name, err)
	}
	if len(ours) == 0 { // as in most accounts: storage need not be asked
		return nil, nil
	}
	labels := make([]string, len(ours))
	for i, user := range ours {
		labels[i] = user.Label
	}
	known, err := b.knownLabels(ctx, s, labels)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ours, func(user provider.User) bool { return known[user.Label] }), nil
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
