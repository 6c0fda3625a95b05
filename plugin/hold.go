// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// holdPrefix is where the hold of each account stands whose key is refused. Each cluster keeps its own: it is its calls that were refused.
const holdPrefix = "hold/"

// storedHold is what a client remembers of the refusals of an account's key. It outlives the client: a change of the configuration, a restart and
// a failover each make a new one, which would use the dead key at once.
type storedHold struct {
	Signer string `json:"signer"` // tells the key that it is of
	provider.Hold
}

// signer tells one key at one endpoint from another; the secret cannot be worked out from it.
func (c *accountConfig) signer() string {
	endpoint, _ := c.endpoint() // validate has refused what has none
	hash := hmac.New(sha256.New, []byte(c.SecretKey))
	hash.Write([]byte(c.Provider + "\n" + endpoint + "\n" + c.Region + "\n" + c.signature() + "\n" + c.AccessKey))
	return hex.EncodeToString(hash.Sum(nil))
}

// holds are the accounts whose hold has changed since it was stored.
type holds struct {
	mu      sync.Mutex
	changed map[string]bool
}

func (h *holds) note(account string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = map[string]bool{}
	}
	h.changed[account] = true
}

// take empties the list.
func (h *holds) take() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := h.changed
	h.changed = nil
	return changed
}

// resumeHold has a new client of an account begin with what the one before remembered, if that was of the same key. From then on it is
// told of changes.
func (b *backend) resumeHold(ctx context.Context, s logical.Storage, a *account) error {
	holder, ok := a.cloud.(provider.Holder)
	if !ok {
		return nil
	}
	stored, err := load[storedHold](ctx, s, holdPrefix+a.name)
	if err != nil {
		return err
	}
	if stored != nil && stored.Signer == a.config.signer() {
		holder.Resume(stored.Hold)
		a.holdStored.Store(true)
	}
	holder.OnHold(func() { b.holds.note(a.name) })
	return nil
}

// storeHolds stores what has changed while a request ran. A failure costs no request: the hold is in memory, and the next change is stored.
func (b *backend) storeHolds(ctx context.Context, s logical.Storage) {
	changed := b.holds.take()
	if len(changed) == 0 || !b.tendsLocalStorage() {
		return
	}
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	for name := range changed {
		if err := b.storeHold(ctx, s, name); err != nil {
			b.Logger().Warn("what the cloud has said of an account's key cannot be stored: a restart would use a refused key at once", "account", name, "error", err)
		}
	}
}

func (b *backend) storeHold(ctx context.Context, s logical.Storage, name string) error {
	b.accountsLock.Lock()
	a, ok := b.accounts.Peek(name)
	b.accountsLock.Unlock()
	if !ok {
		return nil
	}
	hold, held := provider.Hold{}, false
	if holder, ok := a.cloud.(provider.Holder); ok {
		hold, held = holder.Hold()
	}
	switch stored := a.holdStored.Swap(held); {
	case held:
		return save(ctx, s, holdPrefix+name, storedHold{Signer: a.config.signer(), Hold: hold})
	case stored:
		return remove(ctx, s, holdPrefix+name)
	default:
		return nil // the first success of a process, mostly
	}
}
