// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// maxConnectionPools bounds the ways to trust and to present oneself that are in use at once.
const maxConnectionPools = 64

// connectionPools holds one pool of connections for each such way. The accounts of a fleet
// call the same few endpoints: with a pool each, every one would begin with a handshake of
// its own, and thousands would lie idle after a look at all of them. Idle connections
// end by themselves (transport.Base).
type connectionPools struct {
	mu    sync.Mutex
	pools *simplelru.LRU[transport.TLS, *http.Transport]
}

func newConnectionPools() *connectionPools {
	pools, _ := simplelru.NewLRU(maxConnectionPools, func(_ transport.TLS, pool *http.Transport) {
		pool.CloseIdleConnections()
	}) // fails for sizes below 1 alone
	return &connectionPools{pools: pools}
}

// of returns the pool for a configuration's certificates.
func (c *connectionPools) of(t transport.TLS) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pool, ok := c.pools.Get(t); ok {
		return pool, nil
	}
	pool, err := transport.Base(t)
	if err != nil {
		return nil, err
	}
	c.pools.Add(t, pool)
	return pool, nil
}
