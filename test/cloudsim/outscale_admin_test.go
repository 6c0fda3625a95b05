// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// admin sends one request to the admin handler.
func admin(t *testing.T, c *Cloud, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	c.Admin().ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
	return recorder
}

func mustAdmin(t *testing.T, c *Cloud, method, path, body string) string {
	t.Helper()
	got := admin(t, c, method, path, body)
	if got.Code != http.StatusOK {
		t.Fatalf("%s %s %s: got %d %s", method, path, body, got.Code, got.Body)
	}
	return got.Body.String()
}

func TestTheAdminHandlerShowsAndChangesTheCloud(t *testing.T) {
	c, a, root := newCloud()

	mustAdmin(t, c, "POST", "/policy", `{"account":"123456789012","max_access_key_expiration_seconds":900,"require_trusted_env":true}`)
	if got := a.Policy(); got != (Policy{MaxAccessKeyExpirationSeconds: 900, RequireTrustedEnv: true}) {
		t.Errorf("got policy %+v", got)
	}
	mustAdmin(t, c, "POST", "/users", `{"account":"123456789012","name":"deploy","allow":["api:ReadVms"]}`)
	root.as(a.AddKey(KeySpec{User: "deploy"})).mustSucceed(t, "ReadVms", "{}")

	view := mustAdmin(t, c, "GET", "/state", "")
	var state State
	if err := json.Unmarshal([]byte(view), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Accounts) != 1 || len(state.Accounts[0].Keys) != 2 || state.Accounts[0].Users[0] != "deploy" || state.Calls != 1 {
		t.Errorf("got %s", view)
	}
	calls := mustAdmin(t, c, "GET", "/calls", "")
	if !strings.Contains(calls, `"op":"ReadVms"`) {
		t.Errorf("got %s", calls)
	}
	for _, secret := range c.Secrets() {
		if strings.Contains(view+calls, secret) {
			t.Error("the admin handler shows a secret")
		}
	}
}

func TestTheAdminHandlerTakesAndCancelsFaults(t *testing.T) {
	c, _, root := newCloud()
	body := mustAdmin(t, c, "POST", "/faults", `{"op":"ReadVms","kind":"refuse","status":503,"code":"6","delay":"1ms"}`)
	var made faultID
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatal(err)
	}
	if got := c.orders[0].Delay; got != time.Millisecond {
		t.Errorf("got delay %s", got)
	}
	root.mustRefuse(t, "ReadVms", "{}", 503, "6")
	mustAdmin(t, c, "DELETE", fmt.Sprintf("/faults/%d", made.ID), "")
	root.mustSucceed(t, "ReadVms", "{}")
}

func TestTheAdminHandlerRefusesWhatItDoesNotUnderstand(t *testing.T) {
	cases := map[string]struct {
		path, body string
		method     string
		status     int
	}{
		"an unknown account":       {path: "/policy", body: `{"account":"x"}`, status: 404},
		"an unknown kind of fault": {path: "/faults", body: `{"kind":"sabotage"}`, status: 400},
		"a delay without unit":     {path: "/faults", body: `{"kind":"delay","delay":"5"}`, status: 400},
		"an unknown field":         {path: "/faults", body: `{"kind":"delay","speed":5}`, status: 400},
		"a user without name":      {path: "/users", body: `{"account":"123456789012"}`, status: 400},
		"a fault that is not":      {path: "/faults/9", method: "DELETE", status: 404},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c, _, _ := newCloud()
			if test.method == "" {
				test.method = "POST"
			}
			if got := admin(t, c, test.method, test.path, test.body); got.Code != test.status {
				t.Errorf("got %d %s, want %d", got.Code, got.Body, test.status)
			}
		})
	}
}
