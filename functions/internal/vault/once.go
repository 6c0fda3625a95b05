// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// leaseKey marks the context of a request that leases a key. It is a GET, which HTTP takes for one that
// may be repeated, and each repetition leases another key, of which nobody here learns.
type leaseKey struct{}

func leasing(ctx context.Context) context.Context { return context.WithValue(ctx, leaseKey{}, true) }

func isLease(ctx context.Context) bool { return ctx.Value(leaseKey{}) != nil }

// again decides whether Vault's client repeats a request: a lease only where the first one certainly had no
// effect. HTTP 503 is not such a case, since proxies say it of connections that they lost too.
func again(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if isLease(ctx) {
		neverSent := err != nil && transport.NeverConnected(err)
		turnedAway := err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusPreconditionFailed)
		if !neverSent && !turnedAway {
			return false, nil
		}
	}
	return api.DefaultRetryPolicy(ctx, resp, err)
}
