// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"path"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

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
