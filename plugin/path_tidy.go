// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathTidy() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:      "tidy",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "tidy"},
			Fields: map[string]*framework.FieldSchema{
				"account": {Type: framework.TypeString, Description: "Account to look at; empty: all."},
				"dry_run": {Type: framework.TypeBool, Description: "Only tell what would be removed."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:                  b.announced(eventTidy, "account", b.pathTidyWrite),
					Summary:                   "Remove keys of this mount that nothing knows, in the background.",
					DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "start"},
					Responses:                 answers(tidyAnswer()),
					ForwardPerformanceStandby: true, // ledger and report are local: each cluster tidies for itself
				},
			},
			HelpSynopsis: "Remove keys of this mount that nothing knows.",
			HelpDescription: "Compares the cloud with the ledger, and removes the keys that carry this mount's label and that it does not know. " +
				"It runs in the background, one at a time; tidy-status tells how it goes. The engine does the same by itself once a day.",
		},
		{
			Pattern:      "tidy-status",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "tidy-status"},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:                  b.pathTidyStatusRead,
					Summary:                   "Read how the running tidy goes, or how the last one ended.",
					DisplayAttrs:              &framework.DisplayAttributes{OperationVerb: "read"},
					Responses:                 answers(tidyAnswer()),
					ForwardPerformanceStandby: true, // progress is in the active node's memory
				},
			},
			HelpSynopsis:    "How the running tidy goes, or how the last one ended.",
			HelpDescription: "Tells what the tidy has found and removed, what is stuck and why, and what waits for the rollback.",
		},
	}
}

func (b *backend) pathTidyWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("account").(string)
	if name != "" {
		if _, err := b.account(ctx, req.Storage, name); err != nil {
			return respond(err)
		}
	}
	report, err := b.startTidy(ctx, req.Storage, name, data.Get("dry_run").(bool))
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: report.answer()}, nil
}

func (b *backend) pathTidyStatusRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	if running := b.tidying.current(); running != nil {
		return &logical.Response{Data: running.answer()}, nil
	}
	last, err := load[tidyReport](ctx, req.Storage, tidyPath)
	if err != nil {
		return nil, err
	}
	if last == nil {
		last = &tidyReport{State: tidyIdle}
	}
	return &logical.Response{Data: last.interrupted().answer()}, nil
}
