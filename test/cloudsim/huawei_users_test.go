// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"fmt"
	"strings"
	"testing"
)

const (
	osUsers       = "/v3.0/OS-USER/users"
	createIAMUser = "POST " + osUsers
	listIAMUsers  = "GET /v3/users"
)

func userBody(c iamClient, name, more string) string {
	return fmt.Sprintf(`{"user":{"name":%q,"domain_id":%q%s}}`, name, c.domain, more)
}

func TestAUserIsCreatedShownListedAndDeletedWithItsKeys(t *testing.T) {
	_, d, root := newHuawei()
	made := root.must(t, 201, createIAMUser, userBody(root, "lease-1", `,"access_mode":"programmatic","description":"a label"`)).User
	id, _ := made["id"].(string)
	if len(id) != 32 || made["description"] != "a label" || made["access_mode"] != "programmatic" || made["enabled"] != true {
		t.Errorf("created %v", made)
	}
	key := root.newKey(t, id)
	if view := root.must(t, 200, "GET "+osUsers+"/"+id, "").User; view["name"] != "lease-1" || view["is_domain_owner"] != false {
		t.Errorf("returned %v", view)
	}
	if listed := root.must(t, 200, listIAMUsers+"?name=lease-1", "").Users; len(listed) != 1 || listed[0]["description"] != "a label" {
		t.Errorf("listed %v", listed)
	}
	root.must(t, 204, "DELETE /v3/users/"+id, "")
	root.mustRefuse(t, "DELETE /v3/users/"+id, "", 404, "Could not find user")
	root.as(key).mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
	if got := len(d.Keys()); got != 1 {
		t.Errorf("%d keys are left, want the root key alone", got)
	}
	root.mustRefuse(t, "DELETE /v3/users/"+d.owner.id, "", 400, "administrator cannot be deleted")
}

func TestANewUserIsChecked(t *testing.T) {
	_, d, root := newHuawei()
	d.AddUser("taken")
	cases := map[string]struct {
		body string
		want string
	}{
		"a name that is taken":         {userBody(root, "taken", ""), "1109"},
		"a name that starts with 1":    {userBody(root, "1st", ""), "1101"},
		"a name that starts with ' '":  {userBody(root, " x", ""), "1101"},
		"a name with a slash":          {userBody(root, "a/b", ""), "1101"},
		"a name of 65 characters":      {userBody(root, strings.Repeat("a", 65), ""), "1101"},
		"an unknown access mode":       {userBody(root, "a", `,"access_mode":"api"`), "1120"},
		"a description with a <":       {userBody(root, "a", `,"description":"<b>"`), "1100"},
		"no domain":                    {`{"user":{"name":"a"}}`, "1100"},
		"another domain":               {`{"user":{"name":"a","domain_id":"0"}}`, "IAM.0002"},
		"a number in place of a name":  {`{"user":{"name":7}}`, "IAM.0011"},
		"something that is not JSON":   {`user=a`, "IAM.0011"},
		"a key for nobody, old errors": {"", ""},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if test.body == "" {
				got := root.mustRefuse(t, createIAMKey, `{"credential":{}}`, 400, "user_id")
				if got.Error.Code != 400 || got.ErrorCode != "" {
					t.Errorf("got %s", got.Raw)
				}
				return
			}
			got := root.call(t, createIAMUser, test.body)
			if got.ErrorCode != test.want || got.ErrorMsg == "" || got.Status < 400 || got.Status > 403 {
				t.Errorf("got %d %s, want %s", got.Status, got.Raw, test.want)
			}
		})
	}
}

func TestAnAccountHasFiftyUsersAtMost(t *testing.T) {
	_, d, root := newHuawei()
	for i := range iamUserQuota {
		d.AddUser(fmt.Sprintf("u%d", i))
	}
	root.mustRefuse(t, createIAMUser, userBody(root, "one-more", ""), 400, "1115")
}

func TestDisabledUsersAreListedOnRequestOnly(t *testing.T) {
	c, d, root := newHuawei()
	d.AddUser("on")
	key := d.AddKey(IAMKeySpec{User: "off"})
	d.SetUserEnabled("off", false)
	for query, want := range map[string]int{"": 2, "?enabled=true": 2, "?enabled=false": 1, "?name=off": 0} {
		if got := root.must(t, 200, listIAMUsers+query, "").Users; len(got) != want {
			t.Errorf("%q: got %v, want %d", query, got, want)
		}
	}
	root.as(key).mustRefuse(t, listIAMKeys, "", 403, "IAM.0080")
	c.SetHuaweiRules(HuaweiRules{ListHidesNothing: true})
	if got := root.must(t, 200, listIAMUsers, "").Users; len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func TestAUserJoinsAndLeavesGroups(t *testing.T) {
	_, d, root := newHuawei()
	user, group := d.AddUser("deploy"), d.AddGroup("readers", "iam:users:listUsers")
	key := d.AddKey(IAMKeySpec{User: "deploy"})
	member := " /v3/groups/" + group + "/users/" + user

	root.as(key).mustRefuse(t, listIAMUsers, "", 403, "not authorized")
	root.must(t, 404, "HEAD"+member, "")
	root.must(t, 204, "PUT"+member, "")
	root.must(t, 204, "PUT"+member, "")
	root.must(t, 204, "HEAD"+member, "")
	root.as(key).must(t, 200, listIAMUsers, "")
	if got := root.must(t, 200, "GET /v3/users/"+user+"/groups", "").Groups; len(got) != 1 || got[0]["name"] != "readers" {
		t.Errorf("got %v", got)
	}
	if got := root.must(t, 200, "GET /v3/groups?name=readers", "").Groups; len(got) != 1 || got[0]["id"] != group {
		t.Errorf("got %v", got)
	}
	root.must(t, 204, "DELETE"+member, "")
	root.mustRefuse(t, "DELETE"+member, "", 404, "Could not find")
	root.mustRefuse(t, "PUT /v3/groups/0/users/"+user, "", 404, "Could not find group")

	for i := range groupsOfUser {
		root.must(t, 204, "PUT /v3/groups/"+d.AddGroup(fmt.Sprintf("g%d", i))+"/users/"+user, "")
	}
	root.must(t, 400, "PUT"+member, "")
}
