// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// errNotOurs is a user that exists and must not be touched.
var errNotOurs = errors.New("it does not carry the label that it was made with, so it is not deleted: delete it by hand if nobody needs it")

// RemoveUser implements provider.Users:
//
//	(1) find it, and hold its label against ours
//	(2) every key: INACTIVE, delete
//	(3) policies and groups, at the same time
//	(4) delete the user
//
// Everything that hangs on the user is looked up, not remembered: its owner may have
// made further keys, and DeleteUser is refused as long as one is left. A crash
// anywhere leaves a user that the next attempt finds again.
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
	if err := c.takeRights(ctx, *user); err != nil {
		return fmt.Errorf("taking the rights of user %s: %w", user.Name, err)
	}
	err = c.deleteUser(ctx, *user)
	if provider.KindOf(err) != provider.KindNotFound {
		return err
	}
	// Somebody was faster, or the key that signs is the one that is gone.
	if user, err := c.labelledUser(ctx, ref); err != nil || user != nil {
		return errors.Join(fmt.Errorf("whether user %s is gone cannot be confirmed", ref.Name), err)
	}
	return c.confirmUserRemoved(ctx, ref)
}

// labelledUser finds the user of ref; nil where there is none. With an id that is one
// call, however many users the account has.
func (c *Client) labelledUser(ctx context.Context, ref provider.UserRef) (*provider.User, error) {
	if label, err := keylabel.Parse(ref.Label); err != nil || label.Kind != keylabel.KindUser {
		return nil, errNotOurs
	}
	var filters *osc.FiltersUsers
	if ref.ID != "" {
		filters = &osc.FiltersUsers{UserIds: &[]string{ref.ID}}
	}
	for user, err := range c.users(ctx, filters) {
		switch {
		case provider.KindOf(err) == provider.KindNotFound && ref.ID != "" && noSuchUser(err):
			return nil, nil // what the cloud answers for an unknown id is not documented
		case provider.KindOf(err) == provider.KindNotFound: // of the key that signs, perhaps
			return nil, &provider.Error{Kind: provider.KindUnknown, Op: "ReadUsers", Err: err}
		case err != nil:
			return nil, err
		case user.Label == ref.Label && (ref.ID == "" || user.ID == ref.ID):
			return &user, nil
		case ref.ID != "" && user.ID == ref.ID:
			return nil, fmt.Errorf("user %s at path %s: %w", user.Name, user.Path, errNotOurs)
		}
	}
	return nil, nil
}

// confirmUserRemoved believes that a user is gone where the right account says so, and
// not within seconds of its creation.
func (c *Client) confirmUserRemoved(ctx context.Context, ref provider.UserRef) error {
	if c.recent.Has(ref.ID) || c.recent.Has(ref.Label) {
		return provider.NotYetKnown("ReadUsers", fmt.Errorf("user %s was not found", ref.Name))
	}
	account, err := c.AccountID(ctx)
	if err != nil {
		return fmt.Errorf("user %s was not found, but whether it is gone cannot be confirmed: %w", ref.Name, err)
	}
	if account != ref.AccountID {
		return fmt.Errorf("user %s belongs to OUTSCALE account %s, but the configured key to %s", ref.Name, ref.AccountID, account)
	}
	return nil
}

// removeKeys removes all keys of a user, each INACTIVE first, which ends it at once.
func (c *Client) removeKeys(ctx context.Context, user provider.User) error {
	keys, err := c.ListKeys(ctx, user.Name)
	if err != nil {
		return ignoreGone(err)
	}
	var calls []func() error
	for _, key := range keys {
		ref := provider.KeyRef{User: user.Name, ID: key.ID, Expires: key.Expires}
		calls = append(calls, func() error { return ignoreGone(c.remove(ctx, ref)) })
	}
	return provider.Together(calls...)
}

// takeRights takes away all that DeleteUser would be refused for.
func (c *Client) takeRights(ctx context.Context, user provider.User) error {
	var inline, linked []string
	var groups []osc.UserGroup
	err := provider.Together(
		func() (err error) { inline, err = c.inlinePolicies(ctx, user); return err },
		func() (err error) { linked, err = c.linkedPolicies(ctx, user); return err },
		func() (err error) { groups, err = c.groupsOf(ctx, user); return err },
	)
	if err != nil {
		return err
	}
	var calls []func() error
	for _, name := range inline {
		calls = append(calls, func() error { return ignoreGone(c.deletePolicy(ctx, user, name)) })
	}
	for _, orn := range linked {
		calls = append(calls, func() error { return ignoreGone(c.unlinkPolicy(ctx, user, orn)) })
	}
	for _, group := range groups {
		calls = append(calls, func() error { return ignoreGone(c.leaveGroup(ctx, user, group)) })
	}
	return provider.Together(calls...)
}

// ignoreGone passes over what somebody else has removed meanwhile. It believes "not
// found" although the code can mean that our own key is dead: the DeleteUser that
// follows then fails as well.
func ignoreGone(err error) error {
	if provider.KindOf(err) == provider.KindNotFound {
		return nil
	}
	return err
}

func (c *Client) inlinePolicies(ctx context.Context, user provider.User) ([]string, error) {
	const op = "ReadUserPolicies"
	var answer osc.ReadUserPoliciesResponse
	if _, err := c.call(ctx, op, osc.ReadUserPoliciesRequest{UserName: user.Name}, &answer); err != nil {
		return nil, ignoreGone(err)
	}
	return answer.GetPolicyNames(), nil
}

// linkedPolicies reads all pages.
func (c *Client) linkedPolicies(ctx context.Context, user provider.User) ([]string, error) {
	const op = "ReadLinkedPolicies"
	var orns []string
	for first := int32(0); ; {
		var answer osc.ReadLinkedPoliciesResponse
		status, err := c.call(ctx, op, osc.ReadLinkedPoliciesRequest{
			UserName: user.Name, FirstItem: &first,
		}, &answer)
		if err != nil {
			return nil, ignoreGone(err)
		}
		before := len(orns)
		for _, policy := range answer.GetPolicies() {
			if !slices.Contains(orns, policy.GetOrn()) {
				orns = append(orns, policy.GetOrn())
			}
		}
		if !answer.GetHasMoreItems() {
			return orns, nil
		}
		if len(orns) == before {
			return nil, unreadable(op, status, "a page holds nothing new and promises more")
		}
		first += int32(len(answer.GetPolicies()))
	}
}

func (c *Client) groupsOf(ctx context.Context, user provider.User) ([]osc.UserGroup, error) {
	const op = "ReadUserGroupsPerUser"
	var answer osc.ReadUserGroupsPerUserResponse
	if _, err := c.call(ctx, op, osc.ReadUserGroupsPerUserRequest{UserName: user.Name, UserPath: &user.Path}, &answer); err != nil {
		return nil, ignoreGone(err)
	}
	return answer.GetUserGroups(), nil
}

func (c *Client) deletePolicy(ctx context.Context, user provider.User, name string) error {
	return c.act(ctx, "DeleteUserPolicy", osc.DeleteUserPolicyRequest{
		PolicyName: name, UserName: user.Name,
	})
}

func (c *Client) unlinkPolicy(ctx context.Context, user provider.User, orn string) error {
	return c.act(ctx, "UnlinkPolicy", osc.UnlinkPolicyRequest{PolicyOrn: orn, UserName: user.Name})
}

func (c *Client) leaveGroup(ctx context.Context, user provider.User, group osc.UserGroup) error {
	return c.act(ctx, "RemoveUserFromUserGroup", osc.RemoveUserFromUserGroupRequest{
		UserGroupName: group.GetName(), UserGroupPath: group.Path, UserName: user.Name, UserPath: &user.Path,
	})
}

func (c *Client) deleteUser(ctx context.Context, user provider.User) error {
	err := c.act(ctx, "DeleteUser", osc.DeleteUserRequest{UserName: user.Name})
	if err == nil {
		c.recent.Drop(user.ID, user.Label)
	}
	return err
}
