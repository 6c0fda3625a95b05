// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// use is what an account is in use for, and what is to be done before it is not any more. The zero use is none.
type use struct{ what, remedy string }

// accountInUse tells whether anything in the ledger needs an account as it is configured: its keys
// could not be found, and so not revoked, through another one. What has the label of made is left
// out. A key that is about to be made counts already. So does an abandoned engine key that the account can delete.
func (b *backend) accountInUse(ctx context.Context, s logical.Storage, account, made string) (use, error) {
	if err := b.ledger.Load(ctx, s, account); err != nil {
		return use{}, err
	}
	leased, users, given, unfinished, unreadable := 0, 0, 0, 0, 0
	var abandoned []string
	a, _ := b.account(ctx, s, account) // nil: no date proves anything
	needed := func(item *ledger.Item) bool { return item.Label != made && (a == nil || !a.config.isOfAnother(item)) }
	for _, item := range b.ledger.Select(account, needed) {
		switch {
		case item.Unreadable != "":
			unreadable++
		case item.Unfinished():
			unfinished++
		case item.Kind == keylabel.KindUser && a.isDeadItem(&item): // the cloud ends the key, and leaves the user
			users++
		case item.Kind != keylabel.KindRoot && a.isDeadItem(&item): // it ends with the entry
		case item.Leased():
			leased++
		case item.Kind == keylabel.KindStatic:
			given++
		case a != nil && !a.isDeadItem(&item):
			e, err := b.abandonedEntry(ctx, s, &item)
			if err != nil {
				return use{}, err
			}
			if e != nil && a.mayDelete(e) {
				abandoned = append(abandoned, e.AccessKey)
			}
		}
	}
	static, err := staticRolesOf(ctx, s, account)
	const revoke = "Revoke its leases and delete its static roles"
	switch {
	case err != nil:
		return use{}, err
	case leased > 0:
		return use{fmt.Sprintf("%d leased access keys", leased), revoke}, nil
	case users > 0:
		return use{
			fmt.Sprintf("%d users of expired iam_user leases, which the cloud has so far refused to delete", users),
			"Fix what keys/<id> says of them",
		}, nil
	case len(static) > 0:
		return use{fmt.Sprintf("%d static roles", len(static)), revoke}, nil
	case given > 0:
		return use{fmt.Sprintf("%d access keys of static roles that were deleted with force=true", given), "Run tidy, which deletes them,"}, nil
	case len(abandoned) > 0:
		return use{
			"engine keys left by a delete with force=true: " + strings.Join(abandoned, ", "), "Delete each with keys/<id>, or run tidy,",
		}, nil
	case unfinished > 0:
		return use{"requests whose keys are still being cleaned up", "Wait until tidy-status shows none of them"}, nil
	case unreadable > 0:
		return use{fmt.Sprintf("%d entries of the ledger that this version cannot read", unreadable), "Do what tidy-status says of them"}, nil
	default:
		return use{}, nil
	}
}

// isDeadItem is isDead for what the ledger knows of a key. Without a client no date proves anything.
func (a *account) isDeadItem(item *ledger.Item) bool {
	return a != nil && !item.Expires.IsZero() && a.isDead(item.Expires)
}

// abandonedEntry is the record of a key that was abandoned, is not leased, and that storage does not name any more; nil: it is none.
func (b *backend) abandonedEntry(ctx context.Context, s logical.Storage, item *ledger.Item) (*ledger.Entry, error) {
	e, err := ledger.Read(ctx, s, item.Account, item.Label)
	if err != nil || e == nil {
		return nil, err
	}
	if abandoned, err := b.isAbandoned(ctx, s, e); err != nil || !abandoned {
		return nil, err
	}
	return e, nil
}
