// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// Refresh implements policysync.Vault.
func (s *Session) Refresh(ctx context.Context, account string) error {
	path := s.config.Engine + "/policy/" + account
	_, err := s.do(ctx, "writing "+path, func() (*api.Secret, error) {
		return s.client.Logical().WriteWithContext(ctx, path, nil)
	})
	return err
}

// MaxLease implements policysync.Vault.
func (s *Session) MaxLease(ctx context.Context) (time.Duration, error) {
	secret, err := s.do(ctx, "reading "+s.tunePath(), func() (*api.Secret, error) {
		return s.client.Logical().ReadWithContext(ctx, s.tunePath())
	})
	if err != nil {
		return 0, err
	}
	if secret == nil || fields(secret.Data).seconds("max_lease_ttl") == 0 {
		return 0, empty("reading "+s.tunePath(), "the answer holds no max_lease_ttl")
	}
	return fields(secret.Data).seconds("max_lease_ttl"), nil
}

// TuneMaxLease implements policysync.Vault.
func (s *Session) TuneMaxLease(ctx context.Context, longest time.Duration) error {
	_, err := s.do(ctx, "writing "+s.tunePath(), func() (*api.Secret, error) {
		return s.client.Logical().WriteWithContext(ctx, s.tunePath(), map[string]any{
			"max_lease_ttl": strconv.Itoa(int(longest/time.Second)) + "s",
		})
	})
	return err
}

func (s *Session) tunePath() string { return "sys/mounts/" + s.config.Engine + "/tune" }

// LongestKey tells the longest life of a key that the engine gives out on an account if no access
// policy bounds it, as the engine works it out. 0: it gives out none.
func (s *Session) LongestKey(ctx context.Context, account string) (time.Duration, error) {
	policy, err := s.read(ctx, "policy/"+account, nil)
	return policy.seconds("longest_key_lifetime"), err
}
