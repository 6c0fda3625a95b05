// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
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

// staticRole loads a role and the state of its key; the role is nil where there is none.
func (b *backend) staticRole(ctx context.Context, s logical.Storage, name string) (*staticRole, *staticCreds, error) {
	role, err := load[staticRole](ctx, s, staticRolePrefix+name)
	if err != nil || role == nil {
		return nil, nil, err
	}
	creds, err := load[staticCreds](ctx, s, staticCredsPrefix+name)
	if err != nil {
		return nil, nil, err
	}
	if creds == nil {
		creds = &staticCreds{}
	}
	return role, creds, nil
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

// writeStaticRole stores the role and, for a new one, makes its first key. A crash between
// the two is made up for by the next tick.
func (b *backend) writeStaticRole(ctx context.Context, s logical.Storage, data *framework.FieldData) error {
	name := data.Get("name").(string)
	if err := refuseField(data, "user_names", "roles/", "user_name"); err != nil {
		return err
	}
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	before, err := load[staticRole](ctx, s, staticRolePrefix+name)
	if err != nil {
		return err
	}
	defaultGrace, _ := ctx.Value(defaultGraceKey{}).(bool)
	role, err := newStaticRole(before, data, defaultGrace)
	if err != nil {
		return err
	}
	if err := role.validate(before); err != nil {
		return err
	}
	unlockUser, err := b.lock(ctx, "static-users/"+role.Account+"/"+role.UserName) // two new roles cannot both take it
	if err != nil {
		return err
	}
	defer unlockUser()
	if err := b.checkStaticUser(ctx, s, name, role); err != nil {
		return err
	}
	if err := b.pinStaticUser(ctx, s, role); err != nil {
		return err
	}
	if err := save(ctx, s, staticRolePrefix+name, role); err != nil {
		return err
	}
	if before != nil {
		return nil
	}
	if _, err := b.rotateStatic(ctx, s, name, role); err != nil {
		return errors.Join(err, b.dropUnlessMade(ctx, s, name))
	}
	return nil
}

// pinStaticUser keeps the id of a static role's user, as far as the cloud tells it.
func (b *backend) pinStaticUser(ctx context.Context, s logical.Storage, role *staticRole) error {
	a, err := b.account(ctx, s, role.Account)
	if err != nil {
		return err
	}
	if ids, unlisted := b.pinUsers(ctx, a, []string{role.UserName}); unlisted == nil {
		role.UserID = ids[role.UserName]
	}
	return nil
}

// dropUnlessMade takes back a new role whose first key could not be made. One whose key is
// stored all the same, or may be, is kept: the next tick completes it.
func (b *backend) dropUnlessMade(ctx context.Context, s logical.Storage, name string) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	creds, err := load[staticCreds](ctx, s, staticCredsPrefix+name)
	if err != nil || creds != nil {
		return err
	}
	return remove(ctx, s, staticRolePrefix+name)
}

// defaultGraceKey marks the context of a patch that sets the grace to null.
type defaultGraceKey struct{}

// patchesStaticRole gives null its meaning for the one field whose default depends on others.
func (b *backend) patchesStaticRole() *framework.PathOperation {
	patch := b.patches(
		"Change some fields of a static role.",
		b.pathStaticRoleExists,
		b.announced(eventStaticWrite, "name", b.pathStaticRoleWrite),
		decisions(staticRoleAnswer(), staticRoleDecisions()),
	)
	merge := patch.Callback
	patch.Callback = func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		if grace, given := data.Raw["rotation_grace_period"]; given && grace == nil {
			ctx = context.WithValue(ctx, defaultGraceKey{}, true)
		}
		return merge(ctx, req, data)
	}
	return patch
}

func newStaticRole(before *staticRole, data *framework.FieldData, defaultGrace bool) (*staticRole, error) {
	role := &staticRole{Account: defaultAccount}
	if before != nil {
		*role = *before
	}
	take(data, "account", &role.Account)
	take(data, "user_name", &role.UserName)
	takeSeconds(data, "rotation_period", &role.RotationPeriod)
	take(data, "rotation_schedule", &role.RotationSchedule)
	takeSeconds(data, "rotation_window", &role.RotationWindow)
	takeSeconds(data, "rotation_grace_period", &role.Grace)
	if _, given := data.GetOk("rotation_grace_period"); before == nil && !given {
		defaultGrace = true
	}
	if defaultGrace && (role.RotationPeriod > 0) != (role.RotationSchedule != "") {
		var err error
		if role.Grace, err = role.times().DefaultGrace(time.Now()); err != nil {
			return nil, asUserError(err)
		}
	}
	return role, nil
}

// checkStaticUser keeps a user in one static role, away from the engine's own identity, and
// the rotation within the access policy.
func (b *backend) checkStaticUser(ctx context.Context, s logical.Storage, name string, role *staticRole) error {
	a, err := b.identified(ctx, s, role.Account)
	if err != nil {
		return err
	}
	if err := a.kind.CheckUserName("user_name", role.UserName); err != nil {
		return asUserError(err)
	}
	own, err := b.owns(ctx, a, role.UserName)
	if err != nil {
		return err
	}
	if own {
		return userError("user %q owns the engine's own access key: a static role cannot have it", role.UserName)
	}
	others, err := staticRolesOf(ctx, s, role.Account)
	if err != nil {
		return err
	}
	for other, entry := range others {
		if other != name && entry.UserName == role.UserName {
			return userError("user %q belongs to static role %q already", role.UserName, other)
		}
	}
	view, err := b.currentPolicy(ctx, s, a)
	if err != nil {
		return err
	}
	return asUserError(role.times().CheckPolicy(time.Now(), view.Policy.MaxKeyLifetime))
}

func (b *backend) pathStaticCreds() []*framework.Path {
	name := map[string]*framework.FieldSchema{
		"name": {Type: framework.TypeString, Description: "Name of the static role."},
	}
	return []*framework.Path{
		{
			Pattern:      staticCredsPrefix + framework.GenericNameRegex("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-credentials"},
			Fields:       name,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:                  b.pathStaticCredsRead,
					Summary:                   "Read the current key of a static role.",
					DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "read"},
					Responses:                 answers(staticCredsAnswer()),
					ForwardPerformanceStandby: true, // a standby may still know the key that a rotation has replaced
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
			HelpSynopsis: "Rotate the key of a static role now.",
			HelpDescription: "The replaced key works for the role's rotation_grace_period longer. A period counts anew from now; a " +
				"schedule stays as it is.",
		},
	}
}

// staticCredsAnswer has the names that Vault Secrets Operator and Vault Agent look for.
func staticCredsAnswer() map[string]*framework.FieldSchema {
	fields := credsAnswer()
	delete(fields, "security_token")
	fields["expiration"].Description = "When the cloud ends the key by itself (RFC 3339, UTC), should Vault not rotate it " +
		"before; empty: never."
	fields["ttl"] = &framework.FieldSchema{
		Type:        framework.TypeInt64,
		Description: "Seconds until the next rotation, or, while one is due, until it is tried; never 0.",
	}
	fields["last_vault_rotation"] = &framework.FieldSchema{Type: framework.TypeString, Description: "When the key was last rotated."}
	fields["rotation_period"] = &framework.FieldSchema{
		Type:        framework.TypeInt64,
		Description: "Time between two rotations, in seconds; 0: by schedule.",
	}
	fields["rotation_schedule"] = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Schedule of the rotations; empty: by period.",
	}
	for _, field := range fields {
		field.Required = true
	}
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
	role, creds, err := b.staticRole(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return respond(userError("static role %q does not exist: write static-roles/%s first", name, name))
	}
	if creds.AccessKey == "" {
		return respond(userError("static role %q has no key yet: the next tick makes one, or write rotate-role/%s", name, name))
	}
	a, err := b.account(ctx, req.Storage, role.Account)
	if err != nil {
		return respond(err)
	}
	next, err := role.due(creds, time.Now())
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
		"ttl":                 b.staticTTL(name, next, time.Now()),
		"last_vault_rotation": creds.LastRotation.UTC().Format(time.RFC3339Nano),
		"rotation_period":     seconds(role.RotationPeriod),
		"rotation_schedule":   role.RotationSchedule,
	}}, nil
}
