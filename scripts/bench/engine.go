// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/rotation"

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// mount is a secrets engine without a server around it, where its storage can be watched.
type mount struct {
	backend logical.Backend
	storage *countingStorage
}

// newInProcess is our engine in this process, with an account.
func newInProcess(ctx context.Context, sim *cloudsim.Cloud, endpoint string) (*mount, error) {
	p, err := inProcessOn(ctx, &countingStorage{Storage: &logical.InmemStorage{}})
	if err != nil {
		return nil, err
	}
	return p, p.configure(ctx, sim, endpoint)
}

// inProcessOn is our engine in this process, on a storage that may have an account and records.
func inProcessOn(ctx context.Context, storage *countingStorage) (*mount, error) {
	backend, err := cloudkeys.Factory(cloudkeys.Build{})(ctx, mountConfig(storage))
	if err != nil {
		return nil, err
	}
	return &mount{backend: backend, storage: storage}, nil
}

// mountConfig is what a server tells a mount.
func mountConfig(storage logical.Storage) *logical.BackendConfig {
	return &logical.BackendConfig{
		StorageView: storage, Logger: hclog.NewNullLogger(),
		System: systemView{logical.StaticSystemView{
			DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 24 * time.Hour, PluginEnvironment: &logical.PluginEnvironment{},
		}},
	}
}

// systemView is a server's as far as engines ask for it.
type systemView struct{ logical.StaticSystemView }

// DeregisterRotationJob implements logical.SystemView: there is none to remove.
func (systemView) DeregisterRotationJob(context.Context, *rotation.RotationJobDeregisterRequest) error {
	return nil
}

// configure has the mount lease keys of one user of a new account.
func (p *mount) configure(ctx context.Context, sim *cloudsim.Cloud, endpoint string) error {
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
			return err
		}
	}
	for name, most := range map[string]int{"app": 0, "capped": 10 * manyRecords} {
		role := map[string]any{"user_names": "app", "ttl": "1h", "max_active_keys": most}
		if _, err := p.ask(ctx, logical.CreateOperation, "roles/"+name, role); err != nil {
			return err
		}
	}
	return nil
}

func (p *mount) ask(ctx context.Context, op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	resp, err := p.backend.HandleRequest(ctx, &logical.Request{Operation: op, Path: path, Data: data, Storage: p.storage})
	if err == nil && resp != nil {
		err = resp.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, path, err)
	}
	return resp, nil
}
