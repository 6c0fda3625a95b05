// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const stateInactive = "INACTIVE"

// removalTime is the life that a key past its own gets while it is removed: short
// enough for every access policy, long enough for the delete that follows.
const removalTime = 30 * time.Second

// RevokeKey implements provider.Keys:
//
//	(1) INACTIVE and a date, in one call → (2) delete
//
// After (1) the key is dead, whatever happens then; a crash between the two
// leaves a key that cannot sign, and calling again goes on. An EIM user's key must be
// INACTIVE to be deleted (API 1.28.5); a key of the caller itself is deleted at
// once, and takes (1) only when that is refused, as it may be for an expired key
// (frieza c994acc).
func (c *Client) RevokeKey(ctx context.Context, ref provider.KeyRef) error {
	return provider.GoneIsDone(c.prover.OnKey(ctx, ref, c.remove))
}

// DeactivateKey implements provider.Stages: step (1) of RevokeKey.
func (c *Client) DeactivateKey(ctx context.Context, ref provider.KeyRef) error {
	return provider.GoneIsDone(c.prover.OnKey(ctx, ref, c.deactivate))
}

// DeleteKey implements provider.Stages: step (2) of RevokeKey. An expired key whose
// deletion is refused stays as it is, and the refusal is the error.
func (c *Client) DeleteKey(ctx context.Context, ref provider.KeyRef) error {
	return provider.GoneIsDone(c.prover.OnKey(ctx, ref, c.deleteKey))
}

func (c *Client) remove(ctx context.Context, ref provider.KeyRef) error {
	if ref.User == "" {
		err := c.deleteKey(ctx, ref)
		if kind := provider.KindOf(err); kind != provider.KindConflict && kind != provider.KindInvalid {
			return err
		}
	}
	for again := false; ; again = true {
		if err := c.deactivate(ctx, ref); err != nil {
			return err
		}
		err := c.deleteKey(transport.WithNext(ctx), ref)
		if again || provider.KindOf(err) != provider.KindConflict { // else its holder may have switched it on in between
			return err
		}
	}
}

// deactivate sends the key's date along, or the API would clear it; a date that
// has passed is replaced, since the API wants one in the future. So is one that the
// API refuses, for an access policy that was tightened since: the key is to die, and
// needs no date of its own.
func (c *Client) deactivate(ctx context.Context, ref provider.KeyRef) error {
	soonest := func() time.Time { return c.now().Add(removalTime) } // by the cloud's clock, of which each answer tells
	if ref.Expires.Before(soonest()) {
		return c.deactivateUntil(ctx, ref, soonest())
	}
	err := c.deactivateUntil(ctx, ref, ref.Expires)
	if provider.KindOf(err) == provider.KindInvalid {
		return c.deactivateUntil(ctx, ref, soonest())
	}
	return err
}

// deactivateUntil sets state and date in one call: a new date on an ACTIVE key would
// bring it back to life.
func (c *Client) deactivateUntil(ctx context.Context, ref provider.KeyRef, expires time.Time) error {
	state := stateInactive
	return c.updateKey(ctx, updateAccessKeyRequest{
		AccessKeyId:    ref.ID,
		State:          &state,
		ExpirationDate: formatDate(expires),
		UserName:       optional(ref.User),
	})
}
