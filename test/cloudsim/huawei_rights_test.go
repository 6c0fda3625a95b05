// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestAUserManagesItsOwnKeysAndNoOthers(t *testing.T) {
	_, d, root := newHuawei()
	id, other := d.AddUser("deploy"), d.AddKey(IAMKeySpec{User: "other"})
	deploy := root.as(d.AddKey(IAMKeySpec{User: "deploy"}))

	second := deploy.newKey(t, id)
	deploy.must(t, 200, showIAMKey+second.AccessKey, "")
	deploy.must(t, 200, updateIAMKey+second.AccessKey, `{"credential":{"status":"inactive"}}`)
	if got := deploy.must(t, 200, listIAMKeys, "").Credentials; len(got) != 2 {
		t.Errorf("listed %+v", got)
	}
	deploy.must(t, 204, deleteIAMKey+second.AccessKey, "")
	deploy.must(t, 200, "GET /v3/auth/projects", "")

	for _, line := range []string{showIAMKey + other.AccessKey, deleteIAMKey + other.AccessKey, listIAMKeys + "?user_id=" + d.owner.id, listIAMUsers} {
		deploy.mustRefuse(t, line, "", 403, "not authorized")
	}
	d.AddUser("deploy", "iam:credentials:*")
	deploy.must(t, 204, deleteIAMKey+other.AccessKey, "")
}

func TestOnlyAdministratorsManageKeysWhereThePolicySaysSo(t *testing.T) {
	_, d, root := newHuawei()
	id := d.AddUser("deploy", "iam:credentials:*")
	deploy := root.as(d.AddKey(IAMKeySpec{User: "deploy"}))
	admin := root.as(d.AddKey(IAMKeySpec{User: "admin"}))
	d.AddUser("admin", SecurityAdministrator)

	d.SetManageAccessKey(false)
	deploy.mustRefuse(t, createIAMKey, `{"credential":{"user_id":"`+id+`"}}`, 403, "not authorized")
	admin.newKey(t, id)
	admin.must(t, 200, "GET /v3.0/OS-SECURITYPOLICY/domains/"+d.ID()+"/protect-policy", "")
	d.SetManageAccessKey(true)
	deploy.must(t, 200, listIAMKeys, "")
}

func TestTheDomainOfAKeyIsLookedUpWithoutNamingIt(t *testing.T) {
	_, d, root := newHuawei()
	root.domain = ""
	if got := root.must(t, 200, "GET /v3/auth/domains", "").Domains; len(got) != 1 || got[0]["id"] != d.ID() || got[0]["name"] != "acme" {
		t.Errorf("got %v", got)
	}
	deploy := root.as(d.AddKey(IAMKeySpec{User: "deploy"}))
	d.HideDomain("deploy")
	if got := deploy.must(t, 200, "GET /v3/auth/domains", ""); len(got.Domains) != 0 {
		t.Errorf("got %s", got.Raw)
	}
}

func TestAnUnknownPathIsNoAPI(t *testing.T) {
	_, d, root := newHuawei()
	for _, line := range []string{"GET /v3/nothing", "GET /v5/users", "DELETE " + iamCredentials + "/", "PATCH " + iamCredentials, "GET /"} {
		got := root.mustRefuse(t, line, "", 404, "APIGW.0101")
		if got.RequestID == "" || got.RequestID != got.Header.Get("X-Request-Id") {
			t.Errorf("%s: got %s %v", line, got.Raw, got.Header)
		}
	}
	if d.Locked(root.creds.AccessKey) {
		t.Error("the key is locked")
	}
}

func TestFiveFailedAuthenticationsLockAKeyForFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, root := newHuawei()
		other := root.as(d.AddKey(IAMKeySpec{}))
		wrong := root.as(Credentials{root.creds.AccessKey, "wrong"})

		for range 4 {
			wrong.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		}
		root.must(t, 200, listIAMKeys, "") // resets
		for range 5 {
			wrong.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		}
		got := root.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		if got.ErrorMsg != "Incorrect IAM authentication information: AK access failed to reach the limit,forbidden." {
			t.Errorf("got %s", got.Raw)
		}
		other.must(t, 200, listIAMKeys, "")
		pass(5*time.Minute - time.Second)
		if !d.Locked(root.creds.AccessKey) {
			t.Error("unlocked too early")
		}
		pass(time.Second)
		root.must(t, 200, listIAMKeys, "")
	})
}

func TestADeactivatedKeyIsRefused(t *testing.T) {
	c, d, root := newHuawei()
	deploy := root.as(d.AddKey(IAMKeySpec{User: "deploy", Inactive: true}))
	for range 6 {
		deploy.mustRefuse(t, listIAMKeys, "", 400, "IAM.1107")
	}
	c.SetHuaweiRules(HuaweiRules{InactiveKeyIs401: true})
	deploy.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
}

func TestLastUseIsTheTimeOfCreationUntilTheKeySigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, root := newHuawei()
		deploy := root.as(root.newKey(t, d.AddUser("deploy")))
		pass(time.Hour)
		if got := root.must(t, 200, showIAMKey+deploy.creds.AccessKey, "").Credential; got.LastUseTime != got.CreateTime {
			t.Errorf("got %+v", got)
		}
		deploy.must(t, http.StatusOK, "GET /v3/auth/projects", "")
		if got := root.must(t, 200, showIAMKey+deploy.creds.AccessKey, "").Credential; got.LastUseTime == got.CreateTime {
			t.Errorf("got %+v", got)
		}
	})
}
