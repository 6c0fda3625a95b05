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
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	held := b.wantLock(path)
	select {
	case held.turn <- struct{}{}:
		return func() {
			<-held.turn
			b.leaveLock(path, held)
		}, nil
	case <-ctx.Done():
		b.leaveLock(path, held)
		return nil, fmt.Errorf("another change of %s takes too long: %w", path, ctx.Err())
	}
}

// pathLock is the lock of one path. It is kept as long as somebody wants it: names come
// from requests, and those that are not there must not stay in memory either.
type pathLock struct {
	turn   chan struct{}
	wanted int // guarded by locksLock
}

func (b *backend) wantLock(path string) *pathLock {
	b.locksLock.Lock()
	defer b.locksLock.Unlock()
	held, ok := b.locks[path]
	if !ok {
		held = &pathLock{turn: make(chan struct{}, 1)}
		b.locks[path] = held
	}
	held.wanted++
	return held
}

func (b *backend) leaveLock(path string, held *pathLock) {
	b.locksLock.Lock()
	defer b.locksLock.Unlock()
	if held.wanted--; held.wanted == 0 {
		delete(b.locks, path)
	}
}
