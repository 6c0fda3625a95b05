// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command reference prints docs/reference.md: every path of the secrets engine with its fields and answers, asked of the engine itself,
// by the same help requests that Vault's API explorer and `vault path-help` send.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "writing the reference:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	engine, err := cloudkeys.Factory(cloudkeys.Build{})(ctx, &logical.BackendConfig{
		StorageView: &logical.InmemStorage{},
		System:      &logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}},
	})
	if err != nil {
		return err
	}
	defer engine.Cleanup(ctx)
	document, err := openAPI(ctx, engine)
	if err != nil {
		return err
	}
	p := page{out: out}
	p.head()
	for _, path := range sortedPaths(document) {
		description, err := longHelp(ctx, engine, path)
		if err != nil {
			return err
		}
		p.path(path, document.Paths[path], document.Components.Schemas, description)
	}
	return p.err
}

// openAPI is the engine's description of itself: what the help of its root carries.
func openAPI(ctx context.Context, engine logical.Backend) (*framework.OASDocument, error) {
	resp, err := help(ctx, engine, "")
	if err != nil {
		return nil, err
	}
	document, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		return nil, fmt.Errorf("the engine describes itself as a %T", resp.Data["openapi"])
	}
	return document, nil
}

func help(ctx context.Context, engine logical.Backend, path string) (*logical.Response, error) {
	resp, err := engine.HandleRequest(ctx, &logical.Request{Operation: logical.HelpOperation, Path: path, Storage: &logical.InmemStorage{}})
	if err != nil {
		return nil, fmt.Errorf("asking for the help of %q: %w", path, err)
	}
	return resp, nil
}
