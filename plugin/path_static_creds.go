// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStaticCreds() []*framework.Path {
	name := map[string]*framework.FieldSchema{
		"name": {Type: framework.TypeLowerCaseString, Description: "Name of the static role."},
	}
	return []*framework.Path{
		{
			Pattern:      staticCredsPrefix + framework.GenericNameRegex("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-credentials"},
			Fields:       name,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.pathStaticCredsRead,
					Summary:      "Read the current key of a static role.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read"},
					Responses:    answers(staticCredsAnswer()),
				},
			},
			HelpSynopsis:    "Read the current key of a static role.",
			HelpDescription: "The key has no lease: it works until it is rotated, and for the role's rotation_grace_period after that.",
		},
		{
			Pattern:      "rotate-role/" + framework.GenericNameRegex("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: "static-role"},
			Fields:       name,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:                    b.pathRotateRoleWrite,
					Summary:                     "Rotate the key of a static role now.",
					Responses:                   answers(decisions(staticRoleAnswer(), staticRoleDecisions())),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis:    "Rotate the key of a static role now.",
			HelpDescription: "The replaced key works for the role's rotation_grace_period longer. A period counts anew from now; a schedule stays as it is.",
		},
	}
}

// staticCredsAnswer has the names that Vault Secrets Operator and Vault Agent look for.
func staticCredsAnswer() map[string]*framework.FieldSchema {
	fields := credsAnswer()
	delete(fields, "security_token")
	fields["expiration"].Description = "When the cloud ends the key by itself (RFC 3339, UTC), should Vault not rotate it before; empty: never."
	fields["ttl"] = &framework.FieldSchema{Type: framework.TypeInt64, Description: "Seconds until the next rotation."}
	fields["last_vault_rotation"] = &framework.FieldSchema{Type: framework.TypeString, Description: "When the key was last rotated."}
	fields["rotation_period"] = &framework.FieldSchema{Type: framework.TypeInt64, Description: "Time between two rotations, in seconds; 0: by schedule."}
	fields["rotation_schedule"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Schedule of the rotations; empty: by period."}
	for _, field := range fields {
		field.Required = true
	}
	return fields
}

func (b *backend) pathStaticCredsRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("name").(string)
	role, creds, err := b.staticRole(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return respond(mendable("static role %q does not exist: write static-roles/%s first", name, name))
	}
	if creds.AccessKey == "" {
		return respond(mendable("static role %q has no key yet: the next tick makes one, or write rotate-role/%s", name, name))
	}
	a, err := b.account(ctx, req.Storage, role.Account)
	if err != nil {
		return respond(err)
	}
	next, err := role.scheduled(creds, time.Now())
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"access_key":          creds.AccessKey,
		"secret_key":          creds.SecretKey,
		"expiration":          showTime(creds.Expires),
		"user_name":           role.UserName,
		"account":             role.Account,
		"region":              a.config.Region,
		"ttl":                 max(0, seconds(time.Until(next))),
		"last_vault_rotation": creds.LastRotation.UTC().Format(time.RFC3339Nano),
		"rotation_period":     seconds(role.RotationPeriod),
		"rotation_schedule":   role.RotationSchedule,
	}}, nil
}

func (b *backend) pathRotateRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	if err := b.rotateRoleNow(ctx, req.Storage, data.Get("name").(string)); err != nil {
		return respond(err)
	}
	return b.staticRoleWritten(ctx, req, data)
}

func (b *backend) rotateRoleNow(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	role, err := load[staticRole](ctx, s, staticRolePrefix+name)
	if err != nil {
		return err
	}
	if role == nil {
		return mendable("static role %q does not exist: write static-roles/%s first", name, name)
	}
	_, err = b.rotateStatic(ctx, s, name, role)
	return err
}
