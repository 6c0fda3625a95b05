// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
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
	op      string
	request func(context.Context, *Client, *bool) any
}

// probes are the calls that each use needs, apart from those that every check makes.
var probes = map[provider.Use][]probe{
	provider.UseKeys: {
		{"CreateAccessKey", func(ctx context.Context, c *Client, dry *bool) any {
			user := noSuchName
			return createAccessKeyRequest{
				DryRun: dry, UserName: &user, ExpirationDate: formatDate(c.now().Add(removalTime)),
			}
		}},
		{"UpdateAccessKey", func(ctx context.Context, c *Client, dry *bool) any {
			return updateAccessKeyRequest{
				DryRun: dry, AccessKeyId: noSuchKey, ExpirationDate: formatDate(c.now().Add(removalTime)),
			}
		}},
		{"DeleteAccessKey", func(ctx context.Context, c *Client, dry *bool) any {
			return deleteAccessKeyRequest{
				DryRun: dry, AccessKeyId: noSuchKey,
			}
		}},
	},
	provider.UseUsers: {
		{"ReadUsers", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.ReadUsersRequest{DryRun: dry}
		}},
		{"CreateUser", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.CreateUserRequest{DryRun: dry, UserName: c.takenName(ctx)}
		}},
		{"DeleteUser", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.DeleteUserRequest{DryRun: dry, UserName: noSuchName}
		}},
		{"ReadUserPolicies", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.ReadUserPoliciesRequest{DryRun: dry, UserName: noSuchName}
		}},
		{"ReadLinkedPolicies", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.ReadLinkedPoliciesRequest{DryRun: dry, UserName: noSuchName}
		}},
		{"ReadUserGroupsPerUser", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.ReadUserGroupsPerUserRequest{DryRun: dry, UserName: noSuchName}
		}},
	},
	provider.UseInlinePolicies: {
		{"PutUserPolicy", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.PutUserPolicyRequest{
				DryRun: dry, UserName: noSuchName, PolicyName: noSuchName,
				PolicyDocument: `{"Statement":[{"Effect":"Allow","Action":["api:ReadVms"],"Resource":["*"]}]}`,
			}
		}},
		{"DeleteUserPolicy", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.DeleteUserPolicyRequest{
				DryRun: dry, UserName: noSuchName, PolicyName: noSuchName,
			}
		}},
	},
	provider.UseManagedPolicies: {
		{"LinkPolicy", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.LinkPolicyRequest{DryRun: dry, UserName: noSuchName, PolicyOrn: noSuchPolicy}
		}},
		{"UnlinkPolicy", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.UnlinkPolicyRequest{DryRun: dry, UserName: noSuchName, PolicyOrn: noSuchPolicy}
		}},
	},
	provider.UseGroups: {
		{"AddUserToUserGroup", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.AddUserToUserGroupRequest{
				DryRun: dry, UserName: noSuchName, UserGroupName: noSuchName,
			}
		}},
		{"RemoveUserFromUserGroup", func(ctx context.Context, c *Client, dry *bool) any {
			return osc.RemoveUserFromUserGroupRequest{
				DryRun: dry, UserName: noSuchName, UserGroupName: noSuchName,
			}
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
			_, err := c.call(ctx, p.op, p.request(ctx, c, &dry), &struct{}{})
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
