// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// secretSessionType stands in the leases of sessions. It must never be renamed.
const secretSessionType = "cloudkeys_session_token"

// sessionSecret is the lease of a session. Without Renew, Vault does not offer to renew it.
func (b *backend) sessionSecret() *framework.Secret {
	sensitive := &framework.DisplayAttributes{Sensitive: true}
	return &framework.Secret{
		Type: secretSessionType,
		Fields: map[string]*framework.FieldSchema{
			"access_key":     {Type: framework.TypeString, Description: "ID of the temporary access key."},
			"secret_key":     {Type: framework.TypeString, Description: "Its secret.", DisplayAttrs: sensitive},
			"security_token": {Type: framework.TypeString, Description: "Token that goes with every request.", DisplayAttrs: sensitive},
		},
		Revoke: b.revokeSession,
	}
}

// sessionData is what the lease of a session carries: strings, as in every lease.
func sessionData(account, accessKey string, expires time.Time) map[string]any {
	return map[string]any{"account": account, "access_key": accessKey, "expires": expires.UTC().Format(time.RFC3339Nano)}
}

// revokeSession has nothing to do: the cloud takes no session back, and at its end the session
// is over with its lease, give or take the part of a second that no TTL has. It needs no
// account, and cannot fail for long.
func (b *backend) revokeSession(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	r := leaseReader{data: req.Secret.InternalData}
	account, accessKey, expires := r.text("account"), r.text("access_key"), r.time("expires")
	if r.err == nil && time.Now().Add(clockMargin).Before(expires) {
		b.Logger().Warn("a lease was revoked whose session works on: the cloud cannot take it back before its end",
			"account", account, "access_key", accessKey, "expiration", showTime(expires))
	}
	return nil, nil
}
