// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

func (b *backend) pathStaticRoleDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	warnings, err := b.deleteStaticRole(ctx, req.Storage, data.Get("name").(string), data.Get("keep_key").(bool))
	if err != nil {
		return respond(err)
	}
	return warn(warnings), nil
}

// deleteStaticRole ends a static role:
//
//	(1) cloud: delete the keys, or write on each that it is handed over
//	(2) ledger: remove them
//	    → crash or failure: the role is still there, names its keys, and rotates them;
//	      deleting it again goes on, with keep_key or without
//	(3) delete the role's keys from storage, then the role
//	    → crash between the two: the next tick makes the role a key, since it is still
//	      there; deleting it again ends that
//
// A key that is handed over does not carry this mount's label any more, so that neither
// tidy, nor a rollback, nor the functions take it for an orphan, whatever was done by then.
func (b *backend) deleteStaticRole(ctx context.Context, s logical.Storage, name string, keepKeys bool) (warnings []string, err error) {
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	role, creds, err := b.staticRole(ctx, s, name)
	if err != nil || role == nil {
		return nil, err
	}
	if creds.AccessKey != "" {
		a, err := b.staticAccount(ctx, s, role, creds)
		if err != nil {
			return nil, err
		}
		keys := append(creds.Previous, creds.asPrevious(role, time.Now()))
		if keepKeys {
			warnings, err = b.handOver(ctx, s, a, role, keys)
		} else {
			err = b.deleteStaticKeys(ctx, s, a, keys)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := remove(ctx, s, staticCredsPrefix+name); err != nil {
		return nil, err
	}
	return warnings, remove(ctx, s, staticRolePrefix+name)
}

func (b *backend) deleteStaticKeys(ctx context.Context, s logical.Storage, a *account, keys []previousKey) error {
	for _, key := range keys {
		if err := b.deleteStaticKey(ctx, s, a, key); err != nil {
			return err
		}
	}
	return nil
}

// handOver gives up those of a role's keys that work, and deletes the others.
func (b *backend) handOver(ctx context.Context, s logical.Storage, a *account, role *staticRole, keys []previousKey) (warnings []string, err error) {
	cloud, ok := a.cloud.(provider.Relabeler)
	if !ok {
		return nil, mendable("the cloud of account %q cannot change what is written on a key, without which its clean-up would take it for its own: leave out keep_key", a.name)
	}
	listed, err := a.cloud.ListKeys(ctx, role.UserName)
	if provider.KindOf(err) == provider.KindNotFound { // a user that is gone has no keys: what is to be kept is not deleted on one word
		_, err = otherUsers(ctx, a, role.UserName)
	}
	if err != nil {
		return nil, explain(a.name, err)
	}
	now := time.Now()
	for _, kept := range keys {
		found := slices.IndexFunc(listed, func(key provider.Key) bool { return key.ID == kept.ID })
		if found < 0 || !listed[found].LiveAt(now) {
			if err := b.deleteStaticKey(ctx, s, a, kept); err != nil {
				return nil, err
			}
			warnings = append(warnings, fmt.Sprintf("access key %s does not work any more, and is deleted", kept.ID))
			continue
		}
		key := listed[found]
		ref := key.Ref(a.config.AccountID)
		ref.Label = keylabel.HandedOver(key.Label)
		if err := cloud.RelabelKey(ctx, ref); err != nil {
			return nil, fmt.Errorf("handing access key %s over: %w", key.ID, explain(a.name, err))
		}
		if err := b.strike(ctx, s, &ledgerEntry{Account: a.name, User: role.UserName, AccessKey: key.ID}); err != nil {
			return nil, err
		}
		warnings = append(warnings, fmt.Sprintf("access key %s of user %q is yours now: nobody rotates it, and it works until %s", key.ID, role.UserName, ends(key)))
	}
	return warnings, nil
}

// ends says when a key ends by itself.
func ends(key provider.Key) string {
	if key.End().IsZero() {
		return "you delete it"
	}
	return showTime(key.End())
}
