// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"iter"
	"net/http"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// usersPerPage is the API's own default.
const usersPerPage = 100

// maxShifts bounds how often in a row a list goes back for users that were deleted meanwhile.
const maxShifts = 10

// The compiler holds the pages that a list can go back over to the users that are remembered.
const _ = uint(provider.MaxRecentUsers - (maxShifts+2)*usersPerPage)

// ListUsers implements provider.Users, page by page.
func (c *Client) ListUsers(ctx context.Context) iter.Seq2[provider.User, error] {
	return c.users(ctx, nil)
}

// listing is how far a list of users has come, so that one that was left can be gone on with.
type listing struct {
	seen           provider.RecentUsers
	first, reached int // the item with which the next page begins, and the first that no page has had
	wentBack       int // how often in a row
}

// users yields what a filter leaves of the account's users, each once.
//
// Pages are counted by items, so one that is deleted while the list is read moves another from a
// page that is still to come to one that was read. Each page therefore begins with the last user of
// the page before; where it does not, the list goes back. A page beyond all that were read that brings no
// new user and still promises more is an error: such a list would never end. Only the users of the pages
// that a list can go back over are remembered.
func (c *Client) users(ctx context.Context, filters *osc.FiltersUsers) iter.Seq2[provider.User, error] {
	return c.usersFrom(ctx, filters, new(listing))
}

// usersFrom goes on with a list where it was left, with all users of that page.
func (c *Client) usersFrom(ctx context.Context, filters *osc.FiltersUsers, at *listing) iter.Seq2[provider.User, error] {
	return func(yield func(provider.User, error) bool) {
		at.seen.Max = provider.MaxRecentUsers
		for {
			page, more, err := c.userPage(ctx, at.first, filters)
			if err != nil {
				yield(provider.User{}, err)
				return
			}
			known, here := 0, provider.RecentUsers{Max: len(page)}
			for _, u := range page {
				if at.seen.Has(u.GetUserId()) || !here.Add(u.GetUserId()) {
					known++
					continue
				}
				if !yield(listedUser(u), nil) {
					return
				}
			}
			for _, u := range page { // not before: one that is read again must not pass for the page that follows
				at.seen.Add(u.GetUserId())
			}
			shifted := at.first > 0 && known == 0
			switch {
			case shifted && at.wentBack < maxShifts:
				at.reached = max(at.reached, at.first+len(page))
				at.first = max(0, at.first-usersPerPage)
				at.wentBack++
			case shifted:
				yield(provider.User{}, unreadable("ReadUsers", http.StatusOK, "the account's users change faster than they can be listed"))
				return
			case !more:
				return
			case known == len(page) && (known < 2 || at.first+len(page) >= at.reached):
				yield(provider.User{}, unreadable("ReadUsers", http.StatusOK, "a page holds nothing new and promises more"))
				return
			default:
				at.reached = max(at.reached, at.first+len(page))
				at.first += len(page) - 1
				if known < len(page) {
					at.wentBack = 0
				}
			}
		}
	}
}

// userPage reads a page; FirstItem counts items from 0.
func (c *Client) userPage(ctx context.Context, first int, filters *osc.FiltersUsers) (users []osc.User, more bool, err error) {
	const op = "ReadUsers"
	size, start := int32(usersPerPage), int32(first)
	var answer osc.ReadUsersResponse
	status, err := c.call(ctx, op, osc.ReadUsersRequest{
		Filters: filters, FirstItem: &start, ResultsPerPage: &size,
	}, &answer)
	if err != nil {
		return nil, false, err
	}
	if answer.Users == nil {
		return nil, false, unreadable(op, status, "the answer holds no list")
	}
	for _, u := range *answer.Users {
		if u.GetUserId() == "" || u.GetUserName() == "" {
			return nil, false, unreadable(op, status, "the answer holds a user without an id or a name")
		}
	}
	return *answer.Users, answer.GetHasMoreItems(), nil
}
