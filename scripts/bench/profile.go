// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"runtime/pprof"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// profile writes a CPU profile of the engine while it leases, without a server: where its own time goes. The simulated cloud
// is in the same process, and in the profile.
func (b *bench) profile(ctx context.Context, path string) (err error) {
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20)) // one user has all keys
	server := httptest.NewServer(sim)
	defer server.Close()
	p, err := newInProcess(ctx, sim, server.URL)
	if err != nil {
		return err
	}
	defer p.backend.Cleanup(ctx)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	const leases = 10_000
	for range leases {
		if _, err := p.ask(ctx, logical.ReadOperation, "creds/app", nil); err != nil {
			return err
		}
	}
	return nil
}
