// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// errNotOurs is a user that exists and must not be touched.
var errNotOurs = errors.New("it does not carry the label that it was made with, so it is not deleted: delete it by hand if nobody needs it")

// RemoveUser implements provider.Users:
//
//	(1) find it, and hold its label against ours
//	(2) every key: inactive, delete
//	(3) groups, at the same time
//	(4) delete the user
//
// Everything that hangs on the user is looked up, not remembered: its owner may have made
// a further key. A crash anywhere leaves a user that the next attempt finds again.
func (c *Client) RemoveUser(ctx context.Context, ref provider.UserRef) error {
	c.recent.Hear(cmp.Or(ref.ID, ref.Label), ref.Made)
	user, err := c.labelledUser(ctx, ref)
	if err != nil {
		return fmt.Errorf("removing user %s: %w", ref.Name, err)
	}
	if user == nil {
		return c.confirmUserRemoved(ctx, ref)
	}
	if err := c.removeKeys(ctx, *user); err != nil {
		return fmt.Errorf("removing the keys of user %s: %w", user.Name, err)
	}
	if err := c.leaveGroups(ctx, *user); err != nil {
		return fmt.Errorf("taking the groups of user %s: %w", user.Name, err)
	}
	err = c.deleteUser(ctx, *user)
	if provider.KindOf(err) != provider.KindNotFound {
		return err
	}
	if c.recent.Has(user.ID) {
		return provider.NotYetKnown(opDeleteUser, err)
	}
	// Somebody was faster, or parts of the cloud do not know the user yet.
	if user, err := c.listedUser(ctx, ref); err != nil || user != nil {
		return errors.Join(fmt.Errorf("whether user %s is gone cannot be confirmed", ref.Name), err)
	}
	return c.confirmUserRemoved(ctx, ref)
}

func (c *Client) deleteUser(ctx context.Context, user provider.User) error {
	err := c.do(
		ctx,
		call{op: opDeleteUser, method: http.MethodDelete, path: "/v3/users/{}", ids: []string{user.ID}, want: http.StatusNoContent},
		nil,
	)
	if err == nil {
		c.names.forget(user.Name)
		c.recent.Drop(user.ID, user.Label)
	}
	return err
}

// labelledUser finds the user of ref; nil where there is none. With an id that is one
// call, however many users the account has.
func (c *Client) labelledUser(ctx context.Context, ref provider.UserRef) (*provider.User, error) {
	if label, err := keylabel.Parse(ref.Label); err != nil || label.Kind != keylabel.KindUser {
		return nil, errNotOurs
	}
	if ref.ID == "" {
		return c.listedUser(ctx, ref)
	}
	view, err := c.showUser(ctx, ref.ID)
	if provider.KindOf(err) == provider.KindNotFound || err == nil && view.Description == "" {
		return c.listedUser(ctx, ref) // which decides
	}
	if err != nil {
		return nil, err
	}
	return held(view.listed(), ref)
}

// listedUser looks for the user of ref in the account's whole list.
func (c *Client) listedUser(ctx context.Context, ref provider.UserRef) (*provider.User, error) {
	for user, err := range c.ListUsers(ctx) {
		if err != nil {
			return nil, err
		}
		if ref.ID == "" && user.Label == ref.Label || ref.ID != "" && user.ID == ref.ID {
			return held(user, ref)
		}
	}
	return nil, nil
}

// held refuses a user that does not carry the label of ref.
func held(user provider.User, ref provider.UserRef) (*provider.User, error) {
	if user.Label != ref.Label {
		return nil, fmt.Errorf("user %s: %w", user.Name, errNotOurs)
	}
	return &user, nil
}

// confirmUserRemoved believes that a user is gone where the right account says so, and
// not within seconds of its creation.
func (c *Client) confirmUserRemoved(ctx context.Context, ref provider.UserRef) error {
	if c.recent.Has(ref.ID) || c.recent.Has(ref.Label) {
		return provider.NotYetKnown(opListUsers, fmt.Errorf("user %s was not found", ref.Name))
	}
	account, err := c.AccountID(ctx)
	if err != nil {
		return fmt.Errorf("user %s was not found, but whether it is gone cannot be confirmed: %w", ref.Name, err)
	}
	if account != ref.AccountID {
		return fmt.Errorf("user %s belongs to Huawei Cloud account %s, but the configured key to %s", ref.Name, ref.AccountID, account)
	}
	c.names.forget(ref.Name)
	return nil
}

// removeKeys removes all keys of a user, each inactive first, which ends it at once.
func (c *Client) removeKeys(ctx context.Context, user provider.User) error {
	keys, err := c.listKeys(ctx, user.ID, user.Name)
	if err != nil {
		return ignoreGone(err)
	}
	var calls []func() error
	for _, key := range keys {
		calls = append(calls, func() error { return ignoreGone(c.remove(ctx, key.Ref(""))) })
	}
	return provider.Together(calls...)
}

func (c *Client) leaveGroups(ctx context.Context, user provider.User) error {
	groups, err := c.listGroups(
		ctx,
		call{op: opGroupsOf, method: http.MethodGet, path: "/v3/users/{}/groups", ids: []string{user.ID}, want: http.StatusOK},
	)
	if err != nil {
		return ignoreGone(err)
	}
	var calls []func() error
	for _, group := range groups {
		leave := call{op: opLeaveGroup, method: http.MethodDelete, path: memberPath, ids: []string{group.ID, user.ID}, want: http.StatusNoContent}
		calls = append(calls, func() error { return ignoreGone(c.do(ctx, leave, nil)) })
	}
	return provider.Together(calls...)
}

// ignoreGone passes over what somebody else has removed meanwhile. What the cloud only
// does not know yet goes with the user, whose deletion follows.
func ignoreGone(err error) error {
	if provider.KindOf(err) == provider.KindNotFound {
		return nil
	}
	return err
}
