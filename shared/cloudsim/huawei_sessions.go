// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "time"

// iamSession is a temporary key with its token.
type iamSession struct {
	caller iamCaller
	secret string
	token  string
	ends   time.Time
}

// checkSession: without its token a temporary key is unknown, and a token goes with no other key.
func (c *Cloud) checkSession(auth sdkAuthorization, in iamRequest, now time.Time) (iamCaller, *iamError) {
	s, ok := c.sessions[auth.accessKey]
	switch {
	case !ok, s.token != in.Header.Get("X-Security-Token"):
		return iamCaller{}, errGatewayAuth("decrypt token fail")
	case !auth.verify(in.Request, in.body, s.secret):
		return iamCaller{}, errGatewayAuth("verify aksk signature fail")
	case !now.Before(s.ends):
		return iamCaller{}, iamRefusal(400, codeIAMTokenExpired, "The security token has expired.")
	}
	if s.caller.who != nil {
		return s.caller, s.caller.who.refused()
	}
	return s.caller, nil
}
