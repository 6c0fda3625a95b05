// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

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
	return c.goneIsDone(ctx, "DeleteAccessKey", ref, c.remove(ctx, ref))
}

// notGone keeps an error that could not confirm an absence from being taken for the
// absence, by who looks at the kind alone.
func notGone(op string, err error) error {
	if provider.KindOf(err) != provider.KindNotFound {
		return err
	}
	return &provider.Error{Kind: provider.KindUnknown, Op: op, Err: err}
}

// DeactivateKey implements provider.Stages: step (1) of RevokeKey.
func (c *Client) DeactivateKey(ctx context.Context, ref provider.KeyRef) error {
	return c.goneIsDone(ctx, "UpdateAccessKey", ref, c.deactivate(ctx, ref))
}

// DeleteKey implements provider.Stages: step (2) of RevokeKey. An expired key whose
// deletion is refused stays as it is, and the refusal is the error.
func (c *Client) DeleteKey(ctx context.Context, ref provider.KeyRef) error {
	return c.goneIsDone(ctx, "DeleteAccessKey", ref, c.deleteKey(ctx, ref))
}

// goneIsDone makes a success of "not found" where the key is gone for certain.
func (c *Client) goneIsDone(ctx context.Context, op string, ref provider.KeyRef, err error) error {
	if provider.KindOf(err) != provider.KindNotFound {
		return err
	}
	return notGone(op, c.confirmGone(ctx, ref, err))
}

func (c *Client) remove(ctx context.Context, ref provider.KeyRef) error {
	if ref.User == "" {
		err := c.deleteKey(ctx, ref)
		if kind := provider.KindOf(err); kind != provider.KindConflict && kind != provider.KindInvalid {
			return err
		}
	}
	if err := c.deactivate(ctx, ref); err != nil {
		return err
	}
	return c.deleteKey(transport.WithNext(ctx), ref)
}

// deactivate sends the key's date along, or the API would clear it; a date that
// has passed is replaced, since the API wants one in the future. So is one that the
// API refuses, for an access policy that was tightened since: the key is to die, and
// needs no date of its own.
func (c *Client) deactivate(ctx context.Context, ref provider.KeyRef) error {
	soonest := time.Now().Add(removalTime)
	if ref.Expires.Before(soonest) {
		return c.deactivateUntil(ctx, ref, soonest)
	}
	err := c.deactivateUntil(ctx, ref, ref.Expires)
	if provider.KindOf(err) == provider.KindInvalid {
		return c.deactivateUntil(ctx, ref, soonest)
	}
	return err
}

// deactivateUntil sets state and date in one call: a new date on an ACTIVE key would
// bring it back to life.
func (c *Client) deactivateUntil(ctx context.Context, ref provider.KeyRef, expires time.Time) error {
	state := stateInactive
	return c.updateKey(ctx, osc.UpdateAccessKeyRequest{
		AccessKeyId:    ref.ID,
		State:          &state,
		ExpirationDate: formatDate(expires),
		UserName:       optional(ref.User),
	})
}

// confirmGone decides whether "not found" means that the key is gone. The code
// alone does not say so: OUTSCALE answers 4000 when the key that signs the call
// is the one that is gone, and another account knows none of our keys.
func (c *Client) confirmGone(ctx context.Context, ref provider.KeyRef, cause error) error {
	account, err := c.AccountID(ctx)
	if err != nil {
		return fmt.Errorf("access key %s was not found, but whether it is gone cannot be confirmed: %w", ref.ID, err)
	}
	if account != ref.AccountID {
		return fmt.Errorf("access key %s belongs to OUTSCALE account %s, but the configured key to %s: %w", ref.ID, ref.AccountID, account, cause)
	}
	keys, err := c.ListKeys(ctx, ref.User)
	if provider.KindOf(err) == provider.KindNotFound {
		return c.confirmUserGone(ctx, ref, err)
	}
	if err != nil {
		return fmt.Errorf("access key %s was not found, but whether it is gone cannot be confirmed: %w", ref.ID, err)
	}
	if slices.ContainsFunc(keys, func(k provider.Key) bool { return k.ID == ref.ID }) {
		return fmt.Errorf("access key %s is still listed: %w", ref.ID, cause)
	}
	return nil
}

// confirmUserGone believes that a key went with its user, where the account's
// list of users lacks the name.
func (c *Client) confirmUserGone(ctx context.Context, ref provider.KeyRef, cause error) error {
	for user, err := range c.ListUsers(ctx) {
		if provider.KindOf(err) == provider.KindDenied && noSuchUser(cause) {
			return nil // the account is the right one, and the code can mean nothing else
		}
		if err != nil {
			return fmt.Errorf("access key %s was not found, but whether its user %q is gone cannot be confirmed: %w", ref.ID, ref.User, err)
		}
		if user.Name == ref.User {
			return fmt.Errorf("access key %s was not found although its user %q exists: %w", ref.ID, ref.User, cause)
		}
	}
	return nil
}

// noSuchUser tells OUTSCALE's 5xxx, "no such resource", from its 4000, which is said of
// dead keys as well.
func noSuchUser(err error) bool {
	var refused *provider.Error
	return errors.As(err, &refused) && strings.HasPrefix(refused.Code, "5")
}
