// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"iter"

	osc "github.com/outscale/osc-sdk-go/v2"
)

// usersPerPage is the API's own default.
const usersPerPage = 100

// User is an EIM user.
type User struct {
	Name string
	Path string
}

// ListUsers yields the account's EIM users, page by page. It ends at the first
// error.
func (c *Client) ListUsers(ctx context.Context) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for first := int32(0); ; {
			page, more, err := c.userPage(ctx, first)
			if err != nil {
				yield(User{}, err)
				return
			}
			for _, u := range page {
				if !yield(User{Name: u.GetUserName(), Path: u.GetPath()}, nil) {
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

func (c *Client) userPage(ctx context.Context, first int32) (users []osc.User, more bool, err error) {
	const op = "ReadUsers"
	size := int32(usersPerPage)
	answer, resp, err := c.api.UserApi.ReadUsers(ctx).ReadUsersRequest(osc.ReadUsersRequest{
		FirstItem: &first, ResultsPerPage: &size,
	}).Execute()
	if err := c.fault(op, resp, err); err != nil {
		return nil, false, err
	}
	if answer.Users == nil {
		return nil, false, unreadable(op, resp.StatusCode, "the answer holds no list")
	}
	return *answer.Users, answer.GetHasMoreItems(), nil
}
