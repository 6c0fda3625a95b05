// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// The API's names of its calls on groups.
const (
	opListGroups = "KeystoneListGroups"
	opJoinGroup  = "KeystoneAddUserToGroup"
	opGroupsOf   = "KeystoneListGroupsForUser"
	opLeaveGroup = "KeystoneRemoveUserFromGroup"
)

const memberPath = "/v3/groups/{}/users/{}"

var (
	userPattern  = regexp.MustCompile(`^[A-Za-z_.-][A-Za-z0-9 _.-]{0,63}$`)
	groupPattern = regexp.MustCompile(`^[^\x00-\x1f\x7f]{1,128}$`)
)

// CheckUserName refuses a name that CreateUser would.
func CheckUserName(name string) error {
	if !userPattern.MatchString(name) {
		return fmt.Errorf(
			"%.140q cannot name an IAM user: give at most 64 letters, digits, spaces, hyphens, underscores and dots, the first of "+
				"which is neither a digit nor a space",
			name,
		)
	}
	return nil
}

// CheckGroup refuses what cannot name a group. The names of groups in other languages than
// English are names as well.
func CheckGroup(group string) error {
	if !groupPattern.MatchString(group) {
		return fmt.Errorf("%.140q is not a user group: give the name of one, of at most 128 characters", group)
	}
	return nil
}

// CreateUser implements provider.Users. The user can sign requests and not log in, and
// its label is its description.
func (c *Client) CreateUser(ctx context.Context, spec provider.UserSpec) (provider.User, error) {
	if _, err := keylabel.Parse(spec.Label); err != nil {
		return provider.User{}, fmt.Errorf("a user without a label could never be removed: %w", err)
	}
	domain, err := c.domainID(ctx)
	if err != nil {
		return provider.User{}, err
	}
	create := call{
		op: opCreateUser, method: http.MethodPost, path: "/v3.0/OS-USER/users", want: http.StatusCreated,
		body: struct {
			User wireUser `json:"user"`
		}{wireUser{Name: spec.Name, DomainID: domain, Description: spec.Label, AccessMode: "programmatic", Enabled: true}},
	}
	var answer struct {
		User wireUser `json:"user"`
	}
	err = c.do(ctx, create, &answer)
	if err == nil && (!idPattern.MatchString(answer.User.ID) || answer.User.Name != spec.Name) {
		err = unreadable(create, http.StatusCreated, "the answer does not hold the user that was asked for")
	}
	if provider.KindOf(err) == provider.KindAmbiguous {
		c.recent.Add(spec.Label) // a list may lack it for a while
	}
	if err != nil {
		return provider.User{}, err
	}
	c.recent.Add(answer.User.ID)
	c.names.put(spec.Name, answer.User.ID)
	return provider.User{ID: answer.User.ID, Name: spec.Name, Label: spec.Label}, nil
}

// GrantUser implements provider.Users. Rights come from groups alone: what a group may do
// is the account's own affair.
func (c *Client) GrantUser(ctx context.Context, user provider.User, rights provider.Rights) error {
	if len(rights.PolicyORNs) > 0 || rights.Document != "" {
		return &provider.Error{
			Kind: provider.KindInvalid, Op: opJoinGroup, Details: "users of Huawei Cloud are given rights by groups alone: name " +
				"groups, and no policies",
		}
	}
	if len(rights.Groups) == 0 {
		return nil
	}
	ids, err := c.groupIDs(ctx)
	if err != nil {
		return err
	}
	var calls []func() error
	for _, group := range rights.Groups {
		id, ok := ids[group]
		if !ok {
			return about(
				"group "+group,
				&provider.Error{Kind: provider.KindNotFound, Op: opListGroups, Details: "the account has no group of this name"},
			)
		}
		calls = append(calls, func() error { return about("group "+group, c.joinGroup(ctx, user.ID, id)) })
	}
	return provider.Together(calls...)
}

// groupIDs are the ids of all groups by their names: one call, however many are needed.
func (c *Client) groupIDs(ctx context.Context) (map[string]string, error) {
	domain, err := c.domainID(ctx)
	if err != nil {
		return nil, err
	}
	list := call{op: opListGroups, method: http.MethodGet, path: "/v3/groups", want: http.StatusOK, query: url.Values{"domain_id": {domain}}}
	groups, err := c.listGroups(ctx, list)
	if err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for _, g := range groups {
		ids[g.Name] = g.ID
	}
	return ids, nil
}

type wireGroup struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (c *Client) listGroups(ctx context.Context, list call) ([]wireGroup, error) {
	var answer struct {
		Groups *[]wireGroup `json:"groups"`
		links
	}
	if err := c.do(ctx, list, &answer); err != nil {
		return nil, err
	}
	if answer.Groups == nil {
		return nil, unreadable(list, http.StatusOK, "the answer holds no list")
	}
	return *answer.Groups, answer.whole(list)
}

// joinGroup may come before the groups have heard of a new user.
func (c *Client) joinGroup(ctx context.Context, user, group string) error {
	return c.onceKnown(ctx, user, opJoinGroup, func() error {
		return c.do(
			ctx,
			call{op: opJoinGroup, method: http.MethodPut, path: memberPath, ids: []string{group, user}, want: http.StatusNoContent},
			nil,
		)
	})
}

// about says what an error is about.
func about(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
