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
			_, resp, err := c.api.createAccessKey(ctx, osc.CreateAccessKeyRequest{
				DryRun: dry, UserName: &user, ExpirationDate: formatDate(c.now().Add(removalTime)),
			})
			return resp, err
		}},
		{"UpdateAccessKey", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.updateAccessKey(ctx, osc.UpdateAccessKeyRequest{
				DryRun: dry, AccessKeyId: noSuchKey, ExpirationDate: formatDate(c.now().Add(removalTime)),
			})
			return resp, err
		}},
		{"DeleteAccessKey", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.deleteAccessKey(ctx, osc.DeleteAccessKeyRequest{
				DryRun: dry, AccessKeyId: noSuchKey,
			})
			return resp, err
		}},
	},
	provider.UseUsers: {
		{"ReadUsers", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.readUsers(ctx, osc.ReadUsersRequest{DryRun: dry})
			return resp, err
		}},
		{"CreateUser", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.createUser(ctx, osc.CreateUserRequest{DryRun: dry, UserName: c.takenName(ctx)})
			return resp, err
		}},
		{"DeleteUser", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.deleteUser(ctx, osc.DeleteUserRequest{DryRun: dry, UserName: noSuchName})
			return resp, err
		}},
		{"ReadUserPolicies", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.readUserPolicies(ctx, osc.ReadUserPoliciesRequest{DryRun: dry, UserName: noSuchName})
			return resp, err
		}},
		{"ReadLinkedPolicies", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.readLinkedPolicies(ctx, osc.ReadLinkedPoliciesRequest{DryRun: dry, UserName: noSuchName})
			return resp, err
		}},
		{"ReadUserGroupsPerUser", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.readUserGroupsPerUser(ctx, osc.ReadUserGroupsPerUserRequest{DryRun: dry, UserName: noSuchName})
			return resp, err
		}},
	},
	provider.UseInlinePolicies: {
		{"PutUserPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.putUserPolicy(ctx, osc.PutUserPolicyRequest{
				DryRun: dry, UserName: noSuchName, PolicyName: noSuchName,
				PolicyDocument: `{"Statement":[{"Effect":"Allow","Action":["api:ReadVms"],"Resource":["*"]}]}`,
			})
			return resp, err
		}},
		{"DeleteUserPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.deleteUserPolicy(ctx, osc.DeleteUserPolicyRequest{
				DryRun: dry, UserName: noSuchName, PolicyName: noSuchName,
			})
			return resp, err
		}},
	},
	provider.UseManagedPolicies: {
		{"LinkPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.linkPolicy(ctx, osc.LinkPolicyRequest{DryRun: dry, UserName: noSuchName, PolicyOrn: noSuchPolicy})
			return resp, err
		}},
		{"UnlinkPolicy", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.unlinkPolicy(ctx, osc.UnlinkPolicyRequest{DryRun: dry, UserName: noSuchName, PolicyOrn: noSuchPolicy})
			return resp, err
		}},
	},
	provider.UseGroups: {
		{"AddUserToUserGroup", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.addUserToUserGroup(ctx, osc.AddUserToUserGroupRequest{
				DryRun: dry, UserName: noSuchName, UserGroupName: noSuchName,
			})
			return resp, err
		}},
		{"RemoveUserFromUserGroup", func(ctx context.Context, c *Client, dry *bool) (*http.Response, error) {
			_, resp, err := c.api.removeUserFromUserGroup(ctx, osc.RemoveUserFromUserGroupRequest{
				DryRun: dry, UserName: noSuchName, UserGroupName: noSuchName,
			})
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
	provider.KindClockWrong, provider.KindAmbiguous, provider.KindUnreachable,
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

// now is the time by the cloud's clock, as far as that is known.
func (c *Client) now() time.Time {
	skew, _ := c.clock.Skew()
	return time.Now().Add(skew)
}

// ClockSkew implements provider.ClockSkew.
func (c *Client) ClockSkew() (skew time.Duration, known bool) { return c.clock.Skew() }
