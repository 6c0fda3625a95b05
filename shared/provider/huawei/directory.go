// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// FindKey implements provider.Finder.
func (c *Client) FindKey(ctx context.Context, ref provider.KeyRef) (key provider.Key, found bool, err error) {
	return c.prover.FindKey(ctx, ref)
}

// UserByID implements provider.Directory. Parts of the cloud may not know a user that is there, so
// the whole list confirms that it is not.
func (c *Client) UserByID(ctx context.Context, id string) (provider.User, error) {
	view, err := c.showUser(ctx, id)
	if provider.KindOf(err) != provider.KindNotFound {
		return view.listed(), err
	}
	for user, listErr := range c.ListUsers(ctx) {
		if listErr != nil {
			return provider.User{}, listErr
		}
		if user.ID == id {
			return provider.User{}, provider.NotYetKnown(opShowUser, fmt.Errorf("it is listed: %w", err))
		}
	}
	return provider.User{}, err
}

// KeysOf implements provider.Directory: Huawei Cloud lists keys by the id of their user.
func (c *Client) KeysOf(ctx context.Context, user provider.User) ([]provider.Key, error) {
	if user.ID == "" && user.Name != "" {
		id, err := c.findUser(ctx, user.Name)
		if err != nil {
			return nil, err
		}
		user.ID = id
	}
	return c.listKeys(ctx, user.ID, user.Name)
}

// ListsKeysByID implements provider.Directory.
func (c *Client) ListsKeysByID() bool { return true }

// SigningKey implements provider.Directory. No list shows a temporary key.
func (c *Client) SigningKey() string {
	if c.temporary {
		return ""
	}
	return c.accessKey
}
