// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	firstPause = 500 * time.Millisecond
	lastPause  = 4 * time.Second
)

// onceKnown repeats a call as long as it does not find what this client has just made.
func (c *Client) onceKnown(ctx context.Context, what, op string, call func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := call()
		if provider.KindOf(err) != provider.KindNotFound || !c.recent.Has(what) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return provider.NotYetKnown(op, fmt.Errorf("%w: %w", ctx.Err(), err))
		}
	}
}
