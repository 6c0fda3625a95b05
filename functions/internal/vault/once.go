// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"net/http"
	"time"

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

// answerTimeout bounds what a cancelled run still waits for the answer that tells what it must give back.
const answerTimeout = 2 * time.Second

// awaiting is the context of a request that makes a token or a lease. One that was sent has made it, even where ctx is
// cancelled before the answer (SIGTERM), and only who reads the answer can give it back. None is sent where ctx has ended.
func awaiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(answerTimeout, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}
