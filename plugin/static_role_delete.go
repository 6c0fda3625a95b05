// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// deleteStaticRole ends a static role:
//
//	(1) cloud: delete the keys, after the role's entry is marked, or write on each that it is handed over
//	(2) ledger: remove them
//	    → crash or failure: the role is still there, names its keys, and rotates them;
//	      deleting it again goes on, with keep_key or without. A key that is left switched off is
//	      told from one that somebody has switched off by the mark, which goes with the next rotation
//	(3) delete the role's keys from storage, then the role
//	    → crash between the two: the next tick makes the role a key, since it is still
//	      there; deleting it again ends that
//
// With force, keys that a cloud does not let go which will not answer any more are abandoned instead.
//
// A key that is handed over does not carry this mount's label any more, so that neither
// tidy, nor a rollback, nor the functions take it for an orphan, whatever was done by then.
func (b *backend) deleteStaticRole(
	ctx context.Context, s logical.Storage, name string, keepKeys, force bool,
) (warnings []string, err error) {
	if keepKeys && force {
		return nil, userError("keep_key and force exclude each other: give one of them")
	}
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	role, creds, err := loadStatic(ctx, s, name)
	if err != nil || role == nil {
		return nil, err
	}
	if creds.AccessKey != "" {
		warnings, err = b.endStaticKeys(ctx, s, name, role, creds, keepKeys)
	}
	if err != nil && force {
		ctx = context.WithoutCancel(ctx)
		warnings, err = b.abandonStatic(ctx, s, name, role, err)
	}
	if err != nil {
		return nil, err
	}
	b.static.forget(name)
	if err := remove(ctx, s, staticCredsPrefix+name); err != nil {
		return nil, err
	}
	return warnings, remove(ctx, s, staticRolePrefix+name)
}

// endStaticKeys is steps (1) and (2).
func (b *backend) endStaticKeys(
	ctx context.Context, s logical.Storage, name string, role *staticRole, creds *staticCreds, keepKeys bool,
) (warnings []string, err error) {
	a, err := b.accountOf(ctx, s, role.Account, creds.AccountID, creds.AccessKey)
	if err != nil {
		return nil, err
	}
	keys := append(creds.Previous, creds.asPrevious(role, time.Now()))
	if keepKeys {
		return b.handOver(ctx, s, a, role, keys)
	}
	for i := range keys {
		keys[i].DeleteAfter = time.Time{}
	}
	creds.Deleting = true
	if err := save(ctx, s, staticCredsPrefix+name, creds); err != nil {
		return nil, err
	}
	_, err = b.deleteDue(ctx, s, a, keys, role.longestGrace())
	return nil, err
}

// abandonStatic gives up the keys of a role that could not be deleted, unless the cloud answers and takes the engine
// key: then there is nothing to force. Once it answers again, the comparison deletes them.
func (b *backend) abandonStatic(
	ctx context.Context, s logical.Storage, name string, role *staticRole, cause error,
) (warnings []string, err error) {
	config, err := b.accountConfig(ctx, s, role.Account)
	if err != nil {
		return nil, err
	}
	var a *account // nil: it is not configured any more
	if config != nil {
		if a, err = b.account(ctx, s, role.Account); err != nil {
			return nil, err
		}
		asked, cancel := cleanupContext(ctx)
		defer cancel()
		if _, err := a.cloud.OwnKey(asked); takesKey(err) {
			return nil, userError("the cloud answers, and takes the engine key of account %q: nothing is to be forced. "+
				"Static role %q cannot be deleted for another reason: %s", a.name, name, cause)
		}
	}
	return b.abandonKeys(ctx, s, a, role.Account, func(item *ledger.Item) bool {
		return item.Kind == keylabel.KindStatic && item.Role == name
	})
}

// handOver gives up those of a role's keys that work, and deletes the others. It finds each by whatever name its user goes now: what is
// to be kept is not deleted on one word.
func (b *backend) handOver(
	ctx context.Context, s logical.Storage, a *account, role *staticRole, keys []previousKey,
) (warnings []string, err error) {
	cloud, ok := a.cloud.(provider.Relabeler)
	if !ok {
		return nil, userError("the cloud of account %q cannot change what is written on a key, without which its clean-up would take "+
			"it for its own: leave out keep_key", a.name)
	}
	for _, kept := range keys {
		ref, err := b.refOf(ctx, s, a, kept, role.UserName)
		if err != nil {
			return nil, err
		}
		key, found, err := a.cloud.FindKey(ctx, ref)
		if err != nil {
			return nil, explain(a.name, err)
		}
		if !found || !key.LiveAt(a.cloudNow()) {
			warnings = append(warnings, fmt.Sprintf("access key %s does not work any more, and is deleted", kept.ID))
			if err := b.deletePrevious(ctx, s, a, kept); err != nil {
				return nil, err
			}
			continue
		}
		ref.User, ref.Label, ref.Expires = key.User, keylabel.HandedOver(key.Label), key.End()
		if err := cloud.RelabelKey(ctx, ref); err != nil {
			return nil, fmt.Errorf("handing access key %s over: %w", key.ID, explain(a.name, err))
		}
		if err := b.forgetKey(ctx, s, a.name, role.UserName, kept); err != nil {
			return nil, err
		}
		warnings = append(warnings, fmt.Sprintf("access key %s of user %q is yours now: nobody rotates it, and it works until %s", key.ID,
			key.User, cmp.Or(showTime(key.End()), "you delete it")))
	}
	return warnings, nil
}
