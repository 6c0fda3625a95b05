// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	listedIdentities = 12_500 // with eight keys each, as in the functions' benchmark
	keysOfEach       = 8
	listers          = 16
)

// The environment of the process that lists.
const (
	listEndpoint  = "BENCH_LIST_ENDPOINT"
	listAccessKey = "BENCH_LIST_ACCESS_KEY"
	listSecretKey = "BENCH_LIST_SECRET_KEY"
)

// plainListing is the CPU time that it takes to list keys and do nothing else, in microseconds a key: another process of this program
// does it, with the client that the functions have.
func plainListing(ctx context.Context) (float64, error) {
	sim := cloudsim.New()
	account := sim.AddAccount("123456789012")
	for i := range listedIdentities {
		user := fmt.Sprintf("user-%06d", i)
		account.AddUser(user)
		for range keysOfEach {
			account.AddKey(cloudsim.KeySpec{User: user, Created: time.Now()})
		}
	}
	server := httptest.NewServer(sim)
	defer server.Close()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	root := account.RootKey()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), listEndpoint+"="+server.URL+"/api/v1", listAccessKey+"="+root.AccessKey, listSecretKey+"="+root.SecretKey)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("listing keys: %w", err)
	}
	spent := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return float64(spent.Microseconds()) / (listedIdentities * keysOfEach), nil
}

// list is that other process.
func list(ctx context.Context, endpoint string) error {
	cloud, err := clouds.Open(provider.Config{
		Provider: "outscale", AccessKey: os.Getenv(listAccessKey), SecretKey: provider.Secret(os.Getenv(listSecretKey)), Region: "eu-west-2",
		Endpoint: endpoint, PerSecond: 1e6, Timeout: time.Minute, UserAgent: "bench",
	})
	if err != nil {
		return err
	}
	var users []string
	for user, err := range cloud.ListUsers(ctx) {
		if err != nil {
			return err
		}
		users = append(users, user.Name)
	}
	var keys atomic.Int64
	_, err = run(ctx, listers, len(users), func(ctx context.Context, i int) error {
		found, err := cloud.ListKeys(ctx, users[i])
		keys.Add(int64(len(found)))
		return err
	})
	if err == nil && keys.Load() < listedIdentities*keysOfEach {
		err = errors.New("not all keys were listed")
	}
	return err
}
