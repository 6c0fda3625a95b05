// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// The API's names of its two calls for temporary keys, which share a path.
const (
	opSessionByAgency = "CreateTemporaryAccessKeyByAgency"
	opSessionByToken  = "CreateTemporaryAccessKeyByToken"
)

// The bounds of a temporary key's life.
const (
	MinSession = 15 * time.Minute
	MaxSession = 24 * time.Hour

	maxSessionPolicy = 2048 // characters
)

type wireIdentity struct {
	Methods []string        `json:"methods"`
	Role    *wireRole       `json:"assume_role,omitempty"`
	Token   *wireToken      `json:"token,omitempty"`
	Policy  json.RawMessage `json:"policy,omitempty"`
}

type wireRole struct {
	Agency     string           `json:"agency_name"`
	DomainID   string           `json:"domain_id,omitempty"`
	DomainName string           `json:"domain_name,omitempty"`
	Seconds    int64            `json:"duration_seconds"`
	User       *wireSessionUser `json:"session_user,omitempty"`
}

type wireSessionUser struct {
	Name string `json:"name"`
}

// wireToken has no token in it: the request's own signature says whose session it is.
type wireToken struct {
	Seconds int64 `json:"duration_seconds"`
}

type wireSession struct {
	Access  string          `json:"access"`
	Secret  provider.Secret `json:"secret"`
	Token   provider.Secret `json:"securitytoken"`
	Expires string          `json:"expires_at"`
}

// CheckSession refuses what the cloud would, where the caller can know it.
func CheckSession(lifetime time.Duration, policy string) error {
	switch {
	case lifetime < MinSession || lifetime > MaxSession || lifetime%time.Second != 0:
		return fmt.Errorf("a temporary key cannot live %s: give whole seconds from %s to %s", lifetime, MinSession, MaxSession)
	case len(policy) > maxSessionPolicy:
		return fmt.Errorf("the session policy is %d characters long, and %d is the most", len(policy), maxSessionPolicy)
	case policy == "":
		return nil
	}
	var document map[string]json.RawMessage
	if err := json.Unmarshal([]byte(policy), &document); err != nil || document == nil {
		return fmt.Errorf("the session policy is no JSON object")
	}
	return nil
}

// CreateSession implements provider.Sessions.
func (c *Client) CreateSession(ctx context.Context, spec provider.SessionSpec) (provider.Session, error) {
	if err := CheckSession(spec.Lifetime, spec.Policy); err != nil {
		return provider.Session{}, &provider.Error{Kind: provider.KindInvalid, Op: opSessionByAgency, Err: err}
	}
	create, err := c.sessionCall(ctx, spec)
	if err != nil {
		return provider.Session{}, err
	}
	var answer struct {
		Credential wireSession `json:"credential"`
	}
	if err := c.do(ctx, create, &answer); err != nil {
		return provider.Session{}, err
	}
	made := answer.Credential
	expires, err := parseDate(made.Expires)
	if err != nil || expires.IsZero() || !idPattern.MatchString(made.Access) || made.Secret == "" || made.Token == "" {
		return provider.Session{}, unreadable(create, http.StatusCreated, "the answer does not hold the temporary key that was asked for")
	}
	return provider.Session{AccessKey: made.Access, Secret: made.Secret, Token: made.Token, Expires: expires}, nil
}

func (c *Client) sessionCall(ctx context.Context, spec provider.SessionSpec) (call, error) {
	seconds := int64(spec.Lifetime / time.Second)
	create := call{
		op:         opSessionByToken,
		method:     http.MethodPost,
		path:       "/v3.0/OS-CREDENTIAL/securitytokens",
		want:       http.StatusCreated,
		repeatable: true,
	}
	identity := wireIdentity{Methods: []string{"token"}, Token: &wireToken{Seconds: seconds}}
	if spec.Agency != "" {
		role, err := c.role(ctx, spec, seconds)
		if err != nil {
			return call{}, err
		}
		create.op = opSessionByAgency
		identity = wireIdentity{Methods: []string{"assume_role"}, Role: role}
	}
	if spec.Policy != "" {
		identity.Policy = json.RawMessage(spec.Policy)
	}
	var body struct {
		Auth struct {
			Identity wireIdentity `json:"identity"`
		} `json:"auth"`
	}
	body.Auth.Identity = identity
	create.body = body
	return create, nil
}

// role names the agency's account: by its name, or by our own id.
func (c *Client) role(ctx context.Context, spec provider.SessionSpec, seconds int64) (*wireRole, error) {
	role := &wireRole{Agency: spec.Agency, DomainName: spec.AgencyDomain, Seconds: seconds}
	if spec.Name != "" {
		role.User = &wireSessionUser{Name: spec.Name}
	}
	if spec.AgencyDomain != "" {
		return role, nil
	}
	domain, err := c.domainID(ctx)
	if err != nil {
		return nil, err
	}
	role.DomainID = domain
	return role, nil
}
