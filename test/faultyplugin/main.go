// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command faultyplugin is the secrets engine with a storage that fails on order, for
// tests on a real server. It is no part of what is shipped.
//
// Before and after each write it asks the URL in FAULTYPLUGIN_ORDERS what is to become of
// it, and heeds the answer: anything else than "fail" and "die" lets the write pass.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
)

// ordersVariable names the environment variable that the plugin is registered with.
const ordersVariable = "FAULTYPLUGIN_ORDERS"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	orders := os.Getenv(ordersVariable)
	if orders == "" {
		return errors.New("this plugin is for tests, which set " + ordersVariable)
	}
	factory := cloudkeys.Factory(cloudkeys.Build{})
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		TLSProviderFunc: api.VaultPluginTLSProvider(meta.GetTLSConfig()),
		BackendFactoryFunc: func(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
			engine, err := factory(ctx, config)
			return &backend{Backend: engine, orders: orders}, err
		},
	})
}

// backend gives the engine a faulty storage with every request.
type backend struct {
	logical.Backend
	orders string
}

// HandleRequest implements logical.Backend.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	req.Storage = &storage{Storage: req.Storage, mount: req.MountPoint, orders: b.orders}
	return b.Backend.HandleRequest(ctx, req)
}

// storage asks before and after each write.
type storage struct {
	logical.Storage
	mount  string
	orders string
}

// Put implements logical.Storage.
func (s *storage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return s.write(ctx, "put", entry.Key, func() error { return s.Storage.Put(ctx, entry) })
}

// Delete implements logical.Storage.
func (s *storage) Delete(ctx context.Context, key string) error {
	return s.write(ctx, "delete", key, func() error { return s.Storage.Delete(ctx, key) })
}

func (s *storage) write(ctx context.Context, operation, key string, do func() error) error {
	if err := s.heed(ctx, "before", operation, key); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return s.heed(ctx, "after", operation, key)
}

// question is what the plugin asks of a write.
type question struct {
	Mount     string `json:"mount"`
	When      string `json:"when"` // before or after
	Operation string `json:"operation"`
	Key       string `json:"key"`
}

// heed asks what is to be done, and does it.
func (s *storage) heed(ctx context.Context, when, operation, key string) error {
	answer, err := s.ask(ctx, question{Mount: s.mount, When: when, Operation: operation, Key: key})
	if err != nil {
		return fmt.Errorf("asking %s for orders: %w", s.orders, err)
	}
	switch answer {
	case "fail":
		return fmt.Errorf("the test fails this write: %s %s %s", when, operation, key)
	case "die":
		// As kill -9 does: nothing is written or told any more.
		return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("the plugin has killed itself"))
	default:
		return nil
	}
}

func (s *storage) ask(ctx context.Context, q question) (string, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return "", err
	}
	// A clean-up goes on when its request was cancelled, and its writes are asked for, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.orders, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	return string(answer), err
}
