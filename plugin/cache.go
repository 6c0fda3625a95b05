// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// cache keeps entries of storage that every lease needs and few requests change: each read is a call to the server, which
// takes it as long as a write in memory does. Who writes or removes an entry drops it here afterwards, whether that worked
// or not; what another node writes is dropped by backend.invalidate.
type cache[T any] struct {
	mu      sync.Mutex // never held across a storage call
	entries map[string]*T
	drops   int
}

func newCache[T any]() *cache[T] { return &cache[T]{entries: map[string]*T{}} }

// load reads an entry, from storage at its first use; nil where there is none. The entry is shared and must not be changed.
func (c *cache[T]) load(ctx context.Context, s logical.Storage, path string) (*T, error) {
	c.mu.Lock()
	entry, known := c.entries[path]
	drops := c.drops
	c.mu.Unlock()
	if known {
		return entry, nil
	}
	entry, err := load[T](ctx, s, path)
	if err != nil || entry == nil { // names of what is not there come from requests, and would fill the memory
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drops == drops { // else the entry may be older than what was written meanwhile
		c.entries[path] = entry
	}
	return entry, nil
}

// drop forgets an entry that has changed.
func (c *cache[T]) drop(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	delete(c.entries, path)
}
