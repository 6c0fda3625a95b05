// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

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

// makeUserKey makes a user with one access key for a lease, and records both, so that
// neither is ever lost:
//
//	(1) WAL entry {account, account id, user name, label}
//	    → crash: the rollback finds no user and drops the entry
//	(2) create the user, its label in its path
//	    → crash: the rollback finds the user by its label and removes it
//	(3) policies, inline policy and groups, at the same time
//	    → crash: the same; what hangs on the user goes with it
//	(4) create the key, with label and date
//	    → crash: the same; the key is the first to go
//	(5) ledger entry
//	    → crash: the rollback removes user, key and ledger entry; nobody got an answer
//	(6) delete the WAL entry
//	    → crash: no lease knows the key, the ledger does: at its date the reaper removes
//	      it and the user
//	(7) answer
//
// The key comes after the rights, so that its holder never meets a user without them
// (OUTSCALE may take 15 seconds more to apply them). A failure after (2) removes the user
// at once; if that fails too, the WAL entry stays and the rollback tries again.
func (b *backend) makeUserKey(ctx context.Context, i issuance, role *roleEntry, plan lifetime.IssuePlan) (recordedKey, error) {
	name, err := makeUsername(i.account.kind, i.account.config.usernameTemplate(), usernameData{RoleName: i.roleName, DisplayName: i.req.DisplayName})
	if err != nil {
		return recordedKey{}, err
	}
	key, err := b.beginKey(ctx, i, keyOrder{kind: keylabel.KindUser, user: name, issued: plan.Issued, expires: plan.Expiry})
	if err != nil {
		return recordedKey{}, err
	}
	user, err := i.account.cloud.CreateUser(ctx, provider.UserSpec{
		Name: name, Path: cmp.Or(role.UserPath, defaultUserPath), Label: key.entry.Label,
	})
	if provider.KindOf(err) == provider.KindConflict {
		err = fmt.Errorf("user %s: %w: %w", name, errNameTaken, err)
	}
	if err != nil {
		return recordedKey{}, b.afterFailedCreate(ctx, i, key, err)
	}
	key.entry.UserID = user.ID
	if err := b.equipUser(ctx, i, &key, user, role.rights()); err != nil {
		if !b.undoKey(ctx, i, key) {
			err = fmt.Errorf("%w: %w", errLeftToRollback, err)
		}
		return recordedKey{}, err
	}
	return key, nil
}

// equipUser is steps (3) to (6). What it has made by the time of an error stands in key.
func (b *backend) equipUser(ctx context.Context, i issuance, key *recordedKey, user provider.User, rights provider.Rights) error {
	if err := i.account.cloud.GrantUser(ctx, user, rights); err != nil {
		return err
	}
	made, err := i.account.cloud.CreateKey(ctx, key.entry.keySpec())
	if err != nil {
		return err
	}
	key.IssuedKey, key.entry.AccessKey, key.entry.Made = made, made.ID, time.Now()
	if err := b.recordKey(ctx, i, *key); err != nil {
		return err
	}
	if err := framework.DeleteWAL(ctx, i.storage, key.walID); err != nil {
		return fmt.Errorf("completing the WAL entry of access key %s: %w", key.ID, err)
	}
	return nil
}

// explainUser says what can be done about an issue that failed.
func explainUser(i issuance, err error) error {
	if errors.Is(err, errNameTaken) {
		return mendable("role %q cannot get a user: both names that the account's username_template made are taken. Give it more randomness (%s)", i.roleName, err)
	}
	switch provider.KindOf(err) {
	case provider.KindNotFound:
		return mendable("role %q cannot get a user: something that the role names does not exist. Create it in the cloud account, or take it out of the role (%s)",
			i.roleName, err)
	case provider.KindQuota:
		return mendable("role %q cannot get a user: the cloud account has no room for one more user, or the user none for what the role gives it (%s)", i.roleName, err)
	case provider.KindConflict:
		return mendable("role %q cannot get a user: the cloud refuses what the role gives it (%s)", i.roleName, err)
	default:
		return explain(i.account.name, err)
	}
}
