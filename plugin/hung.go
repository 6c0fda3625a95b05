// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"sync"
	"time"
)

// hungLongest is the longest pause before the clean-up of an unfinished request over which
// the cloud hangs is tried again.
const hungLongest = 16 * time.Minute

// hungRequests are the unfinished requests whose clean-up got no answer in time. Vault takes
// the WAL's entries in the same order at every tick, so that those of them that hang would
// leave no time to the others.
type hungRequests struct {
	mu       sync.Mutex // never held across storage or cloud calls
	requests map[string]hungRequest
}

type hungRequest struct {
	times int
	until time.Time // passed over until then
}

func newHungRequests() *hungRequests { return &hungRequests{requests: map[string]hungRequest{}} }

// note has a request be passed over for a while, for twice as long each time.
func (h *hungRequests) note(label string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	times := h.requests[label].times + 1
	h.requests[label] = hungRequest{times, time.Now().Add(min(hungLongest, 30*time.Second<<min(times, 6)))}
}

// passes tells whether a request is passed over now.
func (h *hungRequests) passes(label string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.requests[label].until)
}

// forget is called when a request is cleaned up.
func (h *hungRequests) forget(label string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.requests, label)
}
