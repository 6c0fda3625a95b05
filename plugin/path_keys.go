// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

func (b *backend) pathKeys() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:      "keys/?$",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "keys"},
			Fields:       keysFields(),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:                  b.pathKeysList,
					Summary:                   "List the keys that this mount has given out.",
					DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "list"},
					Responses:                 answersList(),
					ForwardPerformanceStandby: true, // a standby's ledger lags behind
				},
			},
			HelpSynopsis: "List the keys that this mount has given out.",
			HelpDescription: "Lists the access keys in the ledger: all that this mount has made and that are not known to be gone from the cloud. " +
				"account, user and own_identity restrict the list; after and limit page through it.",
		},
		{
			Pattern:      "keys/" + framework.GenericNameRegex("access_key_id"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "key"},
			Fields: map[string]*framework.FieldSchema{
				"access_key_id": {Type: framework.TypeString, Description: "ID of the access key."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:                  b.pathKeyRead,
					Summary:                   "Read who was given a key, and until when.",
					DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "read"},
					Responses:                 answers(keyAnswer()),
					ForwardPerformanceStandby: true, // a standby's ledger lags behind
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback:                  b.announced(eventKeyDelete, "access_key_id", b.pathKeyDelete),
					Summary:                   "Kill a leased key in the cloud now.",
					DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "delete"},
					Responses:                 answersNothing(),
					ForwardPerformanceStandby: true, // the ledger is local: each cluster kills its own keys
				},
			},
			HelpSynopsis: "Who was given a key, and until when; kill it now.",
			HelpDescription: "Looks an access key up in the ledger, for example one whose id was found where it should not be. A delete kills the key " +
				"in the cloud at once; its lease stays until it ends or is revoked, and cannot be renewed.",
		},
	}
}

func keysFields() map[string]*framework.FieldSchema {
	fields := pagingFields()
	fields["account"] = &framework.FieldSchema{Type: framework.TypeString, Query: true, Description: "Return keys of this account only; empty: all."}
	fields["user"] = &framework.FieldSchema{Type: framework.TypeString, Query: true, Description: "Return keys of this user only; empty: all."}
	fields["own_identity"] = &framework.FieldSchema{Type: framework.TypeBool, Query: true, Description: "Return keys of the engine's own identity only, which has no user name here."}
	return fields
}

func keyAnswer() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"kind":         {Type: framework.TypeString, Required: true, Description: "What the key was made for: lease, user (a lease whose user goes with it) or root."},
		"account":      {Type: framework.TypeString, Required: true, Description: "Name of the account."},
		"account_id":   {Type: framework.TypeString, Required: true, Description: "Id of the cloud account."},
		"user_name":    {Type: framework.TypeString, Required: true, Description: "User whose key it is; empty: the engine's own identity."},
		"role":         {Type: framework.TypeString, Required: true, Description: "Role that it was leased by."},
		"issued":       {Type: framework.TypeString, Required: true, Description: "When it was made."},
		"expiration":   {Type: framework.TypeString, Required: true, Description: "When the cloud ends it by itself, or, where it does not (Huawei Cloud), when it is deleted at the latest."},
		"accessor":     {Type: framework.TypeString, Required: true, Description: "Accessor of the token that asked for it."},
		"entity_id":    {Type: framework.TypeString, Required: true, Description: "Entity that asked for it."},
		"display_name": {Type: framework.TypeString, Required: true, Description: "Display name of that token."},
		"request_id":   {Type: framework.TypeString, Required: true, Description: "Id of the request, as in Vault's audit log."},
		"problem":      {Type: framework.TypeString, Required: true, Description: "Why it could not be removed after its date; empty: nothing is stuck."},
	}
}

func (e *ledgerEntry) answer() map[string]any {
	return map[string]any{
		"kind":         string(e.Kind),
		"account":      e.Account,
		"account_id":   e.AccountID,
		"user_name":    e.User,
		"role":         e.Role,
		"issued":       showTime(e.Issued),
		"expiration":   showTime(e.Expires),
		"accessor":     e.Accessor,
		"entity_id":    e.EntityID,
		"display_name": e.DisplayName,
		"request_id":   e.RequestID,
		"problem":      e.Problem,
	}
}

func (b *backend) pathKeysList(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	user, own := data.Get("user").(string), data.Get("own_identity").(bool)
	if user != "" && own {
		return respond(mendable("user and own_identity exclude each other: give one of them"))
	}
	paths, err := ledgerPathsOf(ctx, req.Storage, data.Get("account").(string), user, own)
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]string, len(paths))
	ids := make([]string, 0, len(paths))
	for _, p := range paths {
		byKey[path.Base(p)] = p
		ids = append(ids, path.Base(p))
	}
	slices.Sort(ids)
	ids = page(ids, data)
	info := make(map[string]any, len(ids))
	for _, id := range ids { // entries are read for this page alone
		entry, err := load[ledgerEntry](ctx, req.Storage, byKey[id])
		if err != nil {
			return nil, err
		}
		if entry != nil {
			info[id] = entry.answer()
		}
	}
	return logical.ListResponseWithInfo(ids, info), nil
}

// pathKeyRead walks the ledger: a key's id alone does not say where it stands.
func (b *backend) pathKeyRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	entry, err := findKey(ctx, req.Storage, data.Get("access_key_id").(string))
	if err != nil || entry == nil {
		return nil, err
	}
	return &logical.Response{Data: entry.answer()}, nil
}

// findKey looks a key up by its id; nil where the ledger has none such.
func findKey(ctx context.Context, s logical.Storage, id string) (*ledgerEntry, error) {
	paths, err := allLedgerPaths(ctx, s)
	if err != nil {
		return nil, err
	}
	found := slices.IndexFunc(paths, func(p string) bool { return path.Base(p) == id })
	if found < 0 {
		return nil, nil
	}
	return load[ledgerEntry](ctx, s, paths[found])
}

// allLedgerPaths are those of every account, whether it is configured or not.
func allLedgerPaths(ctx context.Context, s logical.Storage) ([]string, error) {
	return ledgerPathsOf(ctx, s, "", "", false)
}

// ledgerPathsOf are those of an account, or of all where it is empty, that belong to a
// user, to the engine's own identity, or to anybody. For one user it looks at that user's
// entries alone: the functions ask so for every user of an account.
func ledgerPathsOf(ctx context.Context, s logical.Storage, account, user string, own bool) ([]string, error) {
	accounts := []string{account}
	if account == "" {
		var err error
		if accounts, err = s.List(ctx, ledgerPrefix); err != nil {
			return nil, err
		}
	}
	var paths []string
	for _, name := range accounts {
		entries := ledgerPaths(ctx, s, path.Clean(name))
		if user != "" || own {
			entries = identityPaths(ctx, s, path.Clean(name), user)
		}
		for p, err := range entries {
			if err != nil {
				return nil, err
			}
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(x, y string) int { return cmp.Compare(path.Base(x), path.Base(y)) })
	return paths, nil
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
