// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// clockMargin is what the engine keeps free below the account's access policy.
	clockMargin = 5 * time.Second
	// rotationLead is the least time that the engine takes for a rotation.
	rotationLead = 3 * time.Minute
)

// Slack is how much longer than its lease a key of the account lives.
func (a Account) Slack() time.Duration { return a.ExpiryGrace + clockMargin }

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
// there if no access policy bounds it. 0: it cannot be told, as where a static role has a
// schedule, whose longest gap the engine alone can work out.
func (s *Session) LongestKeys(ctx context.Context, accounts []Account) (map[string]time.Duration, error) {
	mount, err := s.MaxLease(ctx)
	if err != nil {
		return nil, err
	}
	longest := map[string]time.Duration{}
	byName := map[string]Account{}
	for _, a := range accounts {
		byName[a.Name] = a
		longest[a.Name] = 2 * a.Rotation // the engine dates its own key so far ahead
	}
	err = s.each(ctx, "roles", func(role fields) {
		a := byName[role.text("account")]
		longest[a.Name] = max(longest[a.Name], shortest(mount, a.MaxTTL, role.seconds("max_ttl"))+a.Slack())
	})
	if err != nil {
		return nil, err
	}
	var scheduled []string
	err = s.each(ctx, "static-roles", func(role fields) {
		name := role.text("account")
		if role.text("rotation_schedule") != "" {
			scheduled = append(scheduled, name)
		}
		needs := role.seconds("rotation_period") + role.seconds("rotation_window") + max(role.seconds("rotation_grace_period"), rotationLead) + clockMargin
		longest[name] = max(longest[name], needs)
	})
	for _, name := range scheduled {
		longest[name] = 0
	}
	return longest, err
}

// each reads every entry of a listed path.
func (s *Session) each(ctx context.Context, path string, visit func(fields)) error {
	names, err := s.list(ctx, path, nil)
	if err != nil {
		return err
	}
	for _, name := range names.keys {
		entry, err := s.read(ctx, path+"/"+name, nil)
		if err != nil {
			return err
		}
		visit(entry)
	}
	return nil
}

// shortest is the least of the limits that are set.
func shortest(limits ...time.Duration) time.Duration {
	var least time.Duration
	for _, limit := range limits {
		if limit > 0 && (least == 0 || limit < least) {
			least = limit
		}
	}
	return least
}
