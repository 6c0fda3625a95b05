// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// profile has the engine write a CPU profile while it leases, as a plugin that does not know it: where the processor's time goes, the
// plugin protocol included. What is shipped has no profiler; profiledplugin has.
func profile(ctx context.Context, bin, file string) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20))
	server := httptest.NewServer(sim)
	defer server.Close()
	storage := &countingStorage{Storage: &logical.InmemStorage{}}
	h, err := startHost(ctx, filepath.Join(bin, profiledFile), storage, "PROFILEDPLUGIN_FILE="+path)
	if err != nil {
		return err
	}
	defer h.stop(ctx)
	if err := h.configure(ctx, sim, server.URL); err != nil {
		return err
	}
	account, users := sim.AddAccount("123456789012"), make([]string, 1200)
	for i := range users {
		users[i] = fmt.Sprintf("pool-%d", i)
		account.AddUser(users[i])
	}
	pool := map[string]any{"user_names": strings.Join(users[:poolUsers], ","), "ttl": "1h"}
	if _, err := h.ask(ctx, logical.CreateOperation, "roles/pool", pool); err != nil {
		return err
	}
	const leases = 10_000
	_, err = run(ctx, 16, leases, func(ctx context.Context, _ int) error {
		_, err := h.ask(ctx, logical.ReadOperation, "creds/pool", nil)
		return err
	})
	return err
}
