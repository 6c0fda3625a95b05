// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"net/http"

	osc "github.com/outscale/osc-sdk-go/v2"
)

// apiCall is one call of the API.
type apiCall[Q, A any] func(ctx context.Context, req Q) (A, *http.Response, error)

// apiCalls are the calls that a Client makes. They stand between it and the SDK's own client,
// whose type must not be reachable from a value in an interface: the linker would have to keep
// every method of every service, and all their types, for whoever looks at it by reflection.
type apiCalls struct {
	createAccessKey         apiCall[osc.CreateAccessKeyRequest, osc.CreateAccessKeyResponse]
	deleteAccessKey         apiCall[osc.DeleteAccessKeyRequest, osc.DeleteAccessKeyResponse]
	readAccessKeys          apiCall[osc.ReadAccessKeysRequest, osc.ReadAccessKeysResponse]
	updateAccessKey         apiCall[osc.UpdateAccessKeyRequest, osc.UpdateAccessKeyResponse]
	readAccounts            apiCall[osc.ReadAccountsRequest, osc.ReadAccountsResponse]
	deleteUserPolicy        apiCall[osc.DeleteUserPolicyRequest, osc.DeleteUserPolicyResponse]
	linkPolicy              apiCall[osc.LinkPolicyRequest, osc.LinkPolicyResponse]
	putUserPolicy           apiCall[osc.PutUserPolicyRequest, osc.PutUserPolicyResponse]
	readLinkedPolicies      apiCall[osc.ReadLinkedPoliciesRequest, osc.ReadLinkedPoliciesResponse]
	readUserPolicies        apiCall[osc.ReadUserPoliciesRequest, osc.ReadUserPoliciesResponse]
	unlinkPolicy            apiCall[osc.UnlinkPolicyRequest, osc.UnlinkPolicyResponse]
	createUser              apiCall[osc.CreateUserRequest, osc.CreateUserResponse]
	deleteUser              apiCall[osc.DeleteUserRequest, osc.DeleteUserResponse]
	readUsers               apiCall[osc.ReadUsersRequest, osc.ReadUsersResponse]
	addUserToUserGroup      apiCall[osc.AddUserToUserGroupRequest, osc.AddUserToUserGroupResponse]
	readUserGroupsPerUser   apiCall[osc.ReadUserGroupsPerUserRequest, osc.ReadUserGroupsPerUserResponse]
	removeUserFromUserGroup apiCall[osc.RemoveUserFromUserGroupRequest, osc.RemoveUserFromUserGroupResponse]
}

func callsOf(api *osc.APIClient) apiCalls {
	return apiCalls{
		createAccessKey: func(ctx context.Context, req osc.CreateAccessKeyRequest) (osc.CreateAccessKeyResponse, *http.Response, error) {
			return api.AccessKeyApi.CreateAccessKey(ctx).CreateAccessKeyRequest(req).Execute()
		},
		deleteAccessKey: func(ctx context.Context, req osc.DeleteAccessKeyRequest) (osc.DeleteAccessKeyResponse, *http.Response, error) {
			return api.AccessKeyApi.DeleteAccessKey(ctx).DeleteAccessKeyRequest(req).Execute()
		},
		readAccessKeys: func(ctx context.Context, req osc.ReadAccessKeysRequest) (osc.ReadAccessKeysResponse, *http.Response, error) {
			return api.AccessKeyApi.ReadAccessKeys(ctx).ReadAccessKeysRequest(req).Execute()
		},
		updateAccessKey: func(ctx context.Context, req osc.UpdateAccessKeyRequest) (osc.UpdateAccessKeyResponse, *http.Response, error) {
			return api.AccessKeyApi.UpdateAccessKey(ctx).UpdateAccessKeyRequest(req).Execute()
		},
		readAccounts: func(ctx context.Context, req osc.ReadAccountsRequest) (osc.ReadAccountsResponse, *http.Response, error) {
			return api.AccountApi.ReadAccounts(ctx).ReadAccountsRequest(req).Execute()
		},
		deleteUserPolicy: func(ctx context.Context, req osc.DeleteUserPolicyRequest) (osc.DeleteUserPolicyResponse, *http.Response, error) {
			return api.PolicyApi.DeleteUserPolicy(ctx).DeleteUserPolicyRequest(req).Execute()
		},
		linkPolicy: func(ctx context.Context, req osc.LinkPolicyRequest) (osc.LinkPolicyResponse, *http.Response, error) {
			return api.PolicyApi.LinkPolicy(ctx).LinkPolicyRequest(req).Execute()
		},
		putUserPolicy: func(ctx context.Context, req osc.PutUserPolicyRequest) (osc.PutUserPolicyResponse, *http.Response, error) {
			return api.PolicyApi.PutUserPolicy(ctx).PutUserPolicyRequest(req).Execute()
		},
		readLinkedPolicies: func(ctx context.Context, req osc.ReadLinkedPoliciesRequest) (osc.ReadLinkedPoliciesResponse, *http.Response, error) {
			return api.PolicyApi.ReadLinkedPolicies(ctx).ReadLinkedPoliciesRequest(req).Execute()
		},
		readUserPolicies: func(ctx context.Context, req osc.ReadUserPoliciesRequest) (osc.ReadUserPoliciesResponse, *http.Response, error) {
			return api.PolicyApi.ReadUserPolicies(ctx).ReadUserPoliciesRequest(req).Execute()
		},
		unlinkPolicy: func(ctx context.Context, req osc.UnlinkPolicyRequest) (osc.UnlinkPolicyResponse, *http.Response, error) {
			return api.PolicyApi.UnlinkPolicy(ctx).UnlinkPolicyRequest(req).Execute()
		},
		createUser: func(ctx context.Context, req osc.CreateUserRequest) (osc.CreateUserResponse, *http.Response, error) {
			return api.UserApi.CreateUser(ctx).CreateUserRequest(req).Execute()
		},
		deleteUser: func(ctx context.Context, req osc.DeleteUserRequest) (osc.DeleteUserResponse, *http.Response, error) {
			return api.UserApi.DeleteUser(ctx).DeleteUserRequest(req).Execute()
		},
		readUsers: func(ctx context.Context, req osc.ReadUsersRequest) (osc.ReadUsersResponse, *http.Response, error) {
			return api.UserApi.ReadUsers(ctx).ReadUsersRequest(req).Execute()
		},
		addUserToUserGroup: func(ctx context.Context, req osc.AddUserToUserGroupRequest) (osc.AddUserToUserGroupResponse, *http.Response, error) {
			return api.UserGroupApi.AddUserToUserGroup(ctx).AddUserToUserGroupRequest(req).Execute()
		},
		readUserGroupsPerUser: func(ctx context.Context, req osc.ReadUserGroupsPerUserRequest) (osc.ReadUserGroupsPerUserResponse,
			*http.Response, error,
		) {
			return api.UserGroupApi.ReadUserGroupsPerUser(ctx).ReadUserGroupsPerUserRequest(req).Execute()
		},
		removeUserFromUserGroup: func(ctx context.Context,
			req osc.RemoveUserFromUserGroupRequest,
		) (osc.RemoveUserFromUserGroupResponse, *http.Response, error) {
			return api.UserGroupApi.RemoveUserFromUserGroup(ctx).RemoveUserFromUserGroupRequest(req).Execute()
		},
	}
}
