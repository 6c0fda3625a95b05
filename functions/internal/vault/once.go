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
	if runEnded(ctx) != nil {
		return false, nil
	}
	if isLease(ctx) {
		neverSent := err != nil && transport.NeverConnected(err)
		turnedAway := err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusPreconditionFailed)
		if !neverSent && !turnedAway {
			return false, nil
		}
	}
	return api.DefaultRetryPolicy(ctx, resp, err)
}

// A cancelled run still waits so long for the answer that tells what it must give back: the shorter where a session has a token
// to give back already, since Lambda kills the process half a second after SIGTERM.
const (
	answerTimeout      = 2 * time.Second
	laterAnswerTimeout = 200 * time.Millisecond
)

// runKey is where a longer context keeps the run's own.
type runKey struct{}

// awaiting is the context of a request that makes a token or a lease. One that was sent has made it, even where ctx is
// cancelled before the answer (SIGTERM), and only who reads the answer can give it back. None is sent once ctx has ended.
func awaiting(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), runKey{}, ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(timeout, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// runEnded tells why the run has ended on whose behalf a request is made; nil: it has not.
func runEnded(ctx context.Context) error {
	if run, longer := ctx.Value(runKey{}).(context.Context); longer {
		ctx = run
	}
	return ctx.Err()
}
