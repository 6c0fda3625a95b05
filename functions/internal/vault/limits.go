// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
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

// LongestKeys tells for each account the longest life of a key that the engine gives out
// there if no access policy bounds it.
func (s *Session) LongestKeys(ctx context.Context, accounts []fleet.Account) (map[string]time.Duration, error) {
	mount, err := s.MaxLease(ctx)
	if err != nil {
		return nil, err
	}
	longest := map[string]time.Duration{}
	byName := map[string]fleet.Account{}
	for _, a := range accounts {
		byName[a.Name] = a
		longest[a.Name] = lifetime.EngineKeyNeeds(a.Rotation)
	}
	err = s.each(ctx, "roles", func(role fields) error {
		a := byName[role.text("account")]
		lease, _ := lifetime.Bounds{Role: role.seconds("max_ttl"), Account: a.MaxTTL, Mount: mount}.MaxLease()
		longest[a.Name] = max(longest[a.Name], lease+a.ExpiryGrace+lifetime.ClockMargin)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return longest, s.each(ctx, "static-roles", func(role fields) error {
		name := role.text("account")
		needs, err := lifetime.Static{
			Period: role.seconds("rotation_period"), Schedule: role.text("rotation_schedule"),
			Window: role.seconds("rotation_window"), Grace: role.seconds("rotation_grace_period"),
		}.Needs(time.Now())
		longest[name] = max(longest[name], needs+lifetime.ClockMargin)
		return err
	})
}

// each reads every entry of a listed path.
func (s *Session) each(ctx context.Context, path string, visit func(fields) error) error {
	names, err := s.list(ctx, path, nil)
	if err != nil {
		return err
	}
	for _, name := range names.keys {
		entry, err := s.read(ctx, path+"/"+name, nil)
		if err != nil {
			return err
		}
		if err := visit(entry); err != nil {
			return fmt.Errorf("%s/%s: %w", path, name, err)
		}
	}
	return nil
}
