// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStaticRoles() []*framework.Path {
	return b.entryPaths(entries{
		prefix: staticRolePrefix, name: "name", one: "static-role", a: "a static role", many: "static-roles",
		fields: staticRoleFields(), answer: staticRoleAnswer, decisions: staticRoleDecisions(),
		read: b.pathStaticRoleRead, write: b.pathStaticRoleWrite, drop: b.pathStaticRoleDelete,
		written: eventStaticWrite, dropped: eventStaticDelete,

		listSummary: "List the static roles.",
		readSummary: "Read a static role.",
		dropSummary: "Delete a static role, and its keys unless keep_key is set.",
		synopsis:    "A user whose access key the engine rotates.",
		help: "The first write creates a key of the user. static-creds/<name> returns it until it is rotated, by period or by schedule. A " +
			"replaced key works for rotation_grace_period longer. Other keys of the user are never touched. A delete deletes the role's " +
			"keys; with keep_key=true it leaves them in the cloud and forgets them.",
	})
}

func staticRoleFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name":              field(framework.TypeString, "Name of the static role."),
		"account":           byDefault(defaultAccount, field(framework.TypeString, "Account of the user.")),
		"user_name":         field(framework.TypeString, "User whose key is rotated. A user can have one static role."),
		"rotation_period":   field(framework.TypeDurationSecond, "Time between two rotations."),
		"rotation_schedule": field(framework.TypeString, "Cron expression of five fields, in UTC, instead of a period."),
		"rotation_window": field(framework.TypeDurationSecond, "How long after its scheduled time a rotation may begin, at least "+
			"1h; after that it waits for the next scheduled time. Default: no limit."),
		"rotation_grace_period": field(framework.TypeDurationSecond, "How long a replaced key continues to work. Default: the "+
			"smaller of 1h and a quarter of the time between rotations."),
		"keep_key": query(field(framework.TypeBool, "Only with delete: leave the keys in the cloud. They work until they expire, and "+
			"nobody rotates them.")),
		"force": query(field(framework.TypeBool, "Only with delete: drop the role although its keys cannot be deleted, because the cloud "+
			"refuses the engine key. The response lists them.")),
	}
}

func staticRoleAnswer() map[string]*framework.FieldSchema {
	fields := staticRoleFields()
	delete(fields, "name")
	delete(fields, "keep_key")
	delete(fields, "force")
	fields["access_key"] = field(framework.TypeString, "ID of the current key.")
	fields["last_vault_rotation"] = field(framework.TypeString, "When the key was last rotated.")
	fields["next_vault_rotation"] = field(framework.TypeString, "When it is rotated next.")
	fields["previous_access_keys"] = field(framework.TypeStringSlice, "Replaced keys that still work.")
	return fields
}

func (b *backend) pathStaticRoleRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("name").(string)
	role, creds, err := loadStatic(ctx, req.Storage, name)
	if err != nil || role == nil {
		return nil, err
	}
	next, err := role.due(creds, time.Now())
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: visible(role, staticRoleAnswer(), map[string]any{
		"access_key":           creds.AccessKey,
		"last_vault_rotation":  showTime(creds.LastRotation),
		"next_vault_rotation":  showTime(next),
		"previous_access_keys": creds.ids()[1:],
	})}, nil
}

func (b *backend) pathStaticRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	warnings, err := b.writeStaticRole(ctx, req.Storage, data)
	if err != nil {
		return nil, err
	}
	return b.staticRoleWritten(ctx, req, data, warnings...)
}

// staticRoleWritten answers a write, and a rotation: which key is current, and until when.
func (b *backend) staticRoleWritten(
	ctx context.Context, req *logical.Request, data *framework.FieldData, warnings ...string,
) (*logical.Response, error) {
	written, err := b.pathStaticRoleRead(ctx, req, data)
	if err != nil || written == nil {
		return warn(warnings), nil // it is written all the same
	}
	return decided(subset(written.Data, staticRoleDecisions()), warnings), nil
}

// staticRoleDecisions are what a write of a static role answers.
func staticRoleDecisions() []string {
	return []string{"account", "user_name", "access_key", "rotation_grace_period", "last_vault_rotation", "next_vault_rotation"}
}

func (b *backend) pathStaticRoleDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	warnings, err := b.deleteStaticRole(ctx, req.Storage, data.Get("name").(string), data.Get("keep_key").(bool), data.Get("force").(bool))
	return warn(warnings), err
}

func (b *backend) pathRotateRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("name").(string)
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	role, err := load[staticRole](ctx, req.Storage, staticRolePrefix+name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, userError("static role %q does not exist: write static-roles/%s first", name, name)
	}
	if _, err := b.rotateStatic(ctx, req.Storage, name, role); err != nil {
		return nil, err
	}
	return b.staticRoleWritten(ctx, req, data)
}

func (b *backend) pathStaticCreds() []*framework.Path {
	name := map[string]*framework.FieldSchema{
		"name": field(framework.TypeString, "Name of the static role."),
	}
	return []*framework.Path{
		{
			Pattern:      staticCredsPrefix + framework.GenericNameRegex("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-credentials"},
			Fields:       name,
			// A standby may still know the key that a rotation has replaced.
			Operations: only(logical.ReadOperation, pathOperation("read", "Read the current key of a static role.",
				b.pathStaticCredsRead, answers(staticCredsAnswer()), onActive)),
			HelpDescription: "The key has no lease: it works until it is rotated, and for rotation_grace_period after that.",
		},
		{
			Pattern:      "rotate-role/" + framework.GenericNameRegex("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: "static-role"},
			Fields:       name,
			Operations: only(logical.UpdateOperation, pathOperation("", "Rotate the key of a static role now.",
				b.pathRotateRoleWrite, answers(subset(staticRoleAnswer(), staticRoleDecisions()), staticRoleDecisions()...), onPrimary)),
			HelpDescription: "The replaced key works for rotation_grace_period longer. rotation_period counts again from now; a " +
				"schedule does not change.",
		},
	}
}

// staticCredsAnswer has the names that Vault Secrets Operator and Vault Agent look for.
func staticCredsAnswer() map[string]*framework.FieldSchema {
	fields := credsAnswer()
	delete(fields, "security_token")
	fields["expiration"].Description = "When the key expires in the cloud (RFC 3339, UTC) if it is not rotated before; " +
		"empty: never."
	fields["ttl"] = field(framework.TypeInt64, "Seconds until the next rotation, or, if one is overdue, until the next attempt; never 0.")
	fields["last_vault_rotation"] = field(framework.TypeString, "When the key was last rotated.")
	fields["rotation_period"] = field(framework.TypeInt64, "Time between two rotations, in seconds; 0: by schedule.")
	fields["rotation_schedule"] = field(framework.TypeString, "Schedule of the rotations; empty: by period.")
	return fields
}

// staticTTL is when to read a role's key again, in seconds. It is never 0: whoever waits for the next
// key would read without a pause while its rotation is due, or fails.
func (b *backend) staticTTL(name string, due, now time.Time) int64 {
	next := b.static.next(name, due)
	if !next.After(now) {
		next = now.Add(tickPeriod)
	}
	return max(1, seconds(next.Sub(now)))
}

func (b *backend) pathStaticCredsRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("name").(string)
	role, creds, err := loadStatic(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, userError("static role %q does not exist: write static-roles/%s first", name, name)
	}
	if creds.AccessKey == "" {
		return nil, userError("static role %q has no key yet: the next tick makes one, or write rotate-role/%s", name, name)
	}
	a, err := b.account(ctx, req.Storage, role.Account)
	if err != nil {
		return nil, err
	}
	next, err := role.due(creds, time.Now())
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"access_key":          creds.AccessKey,
		"secret_key":          creds.SecretKey,
		"expiration":          showTime(byThisClock(creds.Expires, -creds.Skew)),
		"user_name":           role.UserName,
		"account":             role.Account,
		"region":              a.config.Region,
		"ttl":                 b.staticTTL(name, next, time.Now()),
		"last_vault_rotation": creds.LastRotation.UTC().Format(time.RFC3339Nano),
		"rotation_period":     seconds(role.RotationPeriod),
		"rotation_schedule":   role.RotationSchedule,
	}}, nil
}
