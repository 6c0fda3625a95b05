// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// inProcess is the engine without a server around it, where its storage can be watched.
type inProcess struct {
	backend logical.Backend
	storage *countingStorage
}

func newInProcess(ctx context.Context, sim *cloudsim.Cloud, endpoint string) (*inProcess, error) {
	storage := &countingStorage{Storage: &logical.InmemStorage{}}
	backend, err := cloudkeys.Factory(cloudkeys.Build{})(ctx, &logical.BackendConfig{
		StorageView: storage,
		System:      &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 24 * time.Hour, PluginEnvironment: &logical.PluginEnvironment{}},
	})
	if err != nil {
		return nil, err
	}
	p := &inProcess{backend: backend, storage: storage}
	account := sim.AddAccount("123456789012")
	account.AddUser("app", "api:*")
	root := account.RootKey()
	for path, data := range map[string]map[string]any{
		"config/default": {
			"provider": "outscale", "region": "eu-west-2", "endpoint": endpoint + "/api/v1", "max_requests_per_second": fast,
			"access_key": root.AccessKey, "secret_key": root.SecretKey,
		},
	} {
		if _, err := p.ask(ctx, logical.CreateOperation, path, data); err != nil {
			return nil, err
		}
	}
	_, err = p.ask(ctx, logical.CreateOperation, "roles/app", map[string]any{"user_names": "app"})
	return p, err
}

func (p *inProcess) ask(ctx context.Context, op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	resp, err := p.backend.HandleRequest(ctx, &logical.Request{Operation: op, Path: path, Data: data, Storage: p.storage})
	if err == nil && resp != nil {
		err = resp.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, path, err)
	}
	return resp, nil
}

// withoutServer times the issue of an access_key lease by the engine alone: what is beyond the cloud's latency is its own
// work, and what a client of a server waits longer is the way there and back.
func withoutServer(ctx context.Context, latency time.Duration) (p50 time.Duration, err error) {
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20)) // one user has all keys
	server := httptest.NewServer(sim)
	defer server.Close()
	p, err := newInProcess(ctx, sim, server.URL)
	if err != nil {
		return 0, err
	}
	defer p.backend.Cleanup(ctx)
	if _, err := p.ask(ctx, logical.ReadOperation, "creds/app", nil); err != nil { // the first makes the instance's id
		return 0, err
	}
	sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: latency})
	l, err := run(ctx, 1, oneClient, func(ctx context.Context, _ int) error {
		_, err := p.ask(ctx, logical.ReadOperation, "creds/app", nil)
		return err
	})
	if err != nil {
		return 0, err
	}
	return l.percentile(50), nil
}
