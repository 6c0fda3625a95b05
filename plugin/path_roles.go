// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

func (b *backend) pathRoles() []*framework.Path {
	return b.entryPaths(entries{
		prefix: rolePrefix, name: "name", one: "role", a: "a role", many: "roles",
		fields: roleFields(), answer: roleAnswer, decisions: roleDecisions(),
		read: b.pathRoleRead, write: b.pathRoleWrite, drop: b.pathRoleDelete,
		written: eventRoleWrite, dropped: eventRoleDelete,

		listSummary: "List the roles.",
		readSummary: "Read a role, and its longest possible lease.",
		dropSummary: "Delete a role; its leases stay.",
		synopsis:    "Describe whose access keys may be leased, and for how long.",
		help: "A role leases access keys of the users in user_names, spread over them, or of the engine's own identity if the " +
			"account allows it. With credential_type=iam_user each lease gets a user of its own with the role's policies and groups, " +
			"which is deleted with the lease. With credential_type=session_token (Huawei Cloud) it leases temporary keys of an agency, " +
			"which expire by themselves and cannot be revoked. A read shows the longest possible lease (effective_max_ttl) and which " +
			"limit decides it (limited_by).",
	})
}

func (b *backend) pathRoleRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	role, err := load[roleEntry](ctx, req.Storage, rolePrefix+data.Get("name").(string))
	if err != nil || role == nil {
		return nil, err
	}
	resp := &logical.Response{Data: visible(role, roleAnswer(), nil)}
	bounds, view, err := b.roleBounds(ctx, req.Storage, role)
	if err != nil {
		resp.AddWarning(err.Error()) // a role can be read, and fixed, without its account
		resp.Data["effective_max_ttl"], resp.Data["limited_by"] = int64(0), "unknown"
		return resp, nil
	}
	resp.Data["effective_max_ttl"], resp.Data["limited_by"] = decision(bounds, view)
	return resp, nil
}

// decision is the longest lease, in seconds, and what limits it.
func decision(b lifetime.Bounds, view *policyView) (effectiveMaxTTL int64, limitedBy string) {
	longest, by := b.MaxLease()
	return max(0, seconds(longest)), view.limitedBy(by)
}

// roleDecisions are what a write of a role answers.
func roleDecisions() []string {
	return []string{"account", "credential_type", "user_names", "effective_max_ttl", "limited_by"}
}

func (b *backend) pathRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("name").(string)
	if err := refuseField(data, "user_name", "static-roles/", "user_names"); err != nil {
		return nil, err
	}
	unlock, err := b.lock(ctx, rolePrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	role, err := load[roleEntry](ctx, req.Storage, rolePrefix+name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		role = newRoleEntry()
	}
	before := role.Account
	takeFields(data, role)
	a, err := b.account(ctx, req.Storage, role.Account)
	if err != nil {
		return nil, err
	}
	if slices.Contains(credentialTypes, role.CredentialType) {
		if err := a.kind.CheckType(role.CredentialType); err != nil { // before the fields that would go with it
			return nil, asUserError(err)
		}
	}
	if err := cmp.Or(role.validate(), checkSize(rolePrefix+name, role)); err != nil {
		return nil, err
	}
	if err := a.kind.CheckRole(role.spec()); err != nil {
		return nil, asUserError(err)
	}
	if known, err := b.identified(ctx, req.Storage, role.Account); err == nil { // else the cloud says later whose the users are
		a = known
	}
	if role.UserAccount == "" && role.Account != before { // names are other users there
		role.UserIDs = nil
	}
	role.UserIDs, role.UserAccount = role.idsIn(a), a.config.AccountID
	var news []string
	role.UserIDs, news = b.pinUsers(ctx, a, role.UserNames, role.UserIDs)
	if err := b.checkUsers(ctx, req.Storage, a, name, role); err != nil {
		return nil, err
	}
	shared, err := b.storeRole(ctx, req.Storage, a, name, role)
	if err != nil {
		return nil, err
	}
	bounds, view, err := b.roleBounds(ctx, req.Storage, role)
	if err != nil {
		return nil, err
	}
	answer := visible(role, roleAnswer(), nil)
	answer["effective_max_ttl"], answer["limited_by"] = decision(bounds, view)
	return decided(subset(answer, roleDecisions()), slices.Concat(role.warnings(bounds, view), news, shared)), nil
}

// storeRole looks for static roles whose user the role leases keys of, and stores it unless that excludes it.
func (b *backend) storeRole(ctx context.Context, s logical.Storage, a *account, name string, role *roleEntry) (shared []string, err error) {
	unlock, err := b.lock(ctx, roleUsersLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if shared, err = b.checkStaticRoles(ctx, s, a, role); err != nil {
		return nil, err
	}
	defer b.roles.drop(rolePrefix + name)
	return shared, save(ctx, s, rolePrefix+name, role)
}

// checkUsers looks at the users that the role names, or the names that it will make.
func (b *backend) checkUsers(ctx context.Context, s logical.Storage, a *account, name string, role *roleEntry) error {
	switch role.CredentialType {
	case credentialSession:
		return a.checkSession(role)
	case credentialIAMUser:
		_, err := makeUsername(a.kind, a.config.usernameTemplate(), usernameData{RoleName: name, DisplayName: "token"})
		return err
	default:
		return cmp.Or(b.checkOwnIdentity(ctx, a, name, role), b.refuseEngineUsersOf(ctx, s, a, role))
	}
}

func (b *backend) pathRoleDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	path := rolePrefix + data.Get("name").(string)
	defer b.roles.drop(path)
	return nil, remove(ctx, req.Storage, path)
}

// roleBounds gathers what limits the role's leases.
func (b *backend) roleBounds(ctx context.Context, s logical.Storage, role *roleEntry) (lifetime.Bounds, *policyView, error) {
	a, view, err := b.accountAndPolicy(ctx, s, role.Account)
	if err != nil {
		return lifetime.Bounds{}, nil, err
	}
	return boundsOf(b.System().MaxLeaseTTL(), a, view, role), view, nil
}
