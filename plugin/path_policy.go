// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathPolicy() []*framework.Path {
	return []*framework.Path{{
		Pattern:      policyPrefix + framework.GenericNameRegex("account"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "access-policy"},
		Fields: map[string]*framework.FieldSchema{
			"account": {Type: framework.TypeString, Description: "Name of the account."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.pathPolicyRead,
				Summary:      "Read the account's access policy as last seen, and what follows from it.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read"},
				Responses:    answers(policyAnswer()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback:                  b.pathPolicyWrite,
				Summary:                   "Ask the cloud for the access policy now.",
				DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "refresh"},
				Responses:                 answers(policyAnswer()),
				ForwardPerformanceStandby: true, // the view is local: each cluster asks for itself
			},
		},
		HelpSynopsis: "The account's access policy, which bounds the life of every key.",
		HelpDescription: "The policy is read when the account is written, every few minutes, and at once when the cloud refuses a date. " +
			"A write asks the cloud now, for example after the policy was changed. Huawei Cloud has no such policy: there the " +
			"account's max_ttl is the bound.",
	}}
}

func policyAnswer() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"supported": {
			Type:        framework.TypeBool,
			Required:    true,
			Description: "Whether the cloud has such a policy (OUTSCALE). Without one, the account's max_ttl is the bound.",
		},
		"known": {Type: framework.TypeBool, Required: true, Description: "Whether the policy could be read when last tried."},
		"max_access_key_expiration_seconds": {
			Type: framework.TypeInt64, Required: true,
			Description: "Longest life of a key as last read, in seconds; 0: unlimited, where known.",
		},
		"require_trusted_env": {Type: framework.TypeBool, Required: true, Description: "Whether the policy demands trusted sessions."},
		"secure_mode": {
			Type: framework.TypeBool, Required: true,
			Description: "Whether the account takes trusted keys alone, those made in Cockpit after a multi-factor authentication: no " +
				"leased key is one.",
		},
		"read_at": {Type: framework.TypeString, Required: true, Description: "When the policy was last read; empty: never."},
		"problem": {Type: framework.TypeString, Required: true, Description: "Why it could not be read when last tried; empty: it could."},
		"effective_max_ttl": {
			Type: framework.TypeInt64, Required: true,
			Description: "Longest lease of a role that sets no max_ttl, in seconds.",
		},
		"longest_key_lifetime": {
			Type: framework.TypeInt64, Required: true,
			Description: "Longest life of a key that the account's roles, static roles and rotation_period need, in seconds: " +
				"an access policy that allows less cuts leases, or refuses rotations. 0: nothing needs a key.",
		},
		"limited_by": {
			Type:        framework.TypeString,
			Required:    true,
			Description: "What decides effective_max_ttl: policy, account or mount; and whether the policy is unknown, or there is none.",
		},
	}
}

func (b *backend) pathPolicyRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	a, err := b.account(ctx, req.Storage, data.Get("account").(string))
	if err != nil {
		return respond(err)
	}
	view, err := storedPolicy(ctx, req.Storage, a)
	if err != nil {
		return nil, err
	}
	return b.policyResponse(ctx, req.Storage, a, view)
}

func (b *backend) pathPolicyWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	a, err := b.identified(ctx, req.Storage, data.Get("account").(string))
	if err != nil {
		return respond(err)
	}
	view, err := b.refreshPolicy(ctx, req.Storage, a)
	if err != nil {
		return nil, err
	}
	resp, err := b.policyResponse(ctx, req.Storage, a, view)
	if err != nil {
		return nil, err
	}
	if view.Problem != "" {
		resp.AddWarning("the access policy is unknown: " + view.Problem)
	}
	if view.unbounded() {
		resp.AddWarning(unboundedPolicy)
	}
	return resp, nil
}

func (b *backend) policyResponse(ctx context.Context, s logical.Storage, a *account, view *policyView) (*logical.Response, error) {
	key, err := b.longestKeyOf(ctx, s, a)
	if err != nil {
		return nil, err
	}
	longest, by := b.bounds(a, view, 0).MaxLease()
	resp := &logical.Response{Data: map[string]any{
		"supported":                         !view.None,
		"known":                             view.known(),
		"max_access_key_expiration_seconds": seconds(view.Policy.MaxKeyLifetime),
		"require_trusted_env":               view.Policy.RequireTrustedEnv,
		"secure_mode":                       view.Policy.SecureMode,
		"read_at":                           showTime(view.ReadAt),
		"problem":                           view.Problem,
		"effective_max_ttl":                 max(0, seconds(longest)),
		"longest_key_lifetime":              seconds(key),
		"limited_by":                        view.limitedBy(by),
	}}
	if view.secureMode() {
		resp.AddWarning(secureModeNews)
	}
	if view.None {
		resp.AddWarning(
			a.kind.Title + " has no such policy, and ends no access key by itself: max_ttl in config/" +
				a.name + " bounds the leases of the account",
		)
	}
	return resp, nil
}
