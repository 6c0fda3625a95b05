// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
)

// invalidatedKeys is one key of storage of each kind that the engine keeps in memory, and one of none.
var invalidatedKeys = []string{
	configPrefix + "default",
	rolePrefix + "app",
	policyPrefix + "default",
	ledger.Prefix + "default/label",
	instancePath,
	"else",
}

// invalidateAll says which invalidation does not return. OpenBao gives each two seconds on a standby, and a standby whose memory is
// behind its storage goes on with an old role or a replaced engine key.
func (v *testVault) invalidateAll() {
	v.t.Helper()
	for _, key := range invalidatedKeys {
		done := make(chan struct{})
		go func() {
			v.engine.InvalidateKey(v.t.Context(), key)
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			v.t.Errorf("the invalidation of %s waits", key)
		}
	}
}

// hang sends requests while something hangs, and returns once stuck is told of one that waits for it.
func (v *testVault) hang(stuck <-chan struct{}, requests ...*logical.Request) (wait func()) {
	var group sync.WaitGroup
	for _, req := range requests {
		req.Storage = v.storage
		group.Go(func() { _, _ = v.engine.HandleRequest(v.t.Context(), req) })
	}
	<-stuck
	return group.Wait
}

func TestAnInvalidationWaitsForNothing(t *testing.T) {
	t.Run("not for storage", func(t *testing.T) {
		for _, prefix := range []string{configPrefix, rolePrefix, policyPrefix, ledger.Prefix, instancePrefix} {
			t.Run(prefix, func(t *testing.T) {
				v := newTestVault(t)
				v.configure("max_active_keys=5")
				v.lease("app")
				v.restart() // which remembers nothing
				stuck, release := make(chan struct{}, 1000), make(chan struct{})
				v.storage.before = func(_, key string) error {
					if strings.HasPrefix(key, prefix) {
						stuck <- struct{}{}
						<-release
					}
					return nil
				}
				wait := v.hang(
					stuck,
					&logical.Request{Operation: logical.ReadOperation, Path: "creds/app"},
					&logical.Request{Operation: logical.ListOperation, Path: "keys/"},
				)
				v.invalidateAll()
				close(release)
				wait()
			})
		}
	})
	t.Run("not for the cloud", func(t *testing.T) {
		v := newTestVault(t)
		stuck, release, live := make(chan struct{}, 1000), make(chan struct{}), v.base
		hangs := false
		v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
			if hangs {
				stuck <- struct{}{}
				<-release
			}
			return live.RoundTrip(req)
		})
		v.configure()
		v.lease("app")
		hangs = true
		wait := v.hang(
			stuck,
			&logical.Request{Operation: logical.ReadOperation, Path: "creds/app"},
			&logical.Request{Operation: logical.UpdateOperation, Path: "rotate-root/default"},
			&logical.Request{Operation: logical.ReadOperation, Path: "check/default"},
			&logical.Request{Operation: logical.UpdateOperation, Path: "policy/default"},
		)
		v.invalidateAll()
		close(release)
		wait()
	})
	t.Run("and calls neither", func(t *testing.T) {
		v := newTestVault(t)
		v.configure()
		v.lease("app")
		var calls []string
		v.storage.before = func(op, key string) error {
			calls = append(calls, op+" "+key)
			return nil
		}
		before := len(v.sim.Calls())
		v.invalidateAll()
		if len(calls) != 0 || len(v.sim.Calls()) != before {
			t.Errorf("storage: %v, and %d calls of the cloud", slices.Compact(calls), len(v.sim.Calls())-before)
		}
	})
}
