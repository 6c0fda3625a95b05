// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
)

func (b *backend) pathInfo() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "info",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "read", OperationSuffix: "info"},
		Operations: only(logical.ReadOperation, pathOperation("", "Read the version of the plugin.",
			b.pathInfoRead, answers(map[string]*framework.FieldSchema{
				"version": field(framework.TypeString, "Version of the release, or what git calls the source, such as v0.1.0-7-g0123abc; dev "+
					"where neither is known."),
				"commit": field(framework.TypeString, "Commit that the plugin was built from, -dirty if with changes; unknown where the build does "+
					"not know it."),
				"go_version": field(framework.TypeString, "Version of Go that it was built with."),
				"vault_sdk":  field(framework.TypeString, "Version of Vault's sdk in it."),
				"providers":  field(framework.TypeStringSlice, "Values that the provider field of an account accepts."),
				"instance_id": field(framework.TypeString, "Id in the label of every key that this mount creates; empty until it "+
					"has created one."),
			}), onAnyNode)),
		HelpSynopsis:    "Version of the plugin.",
		HelpDescription: "Shows which build of the plugin runs, which clouds it supports, and the id of this mount in the labels of its keys.",
	}}
}

func (b *backend) pathInfoRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, err := loadOrNew[instance](ctx, req.Storage, instancePath)
	if err != nil {
		return nil, err
	}
	commit, goVersion, sdk := b.build.facts()
	return &logical.Response{Data: map[string]any{
		"version":     b.build.name(),
		"commit":      commit,
		"go_version":  goVersion,
		"vault_sdk":   sdk,
		"providers":   clouds.Names(),
		"instance_id": stored.ID,
	}}, nil
}

const (
	metricsPath        = "metrics"
	metricsContentType = "text/plain; version=0.0.4; charset=utf-8"
)

func (b *backend) pathMetrics() []*framework.Path {
	return []*framework.Path{{
		Pattern:      metricsPath,
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "read", OperationSuffix: "metrics"},
		// No fields: the sdk keeps the names of a raw answer's parts out of schemas. What is counted is in the active node's memory.
		Operations: only(logical.ReadOperation, pathOperation("", "Read the engine's metrics in Prometheus's text format.", b.pathMetricsRead,
			map[int][]framework.Response{http.StatusOK: {{Description: "OK", MediaType: "text/plain"}}}, onActive)),
		HelpSynopsis: "The engine's metrics in Prometheus's text format.",
		HelpDescription: "Leased keys by role, durations of issue, renewal and revocation, API calls and their errors, clean-ups that " +
			"are stuck, and when the engine keys expire. It neither calls the cloud nor reads the ledger. Counters begin at 0 with the process. " +
			"A performance standby forwards to the active node; a performance secondary returns its own. On the command line: " +
			"vault read -format=raw.",
	}}
}

func (b *backend) pathMetricsRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	accounts, err := b.accountMetrics(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	slots, err := b.slotsByRole(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	var text metricsText
	b.writeMetrics(&text, accounts, slots, time.Now())
	return &logical.Response{Data: map[string]any{
		logical.HTTPContentType: metricsContentType,
		logical.HTTPRawBody:     text.String(),
		logical.HTTPStatusCode:  http.StatusOK,
	}}, nil
}
