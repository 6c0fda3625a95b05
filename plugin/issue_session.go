// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// maxSessionName is how long the name of a session may be.
const maxSessionName = 64

// sessionOrder is the session that is to be made.
type sessionOrder struct {
	account   *account
	roleName  string
	role      *roleEntry
	requested time.Duration // the TTL that was asked for; 0: none
}

// issueSession leases a temporary key. It leaves nothing in the cloud that would have to be
// found again, so it needs neither WAL nor ledger, and is repeated where its answer is lost.
func (b *backend) issueSession(ctx context.Context, req *logical.Request, o sessionOrder) (*logical.Response, error) {
	cloud, err := o.sessions()
	if err != nil {
		return nil, err
	}
	plan, err := b.planSession(o)
	if err != nil {
		return nil, err
	}
	spec := provider.SessionSpec{
		Agency: o.role.AgencyName, AgencyDomain: o.role.AgencyDomain, Policy: o.role.SessionPolicy,
		Name: o.sessionName(req.DisplayName), Lifetime: plan.Lease,
	}
	session, err := cloud.CreateSession(ctx, spec)
	if kind := provider.KindOf(err); (kind == provider.KindAmbiguous || kind == provider.KindUnreachable) && ctx.Err() == nil {
		session, err = cloud.CreateSession(ctx, spec)
	}
	if err != nil {
		return nil, explainSession(o, err)
	}
	return b.sessionResponse(o, plan, session)
}

// sessions is the cloud as one that makes sessions, for a role that may have them.
func (o sessionOrder) sessions() (provider.Sessions, error) {
	if err := o.account.checkSession(o.role); err != nil {
		return nil, err // the account may have been changed since the role was written
	}
	cloud, ok := o.account.cloud.(provider.Sessions)
	if !ok {
		return nil, mendable("account %q is of %s, which has no sessions: change the credential_type of roles/%s", o.account.name, o.account.vendor.title, o.roleName)
	}
	return cloud, nil
}

// planSession decides a session's life. What the role, the account or the mount give by default
// is for access keys too, and is raised to what the cloud gives at least. A TTL that somebody
// asks for is not: they would get a longer one than they want, which nobody can take back.
func (b *backend) planSession(o sessionOrder) (issuePlan, error) {
	if o.requested > 0 && o.requested < minSession {
		return issuePlan{}, mendable("a ttl of %s was asked for, and a session lasts %s at least, since the cloud gives no shorter one", o.requested, minSession)
	}
	wanted := max(b.requestedLease(o.requested, o.role, o.account).Truncate(time.Second), minSession)
	return planIssue(time.Now(), b.boundsOf(o.account, &policyView{None: true}, o.role), wanted)
}

// sessionName is what the cloud's audit log shows: the role, and who asked.
func (o sessionOrder) sessionName(displayName string) string {
	name := o.account.vendor.users.other.ReplaceAllString("vault-"+o.roleName+"-"+displayName, "-")
	return name[:min(len(name), maxSessionName)]
}

// sessionResponse is a lease that ends with the session: Vault offers no renewal of it.
func (b *backend) sessionResponse(o sessionOrder, plan issuePlan, session provider.Session) (*logical.Response, error) {
	// By the cloud's clock, and by this machine's from before the call: where this one is slow,
	// the first alone would let the lease outlive the session by what the call took.
	left := min(time.Until(session.Expires), time.Until(plan.Issued.Add(plan.Lease)))
	ttl := left.Truncate(time.Second)
	if ttl < time.Second {
		return nil, fmt.Errorf("account %q: the session that the cloud gave ends at %s, and nothing is left of it: check the clocks", o.account.name, showTime(session.Expires))
	}
	resp := b.Secret(secretSessionType).Response(map[string]any{
		"access_key":     session.AccessKey,
		"secret_key":     session.Secret.Reveal(),
		"security_token": session.Token.Reveal(),
		"expiration":     showTime(session.Expires),
		"user_name":      "",
		"account":        o.account.name,
		"region":         o.account.config.Region,
	}, sessionData(o.account.name, session.AccessKey, session.Expires))
	resp.Secret.TTL, resp.Secret.MaxTTL = ttl, ttl
	resp.AddWarning(fmt.Sprintf("the cloud cannot take this session back: it works until %s, also when its lease is revoked", showTime(session.Expires)))
	if o.requested > plan.Lease {
		resp.AddWarning("the lease is shorter than the ttl that was asked for: read roles/" + o.roleName + " for what limits it")
	}
	return resp, nil
}

func explainSession(o sessionOrder, err error) error {
	switch provider.KindOf(err) {
	case provider.KindNotFound:
		return mendable("role %q cannot get a session: agency %q does not exist, or does not trust the engine's account (%s)", o.roleName, o.role.AgencyName, err)
	case provider.KindDenied:
		return mendable("role %q cannot get a session: the engine's key may not assume agency %q. Give its user the role Agent Operator, or the permission %s (%s)",
			o.roleName, o.role.AgencyName, "iam:tokens:assume", err)
	default:
		return explain(o.account.name, err)
	}
}
