// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"slices"
	"strings"
	"testing"
)

const readOnly = `{"Statement":[{"Effect":"Allow","Action":["api:Read*"],"Resource":["*"]}]}`

func TestAUserIsDeletedOnceNothingHangsOnIt(t *testing.T) {
	attach := map[string]struct{ give, body, take, other string }{
		"an inline policy": {
			"PutUserPolicy", fields("UserName", "job", "PolicyName", "p", "PolicyDocument", readOnly),
			"DeleteUserPolicy", fields("UserName", "job", "PolicyName", "p"),
		},
		"a managed policy": {
			"LinkPolicy", fields("UserName", "job", "PolicyOrn", "orn:ows:idauth::123456789012:policy/ro"),
			"UnlinkPolicy", fields("UserName", "job", "PolicyOrn", "orn:ows:idauth::123456789012:policy/ro"),
		},
		"a group": {
			"AddUserToUserGroup", fields("UserName", "job", "UserPath", "/ci/", "UserGroupName", "builders"),
			"RemoveUserFromUserGroup", fields("UserName", "job", "UserPath", "/ci/", "UserGroupName", "builders"),
		},
	}
	for name, test := range attach {
		t.Run(name, func(t *testing.T) {
			_, a, root := newCloud()
			a.AddPolicy("ro", "api:Read*")
			a.AddGroup("/", "builders", "api:Read*")
			root.mustSucceed(t, "CreateUser", fields("UserName", "job", "Path", "/ci/"))
			root.mustSucceed(t, test.give, test.body)
			root.mustSucceed(t, test.give, test.body) // again does no harm
			root.mustRefuse(t, "DeleteUser", fields("UserName", "job"), 409, codeUserInUse)
			root.mustSucceed(t, test.take, test.other)
			if again := root.call(t, test.take, test.other); again.Status != 400 {
				t.Errorf("taking it twice: status %d", again.Status)
			}
			root.mustSucceed(t, "DeleteUser", fields("UserName", "job"))
		})
	}
}

func TestRightsDecideWhatAUserMayCall(t *testing.T) {
	cases := map[string]struct {
		inline  string
		linked  []string
		groups  []string
		allowed []string
		refused []string
	}{
		"nothing":                    {refused: []string{"ReadVms", "CreateAccessKey"}},
		"an inline policy":           {inline: readOnly, allowed: []string{"ReadVms"}, refused: []string{"CreateAccessKey"}},
		"a managed policy":           {linked: []string{"ro"}, allowed: []string{"ReadVms"}, refused: []string{"CreateAccessKey"}},
		"a group":                    {groups: []string{"readers"}, allowed: []string{"ReadVms"}, refused: []string{"CreateAccessKey"}},
		"all together":               {inline: readOnly, linked: []string{"keys"}, allowed: []string{"ReadVms", "CreateAccessKey"}},
		"what is denied is refused":  {inline: strings.Replace(readOnly, "Allow", "Deny", 1), linked: []string{"all"}, allowed: []string{"CreateAccessKey"}, refused: []string{"ReadVms"}},
		"everything but what is not": {inline: strings.Replace(readOnly, "Action", "NotAction", 1), allowed: []string{"CreateAccessKey"}, refused: []string{"ReadVms"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, a, root := newCloud()
			for policy, action := range map[string]string{"ro": "api:Read*", "keys": "api:CreateAccessKey", "all": "api:*"} {
				a.AddPolicy(policy, action)
			}
			a.AddGroup("/", "readers", "api:Read*")
			root.mustSucceed(t, "CreateUser", fields("UserName", "job"))
			user := root.as(a.AddKey(KeySpec{User: "job"}))
			if test.inline != "" {
				root.mustSucceed(t, "PutUserPolicy", fields("UserName", "job", "PolicyName", "p", "PolicyDocument", test.inline))
			}
			for _, policy := range test.linked {
				root.mustSucceed(t, "LinkPolicy", fields("UserName", "job", "PolicyOrn", "orn:ows:idauth::123456789012:policy/"+policy))
			}
			for _, group := range test.groups {
				root.mustSucceed(t, "AddUserToUserGroup", fields("UserName", "job", "UserGroupName", group))
			}
			for _, op := range test.allowed {
				user.mustSucceed(t, op, "{}")
			}
			for _, op := range test.refused {
				user.mustRefuse(t, op, "{}", 401, "7")
			}
		})
	}
}

func TestBadRequestsForRightsAreRefused(t *testing.T) {
	const orn = "orn:ows:idauth::123456789012:policy/"
	cases := map[string]struct {
		op, body string
		status   int
		code     string
	}{
		"a policy for nobody":             {"PutUserPolicy", fields("UserName", "ghost", "PolicyName", "p", "PolicyDocument", readOnly), 400, codeNoSuchUser},
		"a policy without a name":         {"PutUserPolicy", fields("UserName", "job", "PolicyDocument", readOnly), 400, codeMissing},
		"a document that is none":         {"PutUserPolicy", fields("UserName", "job", "PolicyName", "p", "PolicyDocument", "{}"), 400, codeValue},
		"an action that is no list":       {"PutUserPolicy", fields("UserName", "job", "PolicyName", "p", "PolicyDocument", strings.NewReplacer("[\"api:Read*\"]", "\"api:Read*\"").Replace(readOnly)), 400, codeValue},
		"a document that is too long":     {"PutUserPolicy", fields("UserName", "job", "PolicyName", "p", "PolicyDocument", strings.Replace(readOnly, "Read*", strings.Repeat("x", maxDocument), 1)), 400, codeValue},
		"a managed policy that is not":    {"LinkPolicy", fields("UserName", "job", "PolicyOrn", orn+"nope"), 400, codeNoSuchPolicy},
		"a malformed ORN":                 {"LinkPolicy", fields("UserName", "job", "PolicyOrn", "ro"), 400, codeValue},
		"a group that is not":             {"AddUserToUserGroup", fields("UserName", "job", "UserPath", "/ci/", "UserGroupName", "nope"), 400, codeNoSuchGroup},
		"a group at another path":         {"AddUserToUserGroup", fields("UserName", "job", "UserPath", "/ci/", "UserGroupName", "builders"), 400, codeNoSuchGroup},
		"a user at another path":          {"AddUserToUserGroup", fields("UserName", "job", "UserGroupName", "builders", "UserGroupPath", "/ci/"), 400, codeNoSuchUser},
		"the groups of a user elsewhere":  {"ReadUserGroupsPerUser", fields("UserName", "job"), 400, codeNoSuchUser},
		"a group that exists":             {"CreateUserGroup", fields("UserGroupName", "builders", "Path", "/ci/"), 409, codeDuplicateGroup},
		"a user path with a hyphen in it": {"CreateUser", fields("UserName", "x", "Path", "/my-team/"), 400, codeValue},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, a, root := newCloud()
			a.AddGroup("/ci/", "builders")
			root.mustSucceed(t, "CreateUser", fields("UserName", "job", "Path", "/ci/"))
			root.mustRefuse(t, test.op, test.body, test.status, test.code)
		})
	}
}

func TestWhatHangsOnAUserIsListed(t *testing.T) {
	_, a, root := newCloud()
	root.mustSucceed(t, "CreatePolicy", fields("PolicyName", "ro", "Document", readOnly))
	root.mustSucceed(t, "CreateUserGroup", fields("UserGroupName", "builders", "Path", "/ci/"))
	root.mustSucceed(t, "CreateUser", fields("UserName", "job"))
	root.mustSucceed(t, "LinkPolicy", fields("UserName", "job", "PolicyOrn", "orn:ows:idauth::123456789012:policy/ro"))
	root.mustSucceed(t, "PutUserPolicy", fields("UserName", "job", "PolicyName", "mine", "PolicyDocument", readOnly))
	root.mustSucceed(t, "AddUserToUserGroup", fields("UserName", "job", "UserGroupName", "builders", "UserGroupPath", "/ci/"))
	for op, part := range map[string]string{
		"ReadLinkedPolicies": `"Orn":"orn:ows:idauth::123456789012:policy/ro"`, "ReadUserPolicies": `"PolicyNames":["mine"]`,
		"ReadUserGroupsPerUser": `"Name":"builders","Path":"/ci/"`,
	} {
		if got := string(root.mustSucceed(t, op, fields("UserName", "job")).Raw); !strings.Contains(got, part) {
			t.Errorf("%s: got %s", op, got)
		}
	}
	user, ok := a.User("job")
	if !ok || user.Inline["mine"] != readOnly || len(user.Linked) != 1 || !slices.Equal(user.Groups, []string{"/ci/builders"}) {
		t.Errorf("got %+v", user)
	}
}
