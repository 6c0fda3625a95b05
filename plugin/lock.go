// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
)

// lock lets one change of a storage entry run at a time: a rotation would otherwise
// overwrite what an operator writes meanwhile. Locks are channels, so that waiting ends with
// the context, and fake time in tests sees it. Where several are held, they are taken in this
// order: static role, its user, account.
func (b *backend) lock(ctx context.Context, path string) (unlock func(), err error) {
	b.locksLock.Lock()
	held, ok := b.locks[path]
	if !ok {
		held = make(chan struct{}, 1)
		b.locks[path] = held
	}
	b.locksLock.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	select {
	case held <- struct{}{}:
		return func() { <-held }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another change of %s takes too long: %w", path, ctx.Err())
	}
}
