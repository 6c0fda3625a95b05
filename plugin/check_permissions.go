// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// checkPermissions asks whether the engine's key may make the calls that the account's
// roles need, where the cloud tells that without making them.
func (c *checkup) checkPermissions(ctx context.Context, s logical.Storage) error {
	prober, ok := c.account.cloud.(provider.PermissionProber)
	if !ok || c.lost || c.outOfTime(ctx) {
		return nil
	}
	uses, err := usesOf(ctx, s, c.account.name)
	if err != nil {
		return err
	}
	for _, problem := range prober.ProbePermissions(ctx, uses...) {
		c.failed(ctx, problem)
	}
	return nil
}

// usesOf is what the roles of an account need its key for.
func usesOf(ctx context.Context, s logical.Storage, account string) ([]provider.Use, error) {
	names, err := s.List(ctx, rolePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing roles: %w", err)
	}
	needed := map[provider.Use]bool{provider.UseKeys: true}
	for _, name := range names {
		role, err := load[roleEntry](ctx, s, rolePrefix+name)
		if err != nil {
			return nil, err
		}
		if role == nil || role.Account != account || role.CredentialType != credentialIAMUser {
			continue
		}
		needed[provider.UseUsers] = true
		needed[provider.UseInlinePolicies] = needed[provider.UseInlinePolicies] || role.PolicyDocument != ""
		needed[provider.UseManagedPolicies] = needed[provider.UseManagedPolicies] || len(role.PolicyORNs) > 0
		needed[provider.UseGroups] = needed[provider.UseGroups] || len(role.Groups) > 0
	}
	var uses []provider.Use
	for _, use := range []provider.Use{
		provider.UseKeys, provider.UseUsers, provider.UseInlinePolicies, provider.UseManagedPolicies, provider.UseGroups,
	} {
		if needed[use] {
			uses = append(uses, use)
		}
	}
	return uses, nil
}

// checkClock compares the clocks by the answers that came so far. A key's date counts by
// the cloud's clock, a lease's end by this machine's.
func (c *checkup) checkClock() {
	clock, ok := c.account.cloud.(provider.ClockSkew)
	if !ok {
		return
	}
	skew, known := clock.ClockSkew()
	if c.skew = skew; !known || skew.Abs() <= clockMargin {
		return
	}
	side := "behind"
	if skew < 0 {
		side = "ahead of"
	}
	c.warning(fmt.Sprintf("this machine's clock is %s %s the cloud's, and leases allow for %s", skew.Abs().Round(time.Second), side, clockMargin),
		"set it by NTP, or keys end before their leases, dates are refused, and signatures too in the end")
}
