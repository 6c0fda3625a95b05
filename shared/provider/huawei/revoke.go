// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// RevokeKey implements provider.Keys:
//
//	(1) inactive → (2) delete
//
// After (1) the key is dead, whatever happens then; a crash between the two leaves a key
// that cannot sign, and calling again goes on.
func (c *Client) RevokeKey(ctx context.Context, ref provider.KeyRef) error {
	return provider.GoneIsDone(c.prover.OnKey(ctx, ref, c.remove))
}

// DeactivateKey implements provider.Stages.
func (c *Client) DeactivateKey(ctx context.Context, ref provider.KeyRef) error {
	return provider.GoneIsDone(c.prover.OnKey(ctx, ref, c.deactivate))
}

// DeleteKey implements provider.Stages.
func (c *Client) DeleteKey(ctx context.Context, ref provider.KeyRef) error {
	return provider.GoneIsDone(c.prover.OnKey(ctx, ref, func(ctx context.Context, ref provider.KeyRef) error {
		return c.deleteKey(ctx, ref.ID)
	}))
}

func (c *Client) remove(ctx context.Context, ref provider.KeyRef) error {
	if err := c.deactivate(ctx, ref); err != nil {
		return err
	}
	return c.deleteKey(transport.WithNext(ctx), ref.ID)
}

// deactivate sends label and date of one of the engine's keys along: whether an update
// without a description keeps the one that there is, is not documented, and a key without
// its label would be nobody's. What somebody else has written the cloud might not take back.
func (c *Client) deactivate(ctx context.Context, ref provider.KeyRef) error {
	change := wireKey{Status: stateInactive}
	if _, err := keylabel.Parse(ref.Label); err == nil {
		if change.Description, err = describe(ref.Label, ref.Expires); err != nil {
			return fmt.Errorf("access key %s: %w", ref.ID, err)
		}
	}
	return c.updateKey(ctx, ref.ID, change)
}
