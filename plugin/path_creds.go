// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

func (b *backend) pathCreds() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "creds/" + framework.GenericNameRegex("role"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "generate", OperationSuffix: "credentials"},
		Fields: map[string]*framework.FieldSchema{
			"role": field(framework.TypeString, "Name of the role."),
			"ttl":  field(framework.TypeDurationSecond, "TTL of the lease, at most the role's effective_max_ttl."),
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   b.leasesKey("credentials"),
			logical.UpdateOperation: b.leasesKey("credentials-with-parameters"),
		},
		HelpDescription: "Creates an access key as the role describes. The key works until the lease ends or, if Vault is not there " +
			"to revoke it, for the account's expiry_grace longer at most. Huawei Cloud's keys never expire: there a key works until Vault " +
			"deletes it. A session (credential_type=session_token) expires with its lease, and cannot be revoked before. The rights of a " +
			"new user (credential_type=iam_user) can take up to 15 seconds to apply in the cloud.",
	}}
}

// leasesKey is a read or a write, which generated clients call by different names.
func (b *backend) leasesKey(operationSuffix string) *framework.PathOperation {
	lease := pathOperation("", "Lease a new access key.", b.announcedCreds(b.timed(operationIssue, b.pathCredsRead)),
		answers(credsAnswer(), "security_token"), onActive) // not the primary cluster's: a secondary owns its leases
	lease.DisplayAttrs.OperationSuffix = operationSuffix
	return lease
}

func credsAnswer() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"access_key": field(framework.TypeString, "ID of the access key."),
		"secret_key": sensitive(field(framework.TypeString, "Its secret.")),
		"security_token": sensitive(field(framework.TypeString, "Session token, to be sent with every request that the key signs "+
			"(only with credential_type=session_token).")),
		"expiration": field(framework.TypeString, "When the key expires in the cloud (RFC 3339, UTC), or, on Huawei Cloud, where keys "+
			"never expire, when the engine deletes it at the latest. A renewal moves it."),
		"user_name": field(framework.TypeString, "User that the key belongs to, or that was created for it; empty: the engine's own identity."),
		"account":   field(framework.TypeString, "Name of the account."),
		"region":    field(framework.TypeString, "Region of the account."),
	}
}

func (b *backend) pathCredsRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	resp, err := b.issueCredentials(transport.WithFlow(ctx, data.Get("role").(string)), req, data)
	if err != nil {
		return respond(err)
	}
	return resp, nil
}

func (b *backend) issueCredentials(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	roleName := data.Get("role").(string)
	role, err := b.roles.load(ctx, req.Storage, rolePrefix+roleName)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, userError("role %q does not exist: write roles/%s first", roleName, roleName)
	}
	a, err := b.identified(ctx, req.Storage, role.Account)
	if err != nil {
		return nil, err
	}
	i := issuance{
		req: req, storage: req.Storage, account: a, roleName: roleName, role: *role,
		requested: time.Duration(data.Get("ttl").(int)) * time.Second,
	}
	if role.CredentialType == credentialSession {
		return b.issueSession(ctx, i)
	}
	if i.instance, err = b.instanceID(ctx, req.Storage); err != nil {
		return nil, err
	}
	secureMode := false
	i.plan = func() (lifetime.IssuePlan, error) {
		view, err := b.currentPolicy(ctx, req.Storage, a)
		if err != nil {
			return lifetime.IssuePlan{}, err
		}
		secureMode = view.secureMode()
		p, err := lifetime.PlanIssue(time.Now(), boundsOf(b.mount.maxTTL(b.System()), a, view, role), b.requestedLease(i))
		return p, asUserError(err)
	}
	key, err := b.issue(ctx, i)
	if err != nil {
		return nil, err
	}
	resp, err := b.credentials(ctx, i, key)
	if err == nil && secureMode {
		resp.AddWarning(secureModeNews)
	}
	return resp, err
}

// credentials is the answer for a new key. Where nothing of the lease is left, the
// key is taken back.
func (b *backend) credentials(ctx context.Context, i issuance, key recordedKey) (*logical.Response, error) {
	ttl, maxTTL, err := key.plan.AtReply(time.Now())
	if err != nil {
		return nil, b.undo(ctx, i, key.entry, err)
	}
	lease := accessKeyLease{Entry: *key.entry, RoleTTL: i.role.TTL, RoleMaxTTL: i.role.MaxTTL}
	resp := b.Secret(secretTypeOf(key.entry.Kind)).Response(map[string]any{
		"access_key": key.ID,
		"secret_key": key.Secret.Reveal(),
		"expiration": showTime(key.entry.Expires),
		"user_name":  key.entry.User,
		"account":    i.account.name,
		"region":     i.account.config.Region,
	}, lease.internalData())
	resp.Secret.TTL, resp.Secret.MaxTTL, resp.Secret.Renewable = ttl, maxTTL, true
	if warning := i.account.clockWarning(); warning != "" {
		resp.AddWarning(warning)
	}
	if warning := cutWarning(key.plan, i.requested); warning != "" {
		resp.AddWarning(warning)
	}
	return resp, nil
}
