// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"time"
)

// loginDate is the form of X-Osc-Date, without which no login is accepted.
const loginDate = "20060102T150405Z"

// withLogin are the calls that take login and password (BasicAuth in the API's description).
var withLogin = map[string]bool{
	"CreateAccessKey":       true,
	"ReadAccessKeys":        true,
	"UpdateAccessKey":       true,
	"DeleteAccessKey":       true,
	"ReadApiAccessPolicy":   true,
	"UpdateApiAccessPolicy": true,
}

// signIn checks login and password. A wrong password counts towards the account's lock-out like a wrong key; which code
// answers it is assumed to be the same. The caller holds c.mu.
func (c *Cloud) signIn(op string, r *http.Request) (*Account, *apiError) {
	now := c.now()
	login, password, _ := r.BasicAuth()
	a := c.accountOf(r)
	if a == nil {
		return nil, errAuthentication() // nobody to count it against
	}
	if a.lock.locked(time.Now()) {
		return nil, a.lock.refusal(time.Now())
	}
	sentAt, err := time.Parse(loginDate, r.Header.Get("X-Osc-Date"))
	if err != nil || now.Sub(sentAt).Abs() > maxClockSkew || login != a.login || password != a.password {
		a.lock.fail(time.Now())
		return nil, errAuthentication()
	}
	a.lock.succeed()
	if !withLogin[op] {
		return nil, accessDenied(codeMethod, "")
	}
	return a, nil
}

// accountOf returns the account whose login the request names; nil: none. The caller holds c.mu.
func (c *Cloud) accountOf(r *http.Request) *Account {
	login, _, basic := r.BasicAuth()
	if !basic || login == "" {
		return nil
	}
	for _, a := range c.accounts {
		if a.login == login {
			return a
		}
	}
	return nil
}
