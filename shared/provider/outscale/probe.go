// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"net/http"
	"slices"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Targets of dry runs. No such user, key, policy or group exists, so that nothing would
// change even where DryRun were not heeded; EIM policies name calls, never targets
// (Resource is always "*"), so the answer holds for every target.
const (
	noSuchName   = "cloudkeys-permission-check"
	noSuchKey    = "CLOUDKEYSNOSUCHKEY00"
	noSuchPolicy = "orn:ows:idauth::000000000000:policy/cloudkeys-permission-check"
)

// probe is the dry run of one call.
type probe struct {
	op  string
	try func(context.Context, *Client, *bool) (*http.Response, error)
}

// probes are the calls that each use needs, apart from those that every check makes.
var probes = map[provider.Use][]probe{
	provider.UseKeys: {
		{"CreateAccessKey", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			user := noSuchName
			_, resp, err := c.api.AccessKeyApi.CreateAccessKey(ctx).CreateAccessKeyRequest(osc.CreateAccessKeyRequest{
				DryRun: dry, UserName: &user, ExpirationDate: formatDate(time.Now().Add(removalTime)),
			}).Execute()
			return resp, err
		}},
		{"UpdateAccessKey", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.AccessKeyApi.UpdateAccessKey(ctx).UpdateAccessKeyRequest(osc.UpdateAccessKeyRequest{
				DryRun: dry, AccessKeyId: noSuchKey, ExpirationDate: formatDate(time.Now().Add(removalTime)),
			}).Execute()
			return resp, err
		}},
		{"DeleteAccessKey", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.AccessKeyApi.DeleteAccessKey(ctx).DeleteAccessKeyRequest(osc.DeleteAccessKeyRequest{
				DryRun: dry, AccessKeyId: noSuchKey,
			}).Execute()
			return resp, err
		}},
	},
	provider.UseUsers: {
		{"ReadUsers", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.UserApi.ReadUsers(ctx).ReadUsersRequest(osc.ReadUsersRequest{DryRun: dry}).Execute()
			return resp, err
		}},
		{"CreateUser", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.UserApi.CreateUser(ctx).CreateUserRequest(osc.CreateUserRequest{DryRun: dry, UserName: c.takenName(ctx)}).Execute()
			return resp, err
		}},
		{"DeleteUser", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.UserApi.DeleteUser(ctx).DeleteUserRequest(osc.DeleteUserRequest{DryRun: dry, UserName: noSuchName}).Execute()
			return resp, err
		}},
		{"ReadUserPolicies", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.PolicyApi.ReadUserPolicies(ctx).ReadUserPoliciesRequest(osc.ReadUserPoliciesRequest{DryRun: dry, UserName: noSuchName}).Execute()
			return resp, err
		}},
		{"ReadLinkedPolicies", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.PolicyApi.ReadLinkedPolicies(ctx).ReadLinkedPoliciesRequest(osc.ReadLinkedPoliciesRequest{DryRun: dry, UserName: noSuchName}).Execute()
			return resp, err
		}},
		{"ReadUserGroupsPerUser", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.UserGroupApi.ReadUserGroupsPerUser(ctx).ReadUserGroupsPerUserRequest(osc.ReadUserGroupsPerUserRequest{DryRun: dry, UserName: noSuchName}).Execute()
			return resp, err
		}},
	},
	provider.UseInlinePolicies: {
		{"PutUserPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.PolicyApi.PutUserPolicy(ctx).PutUserPolicyRequest(osc.PutUserPolicyRequest{
				DryRun: dry, UserName: noSuchName, PolicyName: noSuchName,
				PolicyDocument: `{"Statement":[{"Effect":"Allow","Action":["api:ReadVms"],"Resource":["*"]}]}`,
			}).Execute()
			return resp, err
		}},
		{"DeleteUserPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.PolicyApi.DeleteUserPolicy(ctx).DeleteUserPolicyRequest(osc.DeleteUserPolicyRequest{
				DryRun: dry, UserName: noSuchName, PolicyName: noSuchName,
			}).Execute()
			return resp, err
		}},
	},
	provider.UseManagedPolicies: {
		{"LinkPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.PolicyApi.LinkPolicy(ctx).LinkPolicyRequest(osc.LinkPolicyRequest{DryRun: dry, UserName: noSuchName, PolicyOrn: noSuchPolicy}).Execute()
			return resp, err
		}},
		{"UnlinkPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.PolicyApi.UnlinkPolicy(ctx).UnlinkPolicyRequest(osc.UnlinkPolicyRequest{DryRun: dry, UserName: noSuchName, PolicyOrn: noSuchPolicy}).Execute()
			return resp, err
		}},
	},
	provider.UseGroups: {
		{"AddUserToUserGroup", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.UserGroupApi.AddUserToUserGroup(ctx).AddUserToUserGroupRequest(osc.AddUserToUserGroupRequest{
				DryRun: dry, UserName: noSuchName, UserGroupName: noSuchName,
			}).Execute()
			return resp, err
		}},
		{"RemoveUserFromUserGroup", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.UserGroupApi.RemoveUserFromUserGroup(ctx).RemoveUserFromUserGroupRequest(osc.RemoveUserFromUserGroupRequest{
				DryRun: dry, UserName: noSuchName, UserGroupName: noSuchName,
			}).Execute()
			return resp, err
		}},
	},
}

// ProbePermissions implements provider.PermissionProber with the API's DryRun: "checks
// whether you have the required permissions to perform the action". What it answers to a
// permitted call is not documented: everything but a refusal of the permission, or of the
// whole call, is taken for a yes.
func (c *Client) ProbePermissions(ctx context.Context, uses ...provider.Use) []error {
	dry := true
	var problems []error
	for _, use := range uses {
		for _, p := range probes[use] {
			resp, err := p.try(ctx, c, &dry)
			err = c.fault(p.op, resp, err)
			if slices.Contains(noVerdict, provider.KindOf(err)) && err != nil {
				return append(problems, err) // further calls would say no more
			}
			if provider.KindOf(err) == provider.KindDenied {
				problems = append(problems, err)
			}
		}
	}
	return problems
}

// noVerdict are the errors that say nothing of a permission.
var noVerdict = []provider.Kind{
	provider.KindThrottled, provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindLockedOut,
	provider.KindAmbiguous, provider.KindUnreachable,
}

// takenName is the name of a user that exists, where there is one: a CreateUser with it
// makes nothing, whatever becomes of DryRun.
func (c *Client) takenName(ctx context.Context) string {
	for user, err := range c.ListUsers(ctx) {
		if err == nil {
			return user.Name
		}
		break
	}
	return noSuchName
}

// ClockSkew implements provider.ClockSkew.
func (c *Client) ClockSkew() (skew time.Duration, known bool) { return c.clock.Skew() }
