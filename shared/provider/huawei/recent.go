// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// settling is how long what was just made may be unknown to parts of the cloud. Users
	// were seen to take up to ten seconds (terraform-provider-huaweicloud waits for them).
	settling = 30 * time.Second

	firstPause = 500 * time.Millisecond
	lastPause  = 4 * time.Second
)

// recent remembers what was made a moment ago, or may have been made: "not found" says
// nothing of it yet.
type recent struct {
	mu   sync.Mutex // never held while waiting
	made map[string]time.Time
}

// add takes an id, or the label of what has no known id.
func (r *recent) add(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == nil {
		r.made = map[string]time.Time{}
	}
	maps.DeleteFunc(r.made, func(_ string, at time.Time) bool { return time.Since(at) >= settling })
	r.made[what] = time.Now()
}

// hear takes what another client has made, the one of a configuration that was replaced or
// of a process that is gone. What this one knows better stays.
func (r *recent) hear(what string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.made[what]; known || what == "" || time.Since(at) >= settling {
		return
	}
	if r.made == nil {
		r.made = map[string]time.Time{}
	}
	r.made[what] = at
}

func (r *recent) has(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.made[what]
	return ok && time.Since(at) < settling
}

// drop makes what the cloud has known well enough to delete it a thing of the past.
func (r *recent) drop(whats ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range whats {
		if _, known := r.made[what]; known {
			r.made[what] = time.Time{} // hear must not bring it back
		}
	}
}

// onceKnown repeats a call as long as it does not find what this client has just made.
func (c *Client) onceKnown(ctx context.Context, what, op string, call func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := call()
		if provider.KindOf(err) != provider.KindNotFound || !c.recent.has(what) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return notYetKnown(op, fmt.Errorf("%w: %w", ctx.Err(), err))
		}
	}
}

// notYetKnown keeps "not found" from being believed of what has just been made.
func notYetKnown(op string, err error) error {
	return &provider.Error{
		Kind: provider.KindUnknown, Op: op, Err: err,
		Details: "it was made seconds ago, and Huawei Cloud may not know it everywhere yet: try again",
	}
}
