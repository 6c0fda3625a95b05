// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

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
		return userError("static role %q does not exist: write static-roles/%s first", name, name)
	}
	_, err = b.rotateStatic(ctx, s, name, role)
	return err
}

func (b *backend) pathRotateRoot() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "rotate-root/" + framework.GenericNameRegex("account"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: "root-key"},
		Fields: map[string]*framework.FieldSchema{
			"account": {Type: framework.TypeString, Description: "Name of the account."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.pathRotateRootWrite,
				Summary:  "Replace the engine's own access key.",
				Responses: answers(map[string]*framework.FieldSchema{
					"access_key":     {Type: framework.TypeString, Required: true, Description: "ID of the new key."},
					"key_expiration": {Type: framework.TypeString, Required: true, Description: "Its date; empty: never."},
					"next_rotation":  {Type: framework.TypeString, Required: true, Description: "When it is replaced by itself; empty: never."},
					"previous_access_key": {
						Type:        framework.TypeString,
						Required:    true,
						Description: "ID of the replaced key, which is deleted within minutes.",
					},
				}),
				ForwardPerformanceStandby:   true,
				ForwardPerformanceSecondary: true,
			},
		},
		HelpSynopsis: "Replace the engine's own access key.",
		HelpDescription: "Makes a new key, tries it, stores it, and deletes the one it replaces some minutes later, when no " +
			"request uses it any more. " +
			"The same happens by itself when rotation_period has passed, and before the key's own date.",
	}}
}

func (b *backend) pathRotateRootWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	name := data.Get("account").(string)
	config, err := b.rotateRoot(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: map[string]any{
		"access_key":          config.AccessKey,
		"key_expiration":      showTime(config.KeyExpires),
		"next_rotation":       showTime(config.nextRotation()),
		"previous_access_key": config.Previous[len(config.Previous)-1].ID,
	}}, nil
}
