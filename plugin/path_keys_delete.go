// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// pathKeyDelete kills a key that has leaked:
//
//	(1) cloud: revoke, idempotent
//	    → crash: the key is dead or alive, and still in the ledger: delete again
//	(2) ledger: remove
//
// The lease stays in Vault, which alone can end it. Its revoke finds the key gone,
// which is a success; its renewal fails with what to do. A client that hangs up does
// not stop this.
func (b *backend) pathKeyDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), issueBudget)
	defer cancel()
	if err := b.killKey(ctx, req.Storage, data.Get("access_key_id").(string)); err != nil {
		return respond(err)
	}
	return nil, nil
}

func (b *backend) killKey(ctx context.Context, s logical.Storage, id string) error {
	entry, err := findKey(ctx, s, id)
	if err != nil {
		return err
	}
	if entry == nil {
		return mendable("access key %q is not in this mount's ledger: it was issued elsewhere, or is gone from the cloud already. "+
			"If it still works, delete it where it was made or in the cloud's console", id)
	}
	if err := entry.refuseKept(); err != nil {
		return err
	}
	a, err := b.identified(ctx, s, entry.Account)
	if err != nil {
		return err
	}
	if err := removeDead(ctx, a, entry); err != nil {
		return notKilled(a, entry, err)
	}
	b.Logger().Info("killed an access key on request", "account", a.name, "user", entry.User, "access_key", id)
	return b.strike(ctx, s, entry)
}

// refuseKept protects the keys that are replaced, never just deleted.
func (e *ledgerEntry) refuseKept() error {
	switch e.Kind {
	case keylabel.KindRoot:
		return mendable("access key %s is the engine's own in account %q: replace it with rotate-root/%s", e.AccessKey, e.Account, e.Account)
	case keylabel.KindStatic:
		return mendable("access key %s belongs to the static role %q: replace it with rotate-role/%s", e.AccessKey, e.Role, e.Role)
	default:
		return nil
	}
}

// notKilled says first what matters in an incident: the key may still work.
func notKilled(a *account, entry *ledgerEntry, cause error) error {
	return fmt.Errorf("access key %s of user %q was NOT removed and %s: %w",
		entry.AccessKey, entry.User, a.worksUntil(entry), explain(a.name, cause))
}
