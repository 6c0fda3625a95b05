// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

func (b *backend) pathKeys() []*framework.Path {
	fields := pagingFields()
	fields["account"] = query(field(framework.TypeString, "Return keys of this account only; empty: all."))
	fields["user"] = query(field(framework.TypeString, "Return keys of this user only; empty: all."))
	fields["own_identity"] = query(field(framework.TypeBool, "Return keys of the engine's own identity only, which has no user name "+
		"here."))
	return []*framework.Path{
		{
			Pattern:      "keys/?$",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "keys"},
			Fields:       fields,
			// A standby's ledger lags behind.
			Operations: only(logical.ListOperation, pathOperation("list", "List the issued keys that still exist.",
				b.pathKeysList, answersList(), onActive)),
			HelpDescription: "Lists the access keys in the ledger: all that this mount created and that are not known to be deleted in the cloud. " +
				"account, user and own_identity filter the list; after and limit page through it.",
		},
		{
			Pattern:      "keys/" + framework.GenericNameRegex("access_key_id"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "key"},
			Fields: map[string]*framework.FieldSchema{
				"access_key_id": field(framework.TypeString, "ID of the access key."),
				"force": query(field(framework.TypeBool, "Only with delete: remove the key's record although the engine cannot delete the key. For a key "+
					"that you have deleted in the cloud yourself, because the engine has no right to: its account was deleted with force=true, or now has "+
					"a key of another user or another cloud account.")),
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				// A standby's ledger lags behind.
				logical.ReadOperation: pathOperation("read", "Read who holds a key, and when it expires.",
					b.pathKeyRead, answers(keyAnswer()), onActive),
				// The ledger is local: each cluster kills its own keys.
				logical.DeleteOperation: pathOperation("delete", "Delete a leased key in the cloud now.",
					b.announced(eventKeyDelete, "access_key_id", b.pathKeyDelete), answersNothing(), onActive),
			},
			HelpSynopsis: "Show who holds a key and when it expires; delete it now.",
			HelpDescription: "Looks an access key up in the ledger, for example one whose id was found where it should not be. Delete " +
				"removes the key in the cloud at once; its lease stays until it expires or is revoked, and cannot be renewed.",
		},
	}
}

func keyAnswer() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"kind":       field(framework.TypeString, "What the key was created for: lease, user (a lease with a user of its own), static or root."),
		"account":    field(framework.TypeString, "Name of the account."),
		"account_id": field(framework.TypeString, "Id of the cloud account."),
		"user_name":  field(framework.TypeString, "User whose key it is; empty: the engine's own identity."),
		"role":       field(framework.TypeString, "Role that it was leased by."),
		"issued":     field(framework.TypeString, "When it was created."),
		"expiration": field(framework.TypeString, "When it expires in the cloud, or, on Huawei Cloud, where keys never expire, when "+
			"the engine deletes it at the latest."),
		"accessor":     field(framework.TypeString, "Accessor of the token that asked for it."),
		"entity_id":    field(framework.TypeString, "Entity that asked for it."),
		"display_name": field(framework.TypeString, "Display name of that token."),
		"request_id":   field(framework.TypeString, "Id of the request, as in Vault's audit log."),
		"problem":      field(framework.TypeString, "Why it could not be deleted after it expired; empty: nothing is stuck."),
	}
}

func keyData(e *ledger.Entry) map[string]any {
	return visible(e, keyAnswer(), map[string]any{"kind": string(e.Kind), "user_name": e.User, "expiration": showTime(e.Expires)})
}

func (b *backend) pathKeysList(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	user, own := data.Get("user").(string), data.Get("own_identity").(bool)
	if user != "" && own {
		return nil, userError("user and own_identity exclude each other: give one of them")
	}
	account := data.Get("account").(string)
	if err := b.ledger.Load(ctx, req.Storage, account); err != nil {
		return nil, err
	}
	listed := func(item *ledger.Item) bool { return item.AccessKey != "" }
	var items []ledger.Item
	if user != "" || own {
		items = b.ledger.Owned(account, user, listed)
	} else {
		items = b.ledger.Select(account, listed)
	}
	byKey := make(map[string]ledger.Item, len(items))
	ids := make([]string, 0, len(items))
	for _, item := range items {
		byKey[item.AccessKey] = item
		ids = append(ids, item.AccessKey)
	}
	slices.Sort(ids)
	ids = page(ids, data)
	info := make(map[string]any, len(ids))
	for _, id := range ids { // entries are read for this page alone
		e, err := ledger.Read(ctx, req.Storage, byKey[id].Account, byKey[id].Label)
		if err != nil {
			return nil, err
		}
		if e != nil {
			info[id] = keyData(e)
		}
	}
	return logical.ListResponseWithInfo(ids, info), nil
}

func (b *backend) pathKeyRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	e, err := b.findKey(ctx, req.Storage, data.Get("access_key_id").(string))
	if err != nil || e == nil {
		return nil, err
	}
	return &logical.Response{Data: keyData(e)}, nil
}

// findKey looks a key up by its id; nil where the ledger has none such.
func (b *backend) findKey(ctx context.Context, s logical.Storage, id string) (*ledger.Entry, error) {
	if err := b.ledger.Load(ctx, s, ""); err != nil {
		return nil, err
	}
	item, found := b.ledger.Find(id)
	if !found {
		return nil, nil
	}
	return ledger.Read(ctx, s, item.Account, item.Label)
}

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
	s, id, force := req.Storage, data.Get("access_key_id").(string), data.Get("force").(bool)
	if force {
		if done, err := b.forgetReplaced(ctx, s, id); err != nil || done {
			return nil, err
		}
	}
	entry, err := b.findKey(ctx, s, id)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		if name, err := b.replacedIn(ctx, s, id); err != nil || name != "" { // an operator gave it
			return nil, cmp.Or(err, replacedKeyError(id, name))
		}
		return nil, userError("access key %q is not in this mount's ledger: it was issued elsewhere, or is gone from the cloud already. "+
			"If it still works, delete it where it was made or in the cloud's console", id)
	}
	if err := b.refuseKept(ctx, s, entry); err != nil {
		return nil, err
	}
	if entry.Abandoned {
		switch may, err := b.anyMayDelete(ctx, s, entry); {
		case err != nil:
			return nil, err
		case !may && force:
			b.Logger().Warn("forgot an abandoned access key, as an operator said", "account", entry.Account, "access_key", id)
			return nil, b.removeEntry(ctx, s, entry)
		case !may:
			return nil, userError("access key %s was abandoned with account %q, and nothing here can delete it: delete it in the cloud, "+
				"then its record with force=true", id, entry.Account)
		}
	}
	a, err := b.identified(ctx, s, entry.Account)
	if err != nil {
		return nil, err
	}
	if err := removeDead(ctx, a, entry); err != nil { // said first is what matters in an incident
		return nil, fmt.Errorf("access key %s of user %q was NOT removed and %s: %w", entry.AccessKey, entry.User, a.worksUntil(entry.Expires),
			explain(a.name, err))
	}
	b.Logger().Info("deleted an access key on request", "account", a.name, "user", entry.User, "access_key", id)
	return nil, b.removeEntry(ctx, s, entry)
}

// isAbandoned tells that a key of a static role, or the engine's own, was abandoned, and that storage does not name it any more.
func (b *backend) isAbandoned(ctx context.Context, s logical.Storage, e *ledger.Entry) (bool, error) {
	if !e.Abandoned || e.Leased() {
		return false, nil
	}
	named, err := b.isNamed(ctx, s, e)
	return !named && err == nil, err
}

// isNamed tells that a static role or a configuration has a key.
func (b *backend) isNamed(ctx context.Context, s logical.Storage, e *ledger.Entry) (bool, error) {
	if id, err := namedKey(ctx, s, e); err != nil || id != "" {
		return true, err
	}
	configured, err := b.configuredKeys(ctx, s)
	return configured[e.AccessKey], err
}

// refuseKept protects the keys that are replaced, never just deleted: those that storage names, or that a rotation is about to store.
func (b *backend) refuseKept(ctx context.Context, s logical.Storage, e *ledger.Entry) error {
	if e.Leased() {
		return nil
	}
	if named, err := b.isNamed(ctx, s, e); err != nil || !named && e.State == ledger.Made {
		return err
	}
	switch e.Kind {
	case keylabel.KindRoot:
		if name, err := b.replacedIn(ctx, s, e.AccessKey); err != nil || name != "" {
			return cmp.Or(err, replacedKeyError(e.AccessKey, name))
		}
		return userError("access key %s is the engine's own in account %q: replace it with rotate-root/%s", e.AccessKey, e.Account, e.Account)
	case keylabel.KindStatic:
		return userError("access key %s belongs to the static role %q: replace it with rotate-role/%s", e.AccessKey, e.Role, e.Role)
	default:
		return nil
	}
}

func (b *backend) pathTidy() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:      "tidy",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "tidy"},
			Fields: map[string]*framework.FieldSchema{
				"account": field(framework.TypeString, "Account to look at; empty: all."),
				"dry_run": field(framework.TypeBool, "Only report what would be done."),
				"confirm": field(framework.TypeInt, "Make as many changes as the last comparison of the account has withheld: the "+
					"number is in tidy-status. More than that is withheld again."),
			},
			// Ledger and report are local: each cluster tidies for itself.
			Operations: only(logical.UpdateOperation, pathOperation("start", "Delete orphaned keys, in the background.",
				b.announced(eventTidy, "account", b.pathTidyWrite), answers(tidyAnswer()), onActive)),
			HelpSynopsis: "Delete orphaned keys: created by this mount, and not in its ledger.",
			HelpDescription: "Compares the cloud with the ledger: deletes the keys that carry this mount's label and are not in its ledger, " +
				"rotates static roles whose key is gone, and restores expiration dates and labels that the holder of a key has changed. If it " +
				"would change more than five keys and a tenth of the account's, it changes none until confirm gives their number. It runs in the " +
				"background, one at a time; tidy-status shows its progress. The engine does the same by itself once a day.",
		},
		{
			Pattern:      "tidy-status",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "tidy-status"},
			// Progress is in the active node's memory.
			Operations: only(logical.ReadOperation, pathOperation("read", "Read the progress of the running tidy, or the result of the last one.",
				b.pathTidyStatusRead, answers(tidyAnswer()), onActive)),
			HelpSynopsis:    "The progress of the running tidy, or the result of the last one.",
			HelpDescription: "Shows what the tidy has found and deleted, what is stuck and why, and what waits for the rollback.",
		},
	}
}

func (b *backend) pathTidyWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, confirm := data.Get("account").(string), data.Get("confirm").(int)
	if name == "" && confirm != 0 {
		return nil, userError("confirm goes with one account: give account as well")
	}
	if name != "" {
		if _, err := b.account(ctx, req.Storage, name); err != nil {
			return nil, err
		}
	}
	report, err := b.startTidy(ctx, req.Storage, name, data.Get("dry_run").(bool), confirm)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: visible(report, tidyAnswer(), nil)}, nil
}

func (b *backend) pathTidyStatusRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	report := b.tidying.current()
	if report == nil {
		last, err := loadOrNew[tidyReport](ctx, req.Storage, tidyPath)
		if err != nil {
			return nil, err
		}
		report = last.interrupted()
	}
	b.compared.Range(func(account, _ any) bool { // of the daily comparisons since
		name, _ := account.(string)
		if line := b.lastFound(name).withheld(name); line != "" && !slices.Contains(report.Withheld.Lines, line) {
			report.Withheld.add(line)
		}
		return true
	})
	return &logical.Response{Data: visible(report, tidyAnswer(), nil)}, nil
}
