// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"errors"
	"fmt"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// maxLifetimeSeconds is the API's upper bound, a hundred years. What is larger would
// overflow a time.Duration.
const maxLifetimeSeconds = 3_153_600_000

// AccessPolicy implements provider.PolicyReader. A policy without its number is
// an error: taken for 0 it would mean "unlimited".
func (c *Client) AccessPolicy(ctx context.Context) (provider.AccessPolicy, error) {
	const op = "ReadApiAccessPolicy"
	answer, resp, err := c.api.ApiAccessPolicyApi.ReadApiAccessPolicy(ctx).
		ReadApiAccessPolicyRequest(osc.ReadApiAccessPolicyRequest{}).Execute()
	if err := c.fault(op, resp, err); err != nil {
		return provider.AccessPolicy{}, err
	}
	return readPolicy(op, resp.StatusCode, answer.ApiAccessPolicy)
}

// SetMaxKeyLifetime changes the policy's bound on the life of keys; 0 means
// unlimited. The API wants the policy's other field in the same call, so it is
// read first and sent back: left out, trusted sessions would be switched off.
func (c *Client) SetMaxKeyLifetime(ctx context.Context, lifetime time.Duration) (provider.AccessPolicy, error) {
	const op = "UpdateApiAccessPolicy"
	if lifetime < 0 || lifetime > 0 && lifetime < time.Second {
		return provider.AccessPolicy{}, fmt.Errorf("a key lifetime of %s cannot be set: give whole seconds, or 0 for unlimited", lifetime)
	}
	policy, err := c.AccessPolicy(ctx)
	if err != nil {
		return provider.AccessPolicy{}, err
	}
	answer, resp, err := c.api.ApiAccessPolicyApi.UpdateApiAccessPolicy(ctx).
		UpdateApiAccessPolicyRequest(osc.UpdateApiAccessPolicyRequest{
			MaxAccessKeyExpirationSeconds: int64(lifetime / time.Second),
			RequireTrustedEnv:             policy.RequireTrustedEnv,
		}).Execute()
	err = c.fault(op, resp, err)
	var refused *provider.Error
	if errors.As(err, &refused) && (refused.Kind == provider.KindInvalid || refused.Kind == provider.KindConflict) {
		refused.Kind = provider.KindPolicyViolated
	}
	if err != nil {
		return provider.AccessPolicy{}, err
	}
	return readPolicy(op, resp.StatusCode, answer.ApiAccessPolicy)
}

func readPolicy(op string, status int, p *osc.ApiAccessPolicy) (provider.AccessPolicy, error) {
	if p == nil || p.MaxAccessKeyExpirationSeconds == nil || p.RequireTrustedEnv == nil {
		return provider.AccessPolicy{}, unreadable(op, status, "the answer lacks a part of the policy")
	}
	if seconds := *p.MaxAccessKeyExpirationSeconds; seconds < 0 || seconds > maxLifetimeSeconds {
		return provider.AccessPolicy{}, unreadable(op, status, "the answer's MaxAccessKeyExpirationSeconds is out of range")
	}
	return provider.AccessPolicy{
		MaxKeyLifetime:    time.Duration(*p.MaxAccessKeyExpirationSeconds) * time.Second,
		RequireTrustedEnv: *p.RequireTrustedEnv,
	}, nil
}
