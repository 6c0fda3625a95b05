// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// reconcileUsers removes the users that carry this instance's label and that neither WAL
// nor ledger know, in the same order of looking as reconcile. It returns their names.
func (b *backend) reconcileUsers(ctx context.Context, s logical.Storage, a *account) (removed []string, err error) {
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
	if len(ours) == 0 {
		return nil, nil
	}
	known, err := pendingLabels(ctx, s)
	if err != nil {
		return nil, err
	}
	entries, err := usersKeys(ctx, s, a.name)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		known[entry.Label] = true
	}
	for _, user := range ours {
		if known[user.Label] {
			continue
		}
		ref := provider.UserRef{AccountID: a.config.AccountID, ID: user.ID, Name: user.Name, Label: user.Label}
		if err := a.cloud.RemoveUser(ctx, ref); err != nil {
			return removed, fmt.Errorf("account %q: removing the orphan: %w", a.name, err)
		}
		b.Logger().Warn("removed a user of this mount that no lease, ledger or WAL entry knew", "account", a.name, "user", user.Name)
		removed = append(removed, user.Name)
	}
	return removed, nil
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
