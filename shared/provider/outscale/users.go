// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"iter"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// usersPerPage is the API's own default.
const usersPerPage = 100

// ListUsers implements provider.Users, page by page.
func (c *Client) ListUsers(ctx context.Context) iter.Seq2[provider.User, error] {
	return c.users(ctx, nil)
}

// users yields what a filter leaves of the account's users.
func (c *Client) users(ctx context.Context, filters *osc.FiltersUsers) iter.Seq2[provider.User, error] {
	return func(yield func(provider.User, error) bool) {
		for first := int32(0); ; {
			page, more, err := c.userPage(ctx, first, filters)
			if err != nil {
				yield(provider.User{}, err)
				return
			}
			for _, u := range page {
				if !yield(listedUser(u), nil) {
					return
				}
			}
			if !more || len(page) == 0 {
				return
			}
			first += int32(len(page)) // FirstItem counts items from 0, not pages
		}
	}
}

func (c *Client) userPage(ctx context.Context, first int32, filters *osc.FiltersUsers) (users []osc.User, more bool, err error) {
	const op = "ReadUsers"
	size := int32(usersPerPage)
	answer, resp, err := c.api.readUsers(ctx, osc.ReadUsersRequest{
		Filters: filters, FirstItem: &first, ResultsPerPage: &size,
	})
	if err := c.fault(op, resp, err); err != nil {
		return nil, false, err
	}
	if answer.Users == nil {
		return nil, false, unreadable(op, resp.StatusCode, "the answer holds no list")
	}
	return *answer.Users, answer.GetHasMoreItems(), nil
}
