// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// newBackend leases nothing, in two ways: at once, and with the two writes without which no engine can promise that a key is
// never lost, one before its cloud is called and one after. What these take is Vault's own part of a lease.
func newBackend(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := &framework.Backend{BackendType: logical.TypeLogical}
	b.Secrets = []*framework.Secret{{
		Type: "nothing",
		Renew: func(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
			return &logical.Response{Secret: req.Secret}, nil
		},
		Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
			return nil, nil
		},
	}}
	lease := func() (*logical.Response, error) {
		data := map[string]any{"access_key": "AKIABENCH", "secret_key": "0123456789012345678901234567890123456789"}
		return b.Secret("nothing").Response(data, map[string]any{"access_key": "AKIABENCH"}), nil
	}
	b.Paths = []*framework.Path{
		{
			Pattern: "lease",
			Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{
				Callback: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
					return lease()
				},
			}},
		},
		{
			Pattern: "records",
			Fields:  map[string]*framework.FieldSchema{"prefix": {Type: framework.TypeString}},
			Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{
				Callback: func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
					return nil, readAll(ctx, req.Storage, data.Get("prefix").(string))
				},
			}},
		},
		{
			Pattern: "recorded",
			Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{
				Callback: func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
					for _, entry := range []string{"intent/", "ledger/"} {
						entry := &logical.StorageEntry{Key: entry + req.ID, Value: make([]byte, 400)}
						if err := req.Storage.Put(ctx, entry); err != nil {
							return nil, fmt.Errorf("writing %s: %w", entry.Key, err)
						}
					}
					return lease()
				},
			}},
		},
	}
	return b, b.Setup(ctx, conf)
}

// readAll reads every entry under a prefix, as an engine must that has to know all its keys.
func readAll(ctx context.Context, s logical.Storage, prefix string) error {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("listing %s: %w", prefix, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			err = readAll(ctx, s, prefix+name)
		} else {
			_, err = s.Get(ctx, prefix+name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
