// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFaultSpeaksHuawei(t *testing.T) {
	cases := map[string]struct {
		fault  Fault
		status int // 0: the connection is cut
		code   string
		worked bool
		body   string
	}{
		"refuse":                        {fault: Fault{Kind: Refuse}, status: 500, code: "Internal Server Error"},
		"refuse as IAM":                 {fault: Fault{Kind: Refuse, Status: 403, Code: "IAM.0003"}, status: 403, code: "IAM.0003"},
		"refuse as the gateway":         {fault: Fault{Kind: Refuse, Status: 504, Code: "APIGW.0201"}, status: 504, code: "APIGW.0201"},
		"refuse in the old words":       {fault: Fault{Kind: Refuse, Status: 400, Code: "akSkNumExceed"}, status: 400, code: "akSkNumExceed"},
		"refuse with a page":            {fault: Fault{Kind: Refuse, Status: 502, Body: "<html>"}, status: 502, body: "<html>"},
		"refuse after the work":         {fault: Fault{Kind: RefuseAfter, Status: 504}, status: 504, code: "Gateway Timeout", worked: true},
		"drop the answer":               {fault: Fault{Kind: DropAnswer}, worked: true},
		"drop the request":              {fault: Fault{Kind: DropRequest}},
		"an empty answer":               {fault: Fault{Kind: EmptyAnswer}, status: 201, worked: true},
		"an empty answer with 200":      {fault: Fault{Kind: EmptyAnswer, Status: 200}, status: 200, worked: true},
		"rubbish by order":              {fault: Fault{Kind: RubbishAnswer, Body: "rubbish"}, status: 201, body: "rubbish", worked: true},
		"a redirect":                    {fault: Fault{Kind: Redirect, Code: "https://proxy.test/"}, status: 302},
		"an unknown key":                {fault: Fault{Kind: Burst4120}, status: 401, code: "APIGW.0301"},
		"a throttling gateway":          {fault: Fault{Kind: Throttle}, status: 429, code: "APIGW.0308"},
		"a throttling IAM":              {fault: Fault{Kind: Throttle, Code: "IAM.0012"}, status: 429, code: "IAM.0012"},
		"another domain's is ignored":   {fault: Fault{Kind: Outage, Account: "0"}, status: 201, worked: true},
		"another user's is ignored":     {fault: Fault{Kind: Refuse, User: "other"}, status: 201, worked: true},
		"this domain's outage is known": {fault: Fault{Kind: Outage}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			for _, overHTTP := range []bool{false, true} {
				c, d, root := newHuawei()
				if overHTTP {
					root.endpoint, root.rt = c.StartHuawei(t), &http.Transport{DisableKeepAlives: true}
				}
				c.Order(test.fault)
				if test.fault.Kind == Throttle {
					root.must(t, 200, "GET /v3/auth/projects", "") // takes the only token
				}
				got, err := root.try(t.Context(), "POST", iamCredentials, `{"credential":{"user_id":"`+d.owner.id+`"}}`)
				if (test.status == 0) != (err != nil) || got.Status != test.status || got.code() != test.code {
					t.Errorf("got %v %d %s, want %d %q", err, got.Status, got.Raw, test.status, test.code)
				}
				if test.body != "" && string(got.Raw) != test.body {
					t.Errorf("got body %q", got.Raw)
				}
				if worked := len(d.Keys()) == 2; worked != test.worked {
					t.Errorf("was the work done? got %v", worked)
				}
				if test.fault.Kind == Redirect && got.Header.Get("Location") != test.fault.Code {
					t.Errorf("got %v", got.Header)
				}
			}
		})
	}
}

func TestATruncatedAnswerOfHuaweiContainsTheSecret(t *testing.T) {
	c, d, root := newHuawei()
	c.Order(Fault{Op: "CreatePermanentAccessKey", Kind: RubbishAnswer})
	got := root.must(t, 201, createIAMKey, `{"credential":{"user_id":"`+d.owner.id+`","description":"a label"}}`)
	secrets := c.Secrets()
	if !bytes.Contains(got.Raw, []byte(secrets[len(secrets)-1])) || got.Header.Get(FaultHeader) == "" {
		t.Errorf("no secret or no mark: %s %v", got.Raw, got.Header)
	}
}

func TestAThrottleOfOneOperationLetsItsRatePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, root := newHuawei()
		c.Order(Fault{Op: "ListPermanentAccessKeys", Kind: Throttle, Rate: 2})
		passed := 0
		for range 100 { // ten seconds, ten calls a second
			root.must(t, 200, "GET /v3/auth/projects", "")
			if root.call(t, listIAMKeys, "").Status == 200 {
				passed++
			}
			pass(100 * time.Millisecond)
		}
		if passed < 20 || passed > 22 {
			t.Errorf("%d of 100 calls passed in 10s, want about 20", passed)
		}
	})
}

func TestAnObserverSeesHuaweisCallsToo(t *testing.T) {
	c, d, root := newHuawei()
	outscale := c.AddAccount(testAccount)
	deploy := d.AddKey(IAMKeySpec{User: "deploy"})
	var seen []Call
	c.OnAnswer(func(call Call) { seen = append(seen, call) })

	root.as(deploy).must(t, 200, listIAMKeys+"?user_id=", "")
	client{endpoint: "http://api.test/api/v1", rt: c.Transport(), creds: outscale.RootKey()}.mustSucceed(t, "ReadVms", "{}")
	root.as(deploy).must(t, 403, showIAMKey+root.creds.AccessKey, "")
	if len(seen) != 3 || seen[1].Account != testAccount {
		t.Fatalf("saw %+v", seen)
	}
	first, last := seen[0], seen[2]
	if first.Op != "ListPermanentAccessKeys" || first.Account != d.ID() || first.User != "deploy" || first.AccessKey != deploy.AccessKey ||
		first.Target != listIAMKeys+"?user_id=" || last.Status != 403 || last.Code != "403" {
		t.Errorf("saw %+v and %+v", first, last)
	}
}
