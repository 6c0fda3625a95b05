// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// mountLimitFor is how long the mount's longest TTL is taken for what it was. A mount is tuned rarely,
// and the server itself cuts a lease that is longer than what it has been tuned to.
const mountLimitFor = 5 * time.Second

// mountLimit is the mount's longest TTL, which new leases would else ask the server for each time.
type mountLimit struct {
	mu    sync.Mutex // never held while the server is asked
	max   time.Duration
	until time.Time
}

// maxTTL is zero where the server cannot be asked.
func (m *mountLimit) maxTTL(system logical.SystemView) time.Duration {
	m.mu.Lock()
	longest, fresh := m.max, time.Now().Before(m.until)
	m.mu.Unlock()
	if fresh {
		return longest
	}
	longest = system.MaxLeaseTTL()
	m.mu.Lock()
	defer m.mu.Unlock()
	if longest > 0 {
		m.max, m.until = longest, time.Now().Add(mountLimitFor)
	}
	return longest
}
