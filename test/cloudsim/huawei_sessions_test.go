// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"testing"
	"testing/synctest"
	"time"
)

const createSession = "POST /v3.0/OS-CREDENTIAL/securitytokens"

func byToken(more string) string {
	return `{"auth":{"identity":{"methods":["token"],"token":{` + more + `}}}}`
}

func byAgency(name, more string) string {
	return `{"auth":{"identity":{"methods":["assume_role"],"assume_role":{"agency_name":"` + name + `"` + more + `}}}}`
}

func (c iamClient) session(t *testing.T, body string) iamClient {
	t.Helper()
	made := c.must(t, 201, createSession, body).Credential
	c.creds, c.token = Credentials{made.Access, made.Secret}, made.SecurityToken
	return c
}

func TestATemporaryKeyActsAsItsUserUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, root := newHuawei()
		deploy := root.as(d.AddKey(IAMKeySpec{User: "deploy"}))
		temporary := deploy.session(t, byToken(`"duration_seconds":1800`))

		temporary.must(t, 200, "GET /v3/auth/projects", "")
		temporary.mustRefuse(t, listIAMUsers, "", 403, "not authorized")
		bare, foreign := temporary, root
		bare.token, foreign.token = "", temporary.token
		bare.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		foreign.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
		orphan := root.as(d.AddKey(IAMKeySpec{User: "leaver"})).session(t, byToken(""))
		d.DeleteUser("leaver")
		orphan.mustRefuse(t, listIAMKeys, "", 400, "IAM.1106")
		if keys := len(d.Keys()); keys != 2 {
			t.Errorf("%d permanent keys", keys)
		}
		pass(1800 * time.Second)
		temporary.mustRefuse(t, listIAMKeys, "", 400, "IAM.1108")
	})
}

func TestATemporaryKeyOfAnAgencyActsInTheOtherAccount(t *testing.T) {
	c, d, root := newHuawei()
	customer := c.AddDomain("customer")
	customer.AddAgency("ops", d, "iam:users:listUsers")
	customer.AddAgency("closed", customer)
	d.AddUser("deploy")
	deploy := root.as(d.AddKey(IAMKeySpec{User: "deploy"}))

	body := byAgency("ops", `,"domain_name":"customer","duration_seconds":900`)
	deploy.mustRefuse(t, createSession, body, 403, "not authorized")
	d.AddUser("deploy", AgentOperator)
	session := deploy.session(t, body)
	session.must(t, 403, listIAMUsers, "") // X-Domain-Id is still the caller's
	session.domain = customer.ID()
	if got := session.must(t, 200, listIAMUsers, "").Users; len(got) != 1 || got[0]["name"] != "customer" {
		t.Errorf("listed %v", got)
	}
	root.mustRefuse(t, createSession, byAgency("none", `,"domain_id":"`+customer.ID()+`"`), 404, "Could not find agency")
	root.mustRefuse(t, createSession, byAgency("closed", `,"domain_name":"customer"`), 403, "not authorized")
	root.mustRefuse(t, createSession, byAgency("ops", `,"domain_name":"nobody"`), 404, "Could not find domain")
	root.mustRefuse(t, createSession, byAgency("ops", ``), 400, "domain_id or domain_name")
}

func TestATemporaryKeyLastsFromFifteenMinutesToADay(t *testing.T) {
	_, _, root := newHuawei()
	for duration, status := range map[string]int{
		"": 201, `"duration_seconds":900`: 201, `"duration_seconds":86400`: 201,
		`"duration_seconds":899`: 400, `"duration_seconds":86401`: 400, `"duration_seconds":"900"`: 400,
	} {
		if got := root.call(t, createSession, byToken(duration)); got.Status != status {
			t.Errorf("%q: got %d %s, want %d", duration, got.Status, got.Raw, status)
		}
	}
	root.must(t, 400, createSession, `{"auth":{"identity":{"methods":["password"]}}}`)
}
