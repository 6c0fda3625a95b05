// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"slices"

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
	c.recent.hear(ref.ID, ref.Made)
	return c.gone(ctx, opDeleteKey, ref, c.remove(ctx, ref))
}

// DeactivateKey implements provider.Stages.
func (c *Client) DeactivateKey(ctx context.Context, ref provider.KeyRef) error {
	c.recent.hear(ref.ID, ref.Made)
	return c.gone(ctx, opUpdateKey, ref, c.deactivate(ctx, ref))
}

// DeleteKey implements provider.Stages.
func (c *Client) DeleteKey(ctx context.Context, ref provider.KeyRef) error {
	c.recent.hear(ref.ID, ref.Made)
	return c.gone(ctx, opDeleteKey, ref, c.deleteKey(ctx, ref.ID))
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

// gone makes a success of "not found", where it is to be believed.
func (c *Client) gone(ctx context.Context, op string, ref provider.KeyRef, err error) error {
	if provider.KindOf(err) != provider.KindNotFound {
		return err
	}
	return notGone(op, c.confirmGone(ctx, ref, err))
}

// notGone keeps an error that could not confirm an absence from being taken for the
// absence, by who looks at the kind alone.
func notGone(op string, err error) error {
	if provider.KindOf(err) != provider.KindNotFound {
		return err
	}
	return &provider.Error{Kind: provider.KindUnknown, Op: op, Err: err}
}

// confirmGone decides whether "not found" means that the key is gone. The status alone
// does not say so: another account knows none of our keys, and parts of the cloud do not
// know yet what was made seconds ago.
func (c *Client) confirmGone(ctx context.Context, ref provider.KeyRef, cause error) error {
	if c.recent.has(ref.ID) {
		return notYetKnown(opShowKey, cause)
	}
	account, err := c.AccountID(ctx)
	if err != nil {
		return fmt.Errorf("access key %s was not found, but whether it is gone cannot be confirmed: %w", ref.ID, err)
	}
	if account != ref.AccountID {
		return fmt.Errorf("access key %s belongs to Huawei Cloud account %s, but the configured key to %s: %w", ref.ID, ref.AccountID, account, cause)
	}
	keys, err := c.keysAnew(ctx, ref.User)
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

// keysAnew lists a user's keys by an id that is not remembered: the name may have been
// given to another user since.
func (c *Client) keysAnew(ctx context.Context, user string) ([]provider.Key, error) {
	if user == "" {
		return c.listKeys(ctx, "", "")
	}
	id, err := c.findUser(ctx, user)
	if err != nil {
		return nil, err
	}
	return c.listKeys(ctx, id, user)
}

// confirmUserGone believes that a key went with its user, where the account's whole list
// of users lacks the name.
func (c *Client) confirmUserGone(ctx context.Context, ref provider.KeyRef, cause error) error {
	if ref.User == "" {
		return fmt.Errorf("access key %s was not found, nor the user whose key signs: %w", ref.ID, cause)
	}
	for user, err := range c.ListUsers(ctx) {
		if err != nil {
			return fmt.Errorf("access key %s was not found, but whether its user %q is gone cannot be confirmed: %w", ref.ID, ref.User, err)
		}
		if user.Name == ref.User {
			return fmt.Errorf("access key %s was not found although its user %q exists: %w", ref.ID, ref.User, cause)
		}
	}
	return nil
}
