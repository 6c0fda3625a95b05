// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// leases issues n leases from an engine, and returns their ids with what the clients saw.
func (s *stage) leases(ctx context.Context, e engine, clients, n int) ([]string, load, error) {
	ids := make([]string, n)
	l, err := run(ctx, clients, n, func(ctx context.Context, i int) error {
		secret, err := s.client.Logical().ReadWithContext(ctx, e.pathOf(i))
		if err != nil {
			return err
		}
		if secret == nil || secret.LeaseID == "" {
			return fmt.Errorf("%s: no lease", e.path)
		}
		ids[i] = secret.LeaseID
		return nil
	})
	return ids, l, err
}

// revoke revokes leases one by one, each answered when its key is gone.
func (s *stage) revoke(ctx context.Context, ids []string, clients int) (load, error) {
	return run(ctx, clients, len(ids), func(ctx context.Context, i int) error {
		return s.client.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: ids[i], Sync: true})
	})
}

func (s *stage) renew(ctx context.Context, ids []string, clients int) (load, error) {
	return run(ctx, clients, len(ids), func(ctx context.Context, i int) error {
		_, err := s.client.Sys().RenewWithContext(ctx, ids[i], 1800)
		return err
	})
}

// tokens are leases of Vault's own, without a plugin.
func (s *stage) tokens(ctx context.Context, n int) ([]string, load, error) {
	tokens := make([]string, n)
	l, err := run(ctx, 1, n, func(ctx context.Context, i int) error {
		secret, err := s.client.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"default"}, TTL: "20m"})
		if err == nil {
			tokens[i] = secret.Auth.ClientToken
		}
		return err
	})
	return tokens, l, err
}

func (s *stage) renewTokens(ctx context.Context, tokens []string) (load, error) {
	return run(ctx, 1, len(tokens), func(ctx context.Context, i int) error {
		_, err := s.client.Auth().Token().RenewWithContext(ctx, tokens[i], 1200)
		return err
	})
}

// keyValues is the floor: a write of Vault's own, with a lease's size of data.
func (s *stage) keyValues(ctx context.Context, clients, n int) (load, error) {
	return run(ctx, clients, n, func(ctx context.Context, i int) error {
		lease := map[string]any{"access_key": "AKIABENCH", "secret_key": "0123456789012345678901234567890123456789"}
		return s.write(ctx, fmt.Sprintf("kv/bench-%d", i), lease)
	})
}

// bareCalls are calls to a fake cloud by a client that does nothing else: what its latency comes to on this machine.
func (s *stage) bareCalls(ctx context.Context, n int) (load, error) {
	return run(ctx, 1, n, func(ctx context.Context, _ int) error {
		form := strings.NewReader("Action=ListAccessKeys&UserName=nobody")
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.iamAddress, form)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	})
}

// callsOf counts the calls to an engine's cloud while something is done.
func (s *stage) callsOf(e engine, do func() error) (int64, error) {
	count := func() int64 {
		if e == awsUsers {
			return s.iam.calls.Load()
		}
		return s.calls.Load()
	}
	before := count()
	err := do()
	return count() - before, err
}
