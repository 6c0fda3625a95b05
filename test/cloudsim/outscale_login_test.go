// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// signInCall makes a call with a login, and returns its status and code.
func signInCall(t *testing.T, c client, op, login, password string, date time.Time) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.endpoint+"/"+op, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(login, password)
	if !date.IsZero() {
		r.Header.Set("X-Osc-Date", date.UTC().Format("20060102T150405Z"))
	}
	answer, err := c.rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var refused struct{ Errors []struct{ Code string } }
	if err := json.NewDecoder(answer.Body).Decode(&refused); err != nil {
		t.Fatal(err)
	}
	if len(refused.Errors) == 0 {
		return answer.StatusCode, ""
	}
	return answer.StatusCode, refused.Errors[0].Code
}

func TestLogin(t *testing.T) {
	const login, password = "owner@example.com", "a password"
	tests := map[string]struct {
		op, login, password string
		skew                time.Duration
		endless             bool
		status              int
		code                string
	}{
		"the right password makes a key":                 {"CreateAccessKey", login, password, 0, false, 200, ""},
		"a wrong one is refused as a wrong key is":       {"CreateAccessKey", login, "another", 0, false, 401, "1"},
		"a login that nobody has is refused alike":       {"CreateAccessKey", "nobody@example.com", password, 0, false, 401, "1"},
		"without X-Osc-Date it is refused":               {"CreateAccessKey", login, password, 0, true, 401, "1"},
		"with an old X-Osc-Date it is refused":           {"CreateAccessKey", login, password, -time.Hour, false, 401, "1"},
		"it reads the access policy":                     {"ReadApiAccessPolicy", login, password, 0, false, 200, ""},
		"it makes no call that the API does not give it": {"ReadAccounts", login, password, 0, false, 401, "4"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, a, c := newCloud()
			a.SetLogin(login, password)
			date := time.Now().Add(test.skew)
			if test.endless {
				date = time.Time{}
			}
			if status, code := signInCall(t, c, test.op, test.login, test.password, date); status != test.status || code != test.code {
				t.Errorf("got %d, code %q", status, code)
			}
		})
	}
}

func TestRefusedPasswordsLockTheAccount(t *testing.T) {
	_, a, c := newCloud()
	a.SetLogin("owner@example.com", "a password")
	for range 4 {
		signInCall(t, c, "ReadAccessKeys", "owner@example.com", "another", time.Now())
	}
	if !a.Locked() {
		t.Error("not locked")
	}
	if _, code := signInCall(t, c, "ReadAccessKeys", "owner@example.com", "a password", time.Now()); code != "13" {
		t.Errorf("got code %q", code)
	}
	c.mustRefuse(t, "ReadVms", "{}", 401, "13")
}

func TestTheAdminHandlerSetsALogin(t *testing.T) {
	cloud, _, c := newCloud()
	view := mustAdmin(t, cloud, "POST", "/logins", `{"account":"123456789012","login":"owner@example.com","password":"a password"}`)
	if strings.Contains(view, "a password") {
		t.Error("it shows the password")
	}
	if status, _ := signInCall(t, c, "ReadAccessKeys", "owner@example.com", "a password", time.Now()); status != 200 {
		t.Errorf("got %d", status)
	}
}
