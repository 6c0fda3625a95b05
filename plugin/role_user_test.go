// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	testDocument = `{"Statement": [{"Effect": "Allow", "Action": ["api:Read*"], "Resource": ["*"]}]}`
	testORN      = "orn:ows:idauth::" + testAccountID + ":policy/"
)

func TestIAMUserRole(t *testing.T) {
	user := func(fields ...string) []string { return append([]string{"credential_type=iam_user"}, fields...) }
	refused := map[string]struct {
		fields []string
		says   []string
	}{
		"user_names":                 {user("user_names=app"), []string{"user_names is only valid with credential_type=access_key", "iam_user"}},
		"a path without slashes":     {user("user_path=ci"), []string{"user_path", `"ci"`, "/ci/"}},
		"a path with a hyphen":       {user("user_path=/my-team/"), []string{"user_path", "underscores"}},
		"a path that is too long":    {user("user_path=/" + strings.Repeat("a", 500) + "/"), []string{"user_path", "502 characters"}},
		"a policy by its name":       {user("policy_orns=read-only"), []string{"policy_orns", `"read-only"`, "orn:ows:"}},
		"a policy twice":             {user("policy_orns=" + testORN + "a," + testORN + "a"), []string{"policy_orns", "twice"}},
		"a group that cannot be one": {user("groups=a b"), []string{"groups", `"a b"`}},
		"too many groups": {
			user("groups=" + strings.Join(strings.Split("abcdefghijklmnopqrstu", ""), ",")),
			[]string{"21", "20 is the most"},
		},
		"a document that is no JSON":    {user("policy_document={"), []string{"policy_document", "not a JSON object"}},
		"a document that is a list":     {user("policy_document=[]"), []string{"not a JSON object"}},
		"a document that is null":       {user("policy_document=null"), []string{"not a JSON object"}},
		"a document without statements": {user("policy_document={}"), []string{"no list Statement"}},
		"an empty list of statements":   {user(`policy_document={"Statement":[]}`), []string{"no list Statement"}},
		"statement in lower case": {
			user("policy_document=" + strings.Replace(testDocument, "Statement", "statement", 1)),
			[]string{"no list Statement"},
		},
		"a statement without effect": {
			user("policy_document=" + strings.Replace(testDocument, "Effect", "effect", 1)),
			[]string{"statement 1", "no Effect"},
		},
		"an effect of another spelling": {
			user("policy_document=" + strings.Replace(testDocument, "Allow", "allow", 1)),
			[]string{"statement 1", "no Effect"},
		},
		"a statement without action": {
			user("policy_document=" + strings.Replace(testDocument, `"Action"`, `"action"`, 1)),
			[]string{"either Action or NotAction"},
		},
		"an action that is no list": {
			user("policy_document=" + strings.Replace(testDocument, `["api:Read*"]`, `"api:Read*"`, 1)),
			[]string{"Action that is not a list"},
		},
		"an empty action": {
			user("policy_document=" + strings.Replace(testDocument, `"api:Read*"`, `""`, 1)),
			[]string{"Action that is not a list"},
		},
		"a statement without resource": {
			user("policy_document=" + strings.Replace(testDocument, "Resource", "Resources", 1)),
			[]string{"no Resource"},
		},
		"a document that is too long": {user("policy_document=" +
			strings.Replace(testDocument, "Read*", strings.Repeat("x", 5120), 1)), []string{"5120", "policy_orns"}},
		"a path for keys of users": {
			[]string{"user_names=app", "user_path=/ci/"},
			[]string{"user_path is only valid with credential_type=iam_user", "access_key"},
		},
		"policies for keys of users": {[]string{"user_names=app", "policy_orns=" + testORN + "a"}, []string{"policy_orns is only valid"}},
		"a document for keys of users": {
			[]string{"user_names=app", "policy_document=" + testDocument}, []string{"policy_document is only valid"},
		},
		"groups for keys of users":       {[]string{"user_names=app", "groups=readers"}, []string{"groups is only valid"}},
		"a type that does not exist":     {[]string{"credential_type=banana"}, []string{`unknown credential_type "banana"`, "iam_user"}},
		"an account that does not exist": {user("account=nope", "groups=readers"), []string{`account "nope" is not configured`}},
		"a ttl that exceeds its max_ttl": {user("groups=readers", "ttl=2h", "max_ttl=1h"), []string{"longer than max_ttl"}},
		"Action and NotAction at a " +
			"time": {
			user(`policy_document={"Statement":[{"Effect":"Deny","Action":["a"],"NotAction":["b"],"Resource":["*"]}]}`),
			[]string{"either Action or NotAction"},
		},
		"a second statement that is " +
			"bad": {user(`policy_document={"Statement":[{"Effect":"Deny","NotAction":["b"],"Resource":["*"]},{}]}`), []string{"statement 2"}},
		"a resource that is not a string": {
			user(`policy_document={"Statement":[{"Effect":"Deny","NotAction":["b"],"Resource":[1]}]}`),
			[]string{"no Resource"},
		},
	}
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, test := range refused {
		tests[name+" is refused"] = func(t *testing.T, v *testVault) {
			v.configure()
			v.mustRefuse(logical.UpdateOperation, "roles/job", test.fields, test.says...)
			if resp, err := v.try(logical.ReadOperation, "roles/job"); err != nil || resp != nil {
				t.Error("it was stored all the same")
			}
		}
	}
	tests["a role reads back as it was written, the document to the letter"] = func(t *testing.T, v *testVault) {
		v.configure()
		document := strings.ReplaceAll(testDocument, " ", "\n\t ")
		v.write("roles/job", user("user_path=/ci/", "policy_orns="+testORN+"a,"+testORN+"b", "policy_document="+document,
			"groups=readers,/ci/builders")...)
		role := v.read("roles/job")
		if role["policy_document"] != document || role["user_path"] != "/ci/" || len(role["policy_orns"].([]string)) != 2 ||
			len(role["groups"].([]string)) != 2 {
			t.Errorf("got %v", role)
		}
	}
	tests["a role whose users may do nothing is stored with a warning"] = func(t *testing.T, v *testVault) {
		v.configure()
		mustHold(t, strings.Join(v.write("roles/job", user()...), " "), "may do nothing")
		if warnings := v.write("roles/job", "groups=readers", "max_ttl=1h"); len(warnings) != 0 {
			t.Errorf("got %q", warnings)
		}
	}
	tests["an iam_user role needs no leave to use the engine's own identity"] = func(_ *testing.T, v *testVault) {
		v.configure()
		v.write("config/default", "allow_root_identity=false")
		v.write("roles/job", user("groups=readers")...)
	}
	tests["a role changes its type once its fields are emptied"] = func(_ *testing.T, v *testVault) {
		v.configure()
		v.mustRefuse(logical.UpdateOperation, "roles/app", user("groups=readers"), "user_names", "clear user_names")
		v.write("roles/app", user("groups=readers", "user_names=")...)
	}
	tests["a role name that makes the account's template fail is refused at the write"] = func(_ *testing.T, v *testVault) {
		v.configure()
		v.write("config/default", "username_template={{ .RoleName }}-{{ random 40 }}")
		v.mustRefuse(logical.UpdateOperation, "roles/"+strings.Repeat("long", 8), user("groups=readers"), "username_template", "73 characters")
	}
	tests["a bad username_template is refused, and the account stays as it was"] = func(t *testing.T, v *testVault) {
		v.configure()
		v.mustRefuse(logical.UpdateOperation, "config/default", []string{"username_template=vault-{{ .RoleName }}"}, "twice", "random")
		if got := v.read("config/default")["username_template"]; got != defaultUsernameTemplate {
			t.Errorf("got %v", got)
		}
	}
	inBubble(t, tests)
}
