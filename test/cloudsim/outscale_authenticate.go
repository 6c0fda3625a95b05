// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"strings"
	"time"
)

// admit finds out who sent the request and whether it may make the call. The caller holds c.mu.
func (c *Cloud) admit(op string, r *http.Request, body []byte) (*Account, *identity, *apiError) {
	if _, _, basic := r.BasicAuth(); basic {
		a, refusal := c.signIn(op, r)
		if refusal != nil {
			return nil, nil, refusal
		}
		return a, a.identities[""], nil
	}
	k, refusal := c.authenticate(r, body)
	if refusal != nil {
		return nil, nil, refusal
	}
	if k.account.policy.RequireTrustedEnvSecureMode && !k.Trusted && op != "ReadApiAccessPolicy" && op != "ReadAccessKeys" {
		// Which calls it is that an account in secure mode refuses to such a key, and in what words, is not known.
		return k.account, k.owner, accessDenied(codeNotAllowed, "Secure mode accepts only trusted access keys.")
	}
	return k.account, k.owner, k.authorize("api:" + op)
}

// authenticate finds the key that signed the request, or the refusal. The caller holds c.mu.
func (c *Cloud) authenticate(r *http.Request, body []byte) (*key, *apiError) {
	now := c.now()
	auth, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return nil, errAuthentication() // nobody to count it against
	}

	lock := c.lockoutOf(auth.accessKey)
	if lock.locked(time.Now()) {
		return nil, lock.refusal(time.Now())
	}
	k, refusal := c.checkKey(auth, r, body, now)
	if refusal != nil {
		lock.fail(time.Now())
		return nil, refusal
	}
	lock.succeed()
	return k, nil
}

func (c *Cloud) checkKey(auth authorization, r *http.Request, body []byte, now time.Time) (*key, *apiError) {
	k, ok := c.keys[auth.accessKey]
	switch {
	case !ok, time.Now().Before(k.usableAt):
		return nil, errUnknownKey()
	case !c.acceptsScope(auth.region), !auth.verify(r, body, k.secret, now):
		return nil, errAuthentication()
	case !k.Live(now) && c.rules.UnknownForDeadKeys:
		return nil, errUnknownKey()
	case !k.Live(now):
		return nil, errAuthentication()
	}
	return k, nil
}

// acceptsScope: the OUTSCALE SDK signs for eu-west-2 whatever the endpoint, so every region takes that name too.
func (c *Cloud) acceptsScope(region string) bool {
	return c.rules.AnyScopeRegion || region == c.region || region == defaultRegion
}

// lockoutOf returns the counter that a failure with this key id feeds: its account's, also once the key is deleted, or for
// an id that never existed its own.
func (c *Cloud) lockoutOf(accessKey string) *lockout {
	if k, ok := c.keys[accessKey]; ok {
		return &k.account.lock
	}
	if a, ok := c.deleted[accessKey]; ok {
		return &a.lock
	}
	if c.unknown[accessKey] == nil {
		c.unknown[accessKey] = &lockout{}
	}
	return c.unknown[accessKey]
}

// authorize checks the EIM user's rights. The root user may do everything.
func (k *key) authorize(action string) *apiError {
	if k.owner.name == "" || k.account.mayCall(k.owner, action) {
		return nil
	}
	return accessDenied(codeNotAllowed, "")
}

// allows is case sensitive, like OUTSCALE's policy documents.
func allows(pattern, action string) bool {
	prefix, wildcard := strings.CutSuffix(pattern, "*")
	if wildcard {
		return strings.HasPrefix(action, prefix)
	}
	return pattern == action
}
