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
	answer, resp, err := c.api.readApiAccessPolicy(ctx, osc.ReadApiAccessPolicyRequest{})
	if err := c.fault(op, resp, err); err != nil {
		return provider.AccessPolicy{}, err
	}
	return readPolicy(op, resp.StatusCode, answer.ApiAccessPolicy)
}

// SetAccessPolicy implements provider.PolicyWriter. The call has no optional field: what
// is left out, the API would set to zero. What the API cannot express is refused here,
// since a part of a second would be cut to 0, which means "unlimited".
func (c *Client) SetAccessPolicy(ctx context.Context, policy provider.AccessPolicy) error {
	const op = "UpdateApiAccessPolicy"
	seconds := int64(policy.MaxKeyLifetime / time.Second)
	if time.Duration(seconds)*time.Second != policy.MaxKeyLifetime || seconds < 0 || seconds > maxLifetimeSeconds {
		return fmt.Errorf("a key lifetime of %s cannot be set: give whole seconds up to a hundred years, or 0 for unlimited", policy.MaxKeyLifetime)
	}
	if seconds == 0 && policy.RequireTrustedEnv {
		return fmt.Errorf("an unlimited key lifetime cannot be set while RequireTrustedEnv is true: OUTSCALE's trusted sessions need a limit")
	}
	answer, resp, err := c.api.updateApiAccessPolicy(ctx, osc.UpdateApiAccessPolicyRequest{
		MaxAccessKeyExpirationSeconds: seconds,
		RequireTrustedEnv:             policy.RequireTrustedEnv,
	})
	err = c.fault(op, resp, err)
	var refused *provider.Error
	if errors.As(err, &refused) && (refused.Kind == provider.KindInvalid || refused.Kind == provider.KindConflict) {
		refused.Kind = provider.KindPolicyViolated
	}
	if err != nil {
		return err
	}
	_, err = readPolicy(op, resp.StatusCode, answer.ApiAccessPolicy)
	return err
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
