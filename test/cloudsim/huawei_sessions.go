// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

const (
	minSession  = 900 // seconds, the default too
	maxSession  = 86400
	maxPolicy   = 2048 // characters
	tokenLength = 400
)

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
		return iamCaller{}, iamRefusal(http.StatusBadRequest, codeIAMTokenExpired, "The security token has expired.")
	}
	if s.caller.who != nil {
		return s.caller, s.caller.who.refused()
	}
	return s.caller, nil
}

// sessionRequest is the body of both calls for temporary keys. Their session policy is honoured by OBS only, so nothing
// here looks into it.
type sessionRequest struct {
	Auth struct {
		Identity struct {
			Methods []string `json:"methods"`
			Token   struct {
				ID       string `json:"id"`
				Duration *int   `json:"duration_seconds"`
			} `json:"token"`
			AssumeRole *struct {
				AgencyName string `json:"agency_name"`
				DomainID   string `json:"domain_id"`
				DomainName string `json:"domain_name"`
				Duration   *int   `json:"duration_seconds"`
			} `json:"assume_role"`
			Policy json.RawMessage `json:"policy"`
		} `json:"identity"`
	} `json:"auth"`
}

// assumesAgency tells the two calls apart.
func assumesAgency(body []byte) bool {
	var in sessionRequest
	return json.Unmarshal(body, &in) == nil && slices.Contains(in.Auth.Identity.Methods, "assume_role")
}

type sessionAnswer struct {
	Credential sessionCredential `json:"credential"`
}

// sessionCredential: the secrets come early, so that a truncated answer contains one.
type sessionCredential struct {
	Access        string `json:"access"`
	Secret        string `json:"secret"`
	SecurityToken string `json:"securitytoken"`
	ExpiresAt     string `json:"expires_at"`
}

// sessionByToken gives the caller a temporary key of its own. It needs no permission.
func (c iamCaller) sessionByToken(in sessionRequest) (any, *iamError) {
	identity := in.Auth.Identity
	if !slices.Equal(identity.Methods, []string{"token"}) {
		return nil, errInvalid("Expecting to find token or assume_role in methods.")
	}
	if refusal := checkSessionRequest(identity.Token.Duration, identity.Policy); refusal != nil {
		return nil, refusal
	}
	return c.newSession(c, identity.Token.Duration), nil
}

// sessionByAgency gives the caller a temporary key of an agency, in the account that made the agency.
func (c iamCaller) sessionByAgency(in sessionRequest) (any, *iamError) {
	role := in.Auth.Identity.AssumeRole
	switch {
	case !c.may(AgentOperator):
		return nil, errDenied(AgentOperator)
	case role == nil || role.AgencyName == "":
		return nil, errInvalid("Expecting to find agency_name in assume_role.")
	case role.DomainID == "" && role.DomainName == "":
		return nil, errInvalid("Expecting to find domain_id or domain_name in assume_role.")
	}
	if refusal := checkSessionRequest(role.Duration, in.Auth.Identity.Policy); refusal != nil {
		return nil, refusal
	}
	d := c.cloud.domainOf(role.DomainID, role.DomainName)
	if d == nil {
		return nil, errNotFound("domain", role.DomainID+role.DomainName)
	}
	found := slices.IndexFunc(d.agencies, func(a *agency) bool { return a.name == role.AgencyName })
	if found < 0 {
		return nil, errNotFound("agency", role.AgencyName)
	}
	if d.agencies[found].trusted != c.domain {
		return nil, errDenied(AgentOperator)
	}
	return c.newSession(iamCaller{cloud: c.cloud, domain: d, allow: d.agencies[found].allow}, role.Duration), nil
}

// domainOf prefers the id where both are given.
func (c *Cloud) domainOf(id, name string) *Domain {
	if id != "" {
		return c.domains[id]
	}
	for _, d := range c.domains {
		if d.name == name {
			return d
		}
	}
	return nil
}

func checkSessionRequest(duration *int, policy json.RawMessage) *iamError {
	switch {
	case duration != nil && (*duration < minSession || *duration > maxSession):
		return errInvalid("duration_seconds must be between %d and %d.", minSession, maxSession)
	case len(policy) > maxPolicy:
		return errInvalid("The policy is longer than %d characters.", maxPolicy)
	}
	return nil
}

func (c iamCaller) newSession(as iamCaller, duration *int) sessionAnswer {
	seconds := minSession
	if duration != nil {
		seconds = *duration
	}
	as.request = iamRequest{}
	s := &iamSession{
		caller: as,
		secret: randomID(40),
		token:  randomID(tokenLength),
		ends:   time.Now().Add(time.Duration(seconds) * time.Second).UTC().Truncate(time.Microsecond),
	}
	id := randomID(20)
	c.cloud.sessions[id] = s
	c.cloud.secrets = append(c.cloud.secrets, s.secret, s.token)
	return sessionAnswer{sessionCredential{
		Access: id, Secret: s.secret, SecurityToken: s.token, ExpiresAt: formatIAMDate(s.ends.Add(c.cloud.skew)), // by the clock of the cloud
	}}
}
