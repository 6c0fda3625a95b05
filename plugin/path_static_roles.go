// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStaticRoles() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:      "static-roles/?$",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-roles"},
			Fields:       pagingFields(),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:     b.pathStaticRolesList,
					Summary:      "List the static roles.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list"},
					Responses:    answersList(),
				},
			},
			HelpSynopsis:    "List the static roles.",
			HelpDescription: "Lists the names of the static roles; after and limit page through them.",
		},
		{
			Pattern:        staticRolePrefix + framework.GenericNameRegex("name"),
			DisplayAttrs:   &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-role"},
			Fields:         staticRoleFields(),
			ExistenceCheck: b.pathStaticRoleExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:  b.pathStaticRoleRead,
					Summary:   "Read a static role.",
					Responses: answers(staticRoleAnswer()),
				},
				logical.CreateOperation: b.writesStaticRole(),
				logical.UpdateOperation: b.writesStaticRole(),
				logical.PatchOperation:  b.patchesStaticRole(),
				logical.DeleteOperation: &framework.PathOperation{
					Callback:                    b.announced(eventStaticDelete, "name", b.pathStaticRoleDelete),
					Summary:                     "Delete a static role and its keys, or hand them over.",
					Responses:                   answersNothing(),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "A user whose one key is rotated on time.",
			HelpDescription: "Takes a user on: the first write makes a key for it, which static-creds/<name> returns until it is " +
				"rotated, by period or by " +
				"schedule. The key that is replaced works for the rotation_grace_period longer. Other keys of the user are never touched. " +
				"A delete deletes the role's keys; keep_key=true leaves them in the cloud, and forgets them.",
		},
	}
}

func staticRoleFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name":              {Type: framework.TypeString, Description: "Name of the static role."},
		"account":           {Type: framework.TypeString, Default: defaultAccount, Description: "Account of the user."},
		"user_name":         {Type: framework.TypeString, Description: "User whose key is rotated. One user belongs to one static role."},
		"rotation_period":   {Type: framework.TypeDurationSecond, Description: "Time between two rotations."},
		"rotation_schedule": {Type: framework.TypeString, Description: "Cron expression of five fields, in UTC, instead of a period."},
		"rotation_window": {
			Type:        framework.TypeDurationSecond,
			Description: "How long after its scheduled time a rotation may begin, at least 1h; later it waits for the next time. Default: any time.",
		},
		"rotation_grace_period": {
			Type:        framework.TypeDurationSecond,
			Description: "How long the replaced key goes on working. Default: the smaller of 1h and a quarter of the time between rotations.",
		},
		"keep_key": {
			Type: framework.TypeBool, Query: true,
			Description: "With a delete: hand the keys over instead of deleting them. They work until their date, and nobody rotates them.",
		},
	}
}

func staticRoleAnswer() map[string]*framework.FieldSchema {
	fields := staticRoleFields()
	delete(fields, "name")
	delete(fields, "keep_key")
	fields["access_key"] = &framework.FieldSchema{Type: framework.TypeString, Description: "ID of the current key."}
	fields["last_vault_rotation"] = &framework.FieldSchema{Type: framework.TypeString, Description: "When the key was last rotated."}
	fields["next_vault_rotation"] = &framework.FieldSchema{Type: framework.TypeString, Description: "When it is rotated next."}
	fields["previous_access_keys"] = &framework.FieldSchema{Type: framework.TypeStringSlice, Description: "Replaced keys that still work."}
	for _, field := range fields {
		field.Required = true
	}
	return fields
}

func (b *backend) writesStaticRole() *framework.PathOperation {
	return &framework.PathOperation{
		Callback:                    b.announced(eventStaticWrite, "name", b.pathStaticRoleWrite),
		Summary:                     "Write a static role.",
		Responses:                   answers(decisions(staticRoleAnswer(), staticRoleDecisions())),
		ForwardPerformanceStandby:   true,
		ForwardPerformanceSecondary: true,
	}
}

func (b *backend) pathStaticRolesList(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	names, err := req.Storage.List(ctx, staticRolePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing static roles: %w", err)
	}
	return logical.ListResponse(page(names, data)), nil
}

func (b *backend) pathStaticRoleExists(ctx context.Context, req *logical.Request, data *framework.FieldData) (bool, error) {
	role, err := load[staticRole](ctx, req.Storage, staticRolePrefix+data.Get("name").(string))
	return role != nil, err
}

func (b *backend) pathStaticRoleRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("name").(string)
	role, creds, err := b.staticRole(ctx, req.Storage, name)
	if err != nil || role == nil {
		return nil, err
	}
	next, err := role.due(creds, time.Now())
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"account":               role.Account,
		"user_name":             role.UserName,
		"rotation_period":       seconds(role.RotationPeriod),
		"rotation_schedule":     role.RotationSchedule,
		"rotation_window":       seconds(role.RotationWindow),
		"rotation_grace_period": seconds(role.Grace),
		"access_key":            creds.AccessKey,
		"last_vault_rotation":   showTime(creds.LastRotation),
		"next_vault_rotation":   showTime(next),
		"previous_access_keys":  creds.ids()[1:],
	}}, nil
}

func (b *backend) pathStaticRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	if err := b.writeStaticRole(ctx, req.Storage, data); err != nil {
		return respond(err)
	}
	return b.staticRoleWritten(ctx, req, data)
}

// staticRoleWritten answers a write, and a rotation: which key is current, and until when.
func (b *backend) staticRoleWritten(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	written, err := b.pathStaticRoleRead(ctx, req, data)
	if err != nil || written == nil {
		return nil, nil // it is written all the same
	}
	return decided(subset(written.Data, staticRoleDecisions()), nil), nil
}

// staticRoleDecisions are what a write of a static role answers.
func staticRoleDecisions() []string {
	return []string{"account", "user_name", "access_key", "rotation_grace_period", "last_vault_rotation", "next_vault_rotation"}
}

// defaultGraceKey marks the context of a patch that sets the grace to null.
type defaultGraceKey struct{}

// patchesStaticRole gives null its meaning for the one field whose default depends on others.
func (b *backend) patchesStaticRole() *framework.PathOperation {
	patch := b.patches("Change some fields of a static role.", b.pathStaticRoleExists, b.announced(eventStaticWrite, "name",
		b.pathStaticRoleWrite), decisions(staticRoleAnswer(), staticRoleDecisions()))
	merge := patch.Callback
	patch.Callback = func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		if grace, given := data.Raw["rotation_grace_period"]; given && grace == nil {
			ctx = context.WithValue(ctx, defaultGraceKey{}, true)
		}
		return merge(ctx, req, data)
	}
	return patch
}

func (b *backend) pathStaticRoleDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	warnings, err := b.deleteStaticRole(ctx, req.Storage, data.Get("name").(string), data.Get("keep_key").(bool))
	if err != nil {
		return respond(err)
	}
	return warn(warnings), nil
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
		return userError("static role %q does not exist: write static-roles/%s first", name, name)
	}
	_, err = b.rotateStatic(ctx, s, name, role)
	return err
}
