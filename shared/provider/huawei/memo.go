// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// memo keeps a value that never changes once the cloud has told it. Who asks meanwhile
// waits for the one call that is under way, in its own context's bounds.
type memo struct {
	op   string // the call that tells it
	slot chan remembered
}

type remembered struct {
	value string
	known bool
}

func newMemo(op string) memo {
	m := memo{op: op, slot: make(chan remembered, 1)}
	m.slot <- remembered{}
	return m
}

// get asks at first need. A failure is not kept.
func (m memo) get(ctx context.Context, ask func() (string, error)) (string, error) {
	var r remembered
	select {
	case r = <-m.slot:
	case <-ctx.Done():
		return "", &provider.Error{Kind: provider.KindUnreachable, Op: m.op, Err: ctx.Err()}
	}
	defer func() { m.slot <- r }()
	if r.known {
		return r.value, nil
	}
	value, err := ask()
	if err != nil {
		return "", err
	}
	r = remembered{value: value, known: true}
	return value, nil
}

const (
	// namesKept bounds how long a user's id is believed to be that of its name. The name of a
	// user who was renamed can be given to another, and so long leases are keys of the former.
	namesKept = time.Minute
	maxNames  = 1000
)

// names are the ids of users by their names, which the API does not take.
type names struct {
	mu  sync.Mutex // never held while waiting
	ids map[string]named
}

type named struct {
	id   string
	seen time.Time
}

// get returns the empty string for a name that is not known.
func (n *names) get(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, ok := n.ids[name]
	if !ok || time.Since(known.seen) > namesKept {
		return ""
	}
	return known.id
}

func (n *names) put(name, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ids == nil || len(n.ids) >= maxNames {
		n.ids = map[string]named{} // asking again is cheap
	}
	n.ids[name] = named{id: id, seen: time.Now()}
}

func (n *names) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ids, name)
}
