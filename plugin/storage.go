// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// load reads a JSON entry from storage; nil where there is none.
func load[T any](ctx context.Context, s logical.Storage, path string) (*T, error) {
	raw, err := s.Get(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("reading %s from storage: %w", path, err)
	}
	if raw == nil {
		return nil, nil
	}
	var value T
	if err := json.Unmarshal(raw.Value, &value); err != nil {
		return nil, fmt.Errorf("decoding %s from storage: %w", path, err)
	}
	return &value, nil
}

// loadOrNew reads one that need not be there: then it is empty.
func loadOrNew[T any](ctx context.Context, s logical.Storage, path string) (*T, error) {
	value, err := load[T](ctx, s, path)
	if err == nil && value == nil {
		value = new(T)
	}
	return value, err
}

// loadAll reads the entries under a prefix, by name. read is how one of them is read; nil: it was deleted since it was listed.
func loadAll[T any](ctx context.Context, s logical.Storage, prefix string, read func(name string) (*T, error)) (map[string]*T, error) {
	names, err := storedNames(ctx, s, prefix)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]*T, len(names))
	for _, name := range names {
		entry, err := read(name)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			entries[name] = entry
		}
	}
	return entries, nil
}

// save writes a JSON entry to storage.
func save(ctx context.Context, s logical.Storage, path string, value any) error {
	entry, err := logical.StorageEntryJSON(path, value)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	if err := s.Put(ctx, entry); err != nil {
		return fmt.Errorf("writing %s to storage: %w", path, err)
	}
	return nil
}

// largestEntry is what an operator may have stored. Consul takes 512 KiB, integrated storage twice that, and the engine adds to an
// entry; the certificates of all authorities of the web have 220.
const largestEntry = 384 << 10

// checkSize refuses what some storage could not take: the server would answer with an internal error.
func checkSize(path string, value any) error {
	raw, err := json.Marshal(value)
	if err == nil && len(raw) > largestEntry {
		return userError("%s would take %d bytes of storage, and %d is the most: shorten its fields", path, len(raw), largestEntry)
	}
	return err
}

// remove deletes an entry from storage; one that is not there is a success.
func remove(ctx context.Context, s logical.Storage, path string) error {
	if err := s.Delete(ctx, path); err != nil {
		return fmt.Errorf("deleting %s from storage: %w", path, err)
	}
	return nil
}

// storedNames lists the entries under a prefix.
func storedNames(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", prefix, err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "/") }), nil
}

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

// lock lets one change of a storage entry run at a time: a rotation would otherwise
// overwrite what an operator writes meanwhile. Locks are channels, so that waiting ends with
// the context, and fake time in tests sees it. Where several are held, they are taken in this
// order: role or static role, users of roles, account.
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

// instancePath holds the id of this instance of the engine, in local storage: a
// performance secondary is an instance of its own.
const (
	instancePrefix = "instance/"
	instancePath   = instancePrefix + "id"
)

type instance struct {
	ID string `json:"id"`
}

// instanceID returns the id that stands in the label of every key this engine
// makes. It is made once and never changes: clean-up recognises its own keys by
// it, and never touches those of another mount, another Vault or a person.
func (b *backend) instanceID(ctx context.Context, s logical.Storage) (string, error) {
	stored, err := b.instances.load(ctx, s, instancePath)
	if err != nil || stored != nil {
		return stored.id(), err
	}
	unlock, err := b.lock(ctx, instancePath)
	if err != nil {
		return "", err
	}
	defer unlock()
	if stored, err = b.instances.load(ctx, s, instancePath); err != nil || stored != nil { // another request was faster
		return stored.id(), err
	}
	if err := save(ctx, s, instancePath, &instance{ID: keylabel.NewID()}); err != nil {
		return "", err
	}
	stored, err = b.instances.load(ctx, s, instancePath) // which keeps it: onItsStorage compares with it
	return stored.id(), err
}

// expectMove ends a tick. With the mount tainted, the server is about to disable or move it: what comes after must find the storage, and
// a tidy that went on would take every key for an orphan whose entry has moved.
func (b *backend) expectMove(ctx context.Context, s logical.Storage) {
	if !b.System().Tainted() {
		return
	}
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if _, err := b.instanceID(ctx, s); err != nil {
		b.Logger().Warn("the mount is disabled or moved, and its id cannot be read", "error", err)
	}
	b.moving.Store(true)
	b.tidying.cancel(ctx)
}

// onItsStorage refuses what comes after a move that has taken the storage away. OpenBao moves the entries of a mount that goes to another
// namespace, and leaves an external plugin on the prefix where they were: the engine would lease from its memory, and record there what
// nobody reads any more. The id of the instance is in every storage. Only after a taint, or a tick that finds no account, is it read
// anew, until it is there: a lease costs no read.
func (b *backend) onItsStorage(ctx context.Context, s logical.Storage) error {
	if !b.moving.Load() {
		return nil
	}
	known, err := b.instances.load(ctx, s, instancePath)
	if err != nil {
		return err
	}
	stored, err := load[instance](ctx, s, instancePath)
	switch {
	case err != nil:
		return err
	case stored.id() != known.id():
		return userError("the storage of this mount is gone: the mount was moved to another namespace, and the plugin still looks where it " +
			"was, or somebody has deleted it. Nothing is leased, rotated, revoked or written until the plugin is reloaded: bao plugin reload " +
			"-namespace=... -mounts=..., with the namespace and path of now, or a step-down of the active server")
	case !b.System().Tainted(): // until then it may still go
		b.moving.Store(false)
	}
	return nil
}

// id is empty of what is not there.
func (i *instance) id() string {
	if i == nil {
		return ""
	}
	return i.ID
}

// isOurs tells whether a key was made by the instance.
func isOurs(key provider.Key, instance string) bool {
	label, err := keylabel.Parse(key.Label)
	return err == nil && label.Instance == instance
}
