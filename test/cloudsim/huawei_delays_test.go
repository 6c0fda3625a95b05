// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestANewUserIsNotFoundForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, root := newHuawei(WithHuaweiRules(HuaweiRules{UserDelay: 10 * time.Second}))
		group := d.AddGroup("g")
		id, _ := root.must(t, 201, createIAMUser, userBody(root, "late", "")).User["id"].(string)
		lines := map[string]string{
			"GET " + osUsers + "/" + id:                "",
			"PUT /v3/groups/" + group + "/users/" + id: "",
			createIAMKey:                                `{"credential":{"user_id":"` + id + `"}}`,
			"DELETE /v3/users/" + id:                    "",
			listIAMKeys + "?user_id=" + id:              "",
			"GET /v3/users/" + id + "/groups":           "",
			"HEAD /v3/groups/" + group + "/users/" + id: "",
		}
		for line, body := range lines {
			root.must(t, 404, line, body)
		}
		if got := root.must(t, 200, listIAMUsers, "").Users; len(got) != 1 {
			t.Errorf("listed %v", got)
		}
		root.mustRefuse(t, createIAMUser, userBody(root, "late", ""), 400, "1109")
		pass(10 * time.Second)
		root.must(t, 204, "PUT /v3/groups/"+group+"/users/"+id, "")
		root.newKey(t, id)
	})
}

func TestANewKeyIsNotFoundForAFewReads(t *testing.T) {
	_, d, root := newHuawei(WithHuaweiRules(HuaweiRules{KeyReads: 2}))
	id := d.AddUser("deploy")
	key := root.newKey(t, id)
	root.mustRefuse(t, deleteIAMKey+key.AccessKey, "", 404, "Could not find credential")
	if got := root.must(t, 200, listIAMKeys+"?user_id="+id, "").Credentials; len(got) != 0 {
		t.Errorf("listed %+v", got)
	}
	if _, ok := d.Key(key.AccessKey); !ok {
		t.Fatal("the key does not exist at all")
	}
	root.must(t, 204, deleteIAMKey+key.AccessKey, "")
}

func TestANewKeySignsAfterAWhileAndADeletedOneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, root := newHuawei(WithHuaweiRules(HuaweiRules{ActivationDelay: 3 * time.Second, RevocationDelay: 20 * time.Second}))
		id := d.AddUser("deploy")
		deploy, second := root.as(root.newKey(t, id)), root.as(root.newKey(t, id))
		got := deploy.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		if want := "Incorrect IAM authentication information: ak " + deploy.creds.AccessKey + " not exist"; got.ErrorMsg != want {
			t.Errorf("got %s", got.Raw)
		}
		pass(3 * time.Second)
		deploy.must(t, 200, listIAMKeys, "")

		root.must(t, 204, deleteIAMKey+deploy.creds.AccessKey, "")
		root.must(t, 200, updateIAMKey+second.creds.AccessKey, `{"credential":{"status":"inactive"}}`)
		root.must(t, 404, showIAMKey+deploy.creds.AccessKey, "")
		deploy.must(t, 200, listIAMKeys, "")
		second.must(t, 200, listIAMKeys, "")
		pass(20 * time.Second)
		deploy.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		second.mustRefuse(t, listIAMKeys, "", 400, "IAM.1107")
	})
}

func TestADescriptionOfAKeyObeysTheRuleOfUsers(t *testing.T) {
	c, d, root := newHuawei()
	body := `{"credential":{"user_id":"` + d.owner.id + `","description":"a<b"}}`
	root.mustRefuse(t, createIAMKey, body, 400, "description")
	root.mustRefuse(t, updateIAMKey+root.creds.AccessKey, `{"credential":{"description":"a@b"}}`, 400, "description")
	c.SetHuaweiRules(HuaweiRules{FreeKeyDescriptions: true})
	root.must(t, 201, createIAMKey, body)
}

func TestTheWordsForAnUnknownUserAreARule(t *testing.T) {
	_, _, root := newHuawei(WithHuaweiRules(HuaweiRules{UnknownUserIs400: true, NullErrorCodes: true}))
	got := root.mustRefuse(t, createIAMKey, `{"credential":{"user_id":"0"}}`, 400, "Could not find user")
	want := `{"error":{"message":"Could not find user: 0.","code":400,"title":"Bad Request","error_code":null,"error_msg":null}}`
	if string(got.Raw) != want {
		t.Errorf("got %s", got.Raw)
	}
}
