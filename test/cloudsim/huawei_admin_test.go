// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestTheAdminHandlerShowsAndChangesHuawei(t *testing.T) {
	c, d, root := newHuawei()
	var made madeDomain
	if err := json.Unmarshal([]byte(mustAdmin(t, c, "POST", "/huawei/domains", `{"name":"customer"}`)), &made); err != nil {
		t.Fatal(err)
	}
	customer := root.as(Credentials(made.madeKey))
	customer.domain = made.ID
	customer.must(t, 200, listIAMUsers, "")

	var user madeID
	body := mustAdmin(t, c, "POST", "/huawei/users", `{"domain":"acme","name":"deploy","allow":["iam:tokens:assume"]}`)
	if err := json.Unmarshal([]byte(body), &user); err != nil {
		t.Fatal(err)
	}
	mustAdmin(t, c, "POST", "/huawei/groups", `{"domain":"`+d.ID()+`","name":"readers"}`)
	mustAdmin(t, c, "POST", "/huawei/agencies", `{"domain":"customer","name":"ops","trusted":"acme"}`)
	var planted madeKey
	body = mustAdmin(t, c, "POST", "/huawei/keys", `{"domain":"acme","user":"deploy","description":"foreign","created":"2020-01-01T00:00:00Z"}`)
	if err := json.Unmarshal([]byte(body), &planted); err != nil {
		t.Fatal(err)
	}
	root.as(Credentials(planted)).session(t, byAgency("ops", `,"domain_name":"customer"`))
	mustAdmin(t, c, "POST", "/huawei/protect-policy", `{"domain":"acme","manage_accesskey":false}`)
	root.as(Credentials(planted)).must(t, 403, listIAMKeys, "")
	mustAdmin(t, c, "POST", "/huawei/delays", `{"key":"1m","key_reads":1,"activation":"2s"}`)
	if c.huawei.KeyDelay != time.Minute || c.huawei.KeyReads != 1 || c.huawei.ActivationDelay != 2*time.Second {
		t.Errorf("got %+v", c.huawei)
	}

	var state State
	if err := json.Unmarshal([]byte(mustAdmin(t, c, "GET", "/state", "")), &state); err != nil {
		t.Fatal(err)
	}
	acme := state.Domains[0]
	if len(state.Domains) != 2 || acme.Name != "acme" || acme.ManageAccessKey || acme.Users[0] != "deploy" ||
		acme.Keys[0].Description != "foreign" || acme.Keys[0].UserID != user.ID || acme.Keys[0].State != IAMActive {
		t.Errorf("got %+v", state.Domains)
	}
	mustAdmin(t, c, "DELETE", "/huawei/keys/"+planted.AccessKey, "")
	if got := admin(t, c, "DELETE", "/huawei/keys/"+planted.AccessKey, ""); got.Code != 404 {
		t.Errorf("got %d", got.Code)
	}
	view := mustAdmin(t, c, "GET", "/state", "") + mustAdmin(t, c, "GET", "/calls", "")
	for _, secret := range c.Secrets() {
		if strings.Contains(view, secret) {
			t.Error("the admin handler shows a secret")
		}
	}
}

func TestTheAdminHandlerRefusesWrongOrdersForHuawei(t *testing.T) {
	for name, test := range map[string]struct {
		path, body string
		status     int
	}{
		"a domain without name":      {"domains", `{}`, 400},
		"an unknown domain":          {"users", `{"domain":"x","name":"a"}`, 404},
		"a user without name":        {"users", `{"domain":"acme"}`, 400},
		"an agency for nobody":       {"agencies", `{"domain":"acme","name":"a","trusted":"x"}`, 404},
		"a delay without unit":       {"delays", `{"user":"5"}`, 400},
		"a key with an unknown word": {"keys", `{"domain":"acme","secret":"x"}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, _ := newHuawei()
			if got := admin(t, c, "POST", "/huawei/"+test.path, test.body); got.Code != test.status {
				t.Errorf("got %d %s, want %d", got.Code, got.Body, test.status)
			}
		})
	}
}
