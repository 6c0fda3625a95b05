// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// inlinePolicyName is the name of the one inline policy that a user is given.
const inlinePolicyName = "cloudkeys"

const (
	maxUserPath    = 512 // characters of a path (CreateUser), the label included
	maxGroupLength = 128 // characters of a group's name
)

var (
	pathPattern  = regexp.MustCompile(`^/([A-Za-z0-9_]+/)*$`)
	groupPattern = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]+$`)
	ornPattern   = regexp.MustCompile(`^orn:ows:(iam|idauth):\S*:\d{12}:policy/\S+$`)
)

// CheckUserPath refuses a path that CreateUser would.
func CheckUserPath(path string) error {
	label := keylabel.New(keylabel.NewID(), keylabel.KindUser)
	switch {
	case !pathPattern.MatchString(path):
		return fmt.Errorf("%q is not the path of an EIM user: give one such as /ci/, of letters, digits and underscores between slashes", path)
	case len(path)+len(label.Path()) > maxUserPath:
		return fmt.Errorf("the path is %d characters long, and %d is the most that leaves room for the engine's own part of it",
			len(path), maxUserPath-len(label.Path()))
	}
	return nil
}

// CheckPolicyORN refuses what LinkPolicy would.
func CheckPolicyORN(orn string) error {
	if !ornPattern.MatchString(orn) {
		return fmt.Errorf("%q is not the ORN of a policy: give one such as orn:ows:idauth::012345678910:policy/read-only", orn)
	}
	return nil
}

// CheckGroup refuses what cannot name a group.
func CheckGroup(group string) error {
	path, name := splitGroup(group)
	if !pathPattern.MatchString(path) || !groupPattern.MatchString(name) || len(name) > maxGroupLength {
		return fmt.Errorf("%q is not a user group: give its name, or its path and name as in /ci/builders", group)
	}
	return nil
}

// splitGroup reads "builders" or "/ci/builders". The path is half of a group's
// identity: without it the API looks under "/" alone.
func splitGroup(group string) (path, name string) {
	cut := strings.LastIndex(group, "/") + 1
	if cut == 0 {
		return "/", group
	}
	return group[:cut], group[cut:]
}

// CreateUser implements provider.Users. EIM users have no tag, so the label stands at
// the end of the path.
func (c *Client) CreateUser(ctx context.Context, spec provider.UserSpec) (provider.User, error) {
	const op = "CreateUser"
	label, err := keylabel.Parse(spec.Label)
	if err != nil {
		return provider.User{}, fmt.Errorf("a user without a label could never be removed: %w", err)
	}
	path := spec.Path + label.Path()
	var answer osc.CreateUserResponse
	status, err := c.call(ctx, op, osc.CreateUserRequest{UserName: spec.Name, Path: &path}, &answer)
	if err == nil && (answer.User == nil || answer.User.GetUserId() == "") {
		err = unreadable(op, status, "the answer holds no user")
	}
	if provider.KindOf(err) == provider.KindAmbiguous {
		c.recent.Add(spec.Label) // a list may lack it for a while
	}
	if err != nil {
		return provider.User{}, err
	}
	c.recent.Add(answer.User.GetUserId())
	return listedUser(*answer.User), nil
}

// GrantUser implements provider.Users.
func (c *Client) GrantUser(ctx context.Context, user provider.User, rights provider.Rights) error {
	var calls []func() error
	for _, orn := range rights.PolicyORNs {
		calls = append(calls, func() error { return named("policy "+orn, c.linkPolicy(ctx, user, orn)) })
	}
	if rights.Document != "" {
		calls = append(calls, func() error { return named("policy_document", c.putPolicy(ctx, user, rights.Document)) })
	}
	for _, group := range rights.Groups {
		calls = append(calls, func() error { return named("group "+group, c.joinGroup(ctx, user, group)) })
	}
	return provider.Together(calls...)
}

func (c *Client) linkPolicy(ctx context.Context, user provider.User, orn string) error {
	return c.act(ctx, "LinkPolicy", osc.LinkPolicyRequest{PolicyOrn: orn, UserName: user.Name})
}

func (c *Client) putPolicy(ctx context.Context, user provider.User, document string) error {
	return c.act(ctx, "PutUserPolicy", osc.PutUserPolicyRequest{
		PolicyName: inlinePolicyName, PolicyDocument: document, UserName: user.Name,
	})
}

// joinGroup names the user's path as well: the API would look under "/".
func (c *Client) joinGroup(ctx context.Context, user provider.User, group string) error {
	path, name := splitGroup(group)
	return c.act(ctx, "AddUserToUserGroup", osc.AddUserToUserGroupRequest{
		UserGroupName: name, UserGroupPath: &path, UserName: user.Name, UserPath: &user.Path,
	})
}

// listedUser translates a user of the API.
func listedUser(u osc.User) provider.User {
	user := provider.User{ID: u.GetUserId(), Name: u.GetUserName(), Path: u.GetPath()}
	if label, err := keylabel.FromPath(user.Path); err == nil {
		user.Label = label.String()
	}
	return user
}

// named says what an error is about.
func named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
