// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// errNameTaken is a user of somebody else's that has the name which a new one was to get.
var errNameTaken = errors.New("the cloud account has a user of that name already, which this mount leaves alone")

// issueWithUser makes a user for this lease alone, and its key.
func (b *backend) issueWithUser(ctx context.Context, i issuance, role *roleEntry, plan func() (lifetime.IssuePlan, error)) (recordedKey, lifetime.IssuePlan, error) {
	key, p, err := b.tryTwice(ctx, i, plan, func(p lifetime.IssuePlan) (recordedKey, error) {
		return b.makeUserKey(ctx, i, role, p)
	})
	if err != nil {
		return recordedKey{}, lifetime.IssuePlan{}, explainUser(i, err)
	}
	return key, p, nil
}

// makeUserKey makes a user with one access key for a lease:
//
//	(1) entry, begun {account, account id, user name, label}
//	    → crash: no user carries the label. The entry goes once no create can be under way
//	(2) create the user, its label in its path
//	    → crash: the next tick finds the user by its label and removes it
//	(3) policies, inline policy and groups, at the same time
//	    → crash: the same; what hangs on the user goes with it
//	(4) create the key, with label and date
//	    → crash: the same; the key is the first to go
//	(5) entry, made {access key, user id}
//	    → crash: no lease knows the key, the ledger does: at its date the reaper removes it and
//	      the user
//	(6) answer
//
// The key comes after the rights, so that its holder never meets a user without them
// (OUTSCALE may take 15 seconds more to apply them). A failure after (1) removes the user
// at once; if that fails too, the next tick tries again.
func (b *backend) makeUserKey(ctx context.Context, i issuance, role *roleEntry, plan lifetime.IssuePlan) (recordedKey, error) {
	name, err := makeUsername(i.account.kind, i.account.config.usernameTemplate(), usernameData{RoleName: i.roleName, DisplayName: i.req.DisplayName})
	if err != nil {
		return recordedKey{}, err
	}
	key, err := b.beginKey(ctx, i, keyOrder{kind: keylabel.KindUser, user: name, issued: plan.Issued, expires: plan.Expiry})
	if err != nil {
		return recordedKey{}, err
	}
	defer b.ledger.Abandon(key.entry.Account, key.entry.Label)
	user, err := i.account.cloud.CreateUser(ctx, provider.UserSpec{
		Name: name, Path: cmp.Or(role.UserPath, defaultUserPath), Label: key.entry.Label,
	})
	if provider.KindOf(err) == provider.KindConflict {
		err = fmt.Errorf("user %s: %w: %w", name, errNameTaken, err)
	}
	if err != nil {
		return recordedKey{}, b.undo(ctx, i, key.entry, err)
	}
	key.entry.UserID, key.entry.Certain = user.ID, true
	if err = i.account.cloud.GrantUser(ctx, user, role.rights()); err == nil {
		err = b.createKey(ctx, i, &key)
	}
	if err == nil {
		err = b.finishKey(ctx, i, key)
	}
	if err != nil {
		return recordedKey{}, b.undo(ctx, i, key.entry, err)
	}
	return key, nil
}

// explainUser says what can be done about an issue that failed.
func explainUser(i issuance, err error) error {
	if errors.Is(err, errNameTaken) {
		return userError("role %q cannot get a user: both names that the account's username_template made are taken. Give it more randomness (%s)", i.roleName, err)
	}
	switch provider.KindOf(err) {
	case provider.KindNotFound:
		return userError("role %q cannot get a user: something that the role names does not exist. Create it in the cloud account, or take it out of the role (%s)",
			i.roleName, err)
	case provider.KindQuota:
		return userError("role %q cannot get a user: the cloud account has no room for one more user, or the user none for what the role gives it (%s)", i.roleName, err)
	case provider.KindConflict:
		return userError("role %q cannot get a user: the cloud refuses what the role gives it (%s)", i.roleName, err)
	default:
		return explain(i.account.name, err)
	}
}
