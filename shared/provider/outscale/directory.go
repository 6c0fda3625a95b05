// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"errors"
	"fmt"
	"strings"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// FindKey implements provider.Finder.
func (c *Client) FindKey(ctx context.Context, ref provider.KeyRef) (key provider.Key, found bool, err error) {
	return c.prover.FindKey(ctx, ref)
}

// UserByID implements provider.Directory. The API finds users by id alone, and keys by name
// alone; what it answers for an unknown id is not documented.
func (c *Client) UserByID(ctx context.Context, id string) (provider.User, error) {
	for user, err := range c.users(ctx, &osc.FiltersUsers{UserIds: &[]string{id}}) {
		if provider.KindOf(err) == provider.KindNotFound && !noSuchUser(err) {
			return provider.User{}, &provider.Error{Kind: provider.KindUnknown, Op: "ReadUsers", Err: err}
		}
		if err != nil {
			return provider.User{}, err
		}
		if user.ID == id { // a filter that was not applied would make anybody this user
			return user, nil
		}
	}
	return provider.User{}, &provider.Error{
		Kind: provider.KindNotFound, Op: "ReadUsers", Details: fmt.Sprintf("the account has no user with the id %.64q", id),
	}
}

// noSuchUser tells OUTSCALE's 5xxx, "no such resource", from its 4000, which is what it says of
// everything once the key that signs is gone.
func noSuchUser(err error) bool {
	var refused *provider.Error
	return errors.As(err, &refused) && strings.HasPrefix(refused.Code, "5")
}

// KeysOf implements provider.Directory: OUTSCALE lists keys by the name of their user.
func (c *Client) KeysOf(ctx context.Context, user provider.User) ([]provider.Key, error) {
	return c.ListKeys(ctx, user.Name)
}

// ListsKeysByID implements provider.Directory.
func (c *Client) ListsKeysByID() bool { return false }

// SigningKey implements provider.Directory.
func (c *Client) SigningKey() string { return c.accessKey }
