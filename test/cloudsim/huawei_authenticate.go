// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"slices"
	"time"
)

// iamCaller is who sent a request: a user, or through an agency one of another domain. Its methods are the operations; they
// run with cloud.mu held.
type iamCaller struct {
	cloud   *Cloud
	domain  *Domain  // the account in which the caller acts
	who     *iamUser // nil for a session of an agency
	allow   []string // of the agency
	request iamRequest
}

// iamRequest is what an operation sees of the request.
type iamRequest struct {
	*http.Request
	body []byte
	path []string // the values of the pattern's variables
}

// accessKeyLocked tells that the key is locked for refusals before. A call that it answers is not counted to them.
const accessKeyLocked = "AK access failed to reach the limit,forbidden."

// authenticateIAM finds the caller, or the refusal. The caller holds c.mu.
func (c *Cloud) authenticateIAM(in iamRequest) (iamCaller, *iamError) {
	now := time.Now()
	auth, ok := parseSDKAuthorization(in.Header.Get("Authorization"))
	if !ok {
		return iamCaller{}, errGatewayAuth("x-auth-token not found") // nobody to count it against
	}
	lock := c.lockOf(auth.accessKey)
	if lock.locked(now) {
		return iamCaller{}, errGatewayAuth(accessKeyLocked)
	}
	signed, ok := sdkSignedAt(in.Request)
	if !ok || c.now().Sub(signed).Abs() > maxClockSkew { // seen before the signature is: not counted
		return iamCaller{}, gatewayRefusal(http.StatusUnauthorized, codeGatewayClock,
			"Incorrect app authentication information: signature expired")
	}

	who, refusal := c.checkIAMKey(auth, in, now)
	if refusal != nil {
		if refusal.shape == gatewayShape { // IAM's own refusals come after a good signature
			lock.fail(now)
		}
		return iamCaller{}, refusal
	}
	*lock = akLock{}
	who.cloud, who.request = c, in
	return who, nil
}

func (c *Cloud) checkIAMKey(auth sdkAuthorization, in iamRequest, now time.Time) (iamCaller, *iamError) {
	if auth.scope == nil && c.huawei.OldDialectOnly {
		return iamCaller{}, errGatewayAuth("verify aksk signature fail")
	}
	if in.Header.Get("X-Security-Token") != "" {
		return c.checkSession(auth, in, now)
	}
	k, ok := c.iamKeys[auth.accessKey]
	switch {
	case !ok, now.Before(k.usableAt), k.deleted && !now.Before(k.endsAt):
		return iamCaller{}, errNoSuchAK(auth.accessKey)
	case !auth.verify(in.Request, in.body, k.secret):
		return iamCaller{}, errGatewayAuth("verify aksk signature fail")
	case k.State != IAMActive && !now.Before(k.endsAt):
		return iamCaller{}, c.errInactive(auth.accessKey)
	}
	if refusal := k.owner.refused(); refusal != nil && !k.deleted {
		return iamCaller{}, refusal
	}
	k.LastUsed = now.UTC().Truncate(time.Microsecond)
	return iamCaller{domain: k.owner.domain, who: k.owner}, nil
}

func (c *Cloud) errInactive(accessKey string) *iamError {
	if c.huawei.InactiveKeyIs401 {
		return errGatewayAuth("ak %s is inactive", accessKey)
	}
	return iamRefusal(http.StatusBadRequest, codeIAMKeyInactive, "AK %s is inactive.", accessKey)
}

// refused tells why a user may not use keys at all.
func (who *iamUser) refused() *iamError {
	switch {
	case who.gone:
		return iamRefusal(http.StatusBadRequest, codeIAMUserGone, "The user of the access key is not found.")
	case who.disabled:
		return iamRefusal(http.StatusForbidden, codeIAMUserDisabled, "The user of the access key is disabled.")
	case who.accessMode == consoleAccess:
		return iamRefusal(http.StatusForbidden, codeIAMConsoleOnly, "The user may use the console only.")
	}
	return nil
}

// inDomain refuses a call without the account's id in X-Domain-Id. What the real cloud answers is not known; it is no
// refusal, since the signature was good.
func (c iamCaller) inDomain() *iamError {
	switch c.request.Header.Get("X-Domain-Id") {
	case c.domain.id:
		return nil
	case "":
		if c.cloud.huawei.DomainIDOptional {
			return nil
		}
		return errGatewayAuth("x-domain-id not found")
	default:
		return iamRefusal(http.StatusForbidden, codeIAMDenied, "X-Domain-Id is not the account of the access key.")
	}
}

// may reports whether the caller has been given the action. The account's owner has them all.
func (c iamCaller) may(action string) bool {
	grants := func(pattern string) bool { return allows(pattern, action) }
	if c.who == nil {
		return slices.ContainsFunc(c.allow, grants)
	}
	if c.who == c.domain.owner || slices.ContainsFunc(c.who.allow, grants) {
		return true
	}
	return slices.ContainsFunc(c.who.groups, func(g *iamGroup) bool { return slices.ContainsFunc(g.allow, grants) })
}

// administers: only the whole of IAM makes an administrator.
func (c iamCaller) administers() bool { return c.may(SecurityAdministrator) }
