// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// newClient is a client that heeds no VAULT_ variable of the caller's
// environment: an operator's token, namespace, agent or proxy is for another
// server.
func newClient(addr string) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address: addr,
		Timeout: time.Minute,
		HttpClient: &http.Client{
			Transport: &http.Transport{},
			// The api client follows redirects by itself.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", addr, err)
	}
	client.ClearNamespace()
	client.ClearToken()
	return client, nil
}

// Ask sends one request with the root token to this node and no other, and returns the HTTP status and what it
// answers: a node that cannot forward a request sends the client to the leader with 307, which Client follows.
func (s *Server) Ask(ctx context.Context, method, path, body string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.Addr()+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("X-Vault-Token", s.Token())
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", s.Addr(), err)
	}
	said, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(said), errors.Join(err, resp.Body.Close())
}

// initialize creates the core's one unseal key and the root token, and unseals.
func (s *Server) initialize(ctx context.Context) error {
	keys, err := s.Client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return fmt.Errorf("initialize the server: %w", err)
	}
	s.unsealKey = keys.Keys[0]
	s.Client.SetToken(keys.RootToken)
	return s.Unseal(ctx)
}

// Unseal unseals the core and returns when it is active; a node of a cluster, when
// it is active or a standby.
func (s *Server) Unseal(ctx context.Context) error {
	if _, err := s.Client.Sys().UnsealWithContext(ctx, s.unsealKey); err != nil {
		return fmt.Errorf("unseal the server: %w", err)
	}
	if s.options.node != "" {
		return s.waitForHealth(ctx, "it was unsealed", unsealed)
	}
	return s.waitForHealth(ctx, "it was active", active)
}

// Seal seals the core and returns when it is sealed. Its plugins are ended.
func (s *Server) Seal(ctx context.Context) error {
	if err := s.Client.Sys().SealWithContext(ctx); err != nil {
		return fmt.Errorf("seal the server: %w", err)
	}
	return s.waitForHealth(ctx, "it was sealed", sealed)
}

// StepDown makes a server alone on raft storage give up being active, and returns
// when it is active again; a node of a cluster is stepped down by the cluster. Vault
// waits ten seconds before it stands for election after a step-down, so this takes
// that long.
func (s *Server) StepDown(ctx context.Context) error {
	if s.options.Dev {
		return errors.New("this server keeps its data in memory and has no standby state to step down to")
	}
	if err := s.Client.Sys().StepDownWithContext(ctx); err != nil {
		return fmt.Errorf("step the server down: %w", err)
	}
	if err := s.waitForHealth(ctx, "it had stepped down", standby); err != nil {
		return err
	}
	return s.waitForHealth(ctx, "it was active again", active)
}

func sealed(h *api.HealthResponse) bool   { return h.Sealed }
func unsealed(h *api.HealthResponse) bool { return h.Initialized && !h.Sealed }
func active(h *api.HealthResponse) bool   { return unsealed(h) && !h.Standby }
func standby(h *api.HealthResponse) bool  { return unsealed(h) && h.Standby }

// waitForHealth waits until the server's health is as wanted.
func (s *Server) waitForHealth(ctx context.Context, state string, wanted func(*api.HealthResponse) bool) error {
	return s.waitFor(ctx, state, func() bool {
		health, err := s.Client.Sys().HealthWithContext(ctx)
		return err == nil && wanted(health)
	})
}

// waitFor asks again and again whether a state is reached. It gives up when the
// process ends or ctx is done.
func (s *Server) waitFor(ctx context.Context, state string, reached func() bool) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !reached() {
		select {
		case <-s.process.done:
			return fmt.Errorf("the server ended before %s (%s)", state, s.process.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("the server still ran, but time was up before %s: %w", state, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}
