// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// maxSessionName is how long the name of a session may be.
const maxSessionName = 64

// issueSession leases a temporary key. It leaves nothing in the cloud that would have to be
// found again, so the ledger need not know it, and it is repeated where its answer is lost.
func (b *backend) issueSession(ctx context.Context, i issuance) (*logical.Response, error) {
	cloud, err := i.sessions()
	if err != nil {
		return nil, err
	}
	plan, err := b.planSession(i)
	if err != nil {
		return nil, err
	}
	spec := provider.SessionSpec{
		Agency: i.role.AgencyName, AgencyDomain: i.role.AgencyDomain, Policy: i.role.SessionPolicy,
		Name: i.sessionName(i.req.DisplayName), Lifetime: plan.Lease,
	}
	session, err := cloud.CreateSession(ctx, spec)
	if kind := provider.KindOf(err); (kind == provider.KindAmbiguous || kind == provider.KindUnreachable) && ctx.Err() == nil {
		session, err = cloud.CreateSession(ctx, spec)
	}
	if err != nil {
		return nil, explainSession(i, err)
	}
	return b.sessionResponse(i, plan, session)
}

// sessions is the cloud as one that makes sessions, for a role that may have them.
func (i issuance) sessions() (provider.Sessions, error) {
	if err := i.account.checkSession(&i.role); err != nil {
		return nil, err // the account may have been changed since the role was written
	}
	cloud, ok := i.account.cloud.(provider.Sessions)
	if !ok {
		return nil, userError("account %q is of %s, which has no sessions: change the credential_type of roles/%s", i.account.name,
			i.account.kind.Title, i.roleName)
	}
	return cloud, nil
}

// planSession decides a session's life. What the role, the account or the mount give by default
// is for access keys too, and is raised to what the cloud gives at least. A TTL that somebody
// asks for is not: they would get a longer one than they want, which nobody can take back.
func (b *backend) planSession(i issuance) (lifetime.IssuePlan, error) {
	if i.requested > 0 && i.requested < clouds.MinSession {
		return lifetime.IssuePlan{}, userError("a ttl of %s was asked for, and a session lasts %s at least, since the cloud gives no "+
			"shorter one", i.requested, clouds.MinSession)
	}
	wanted := max(b.requestedLease(i).Truncate(time.Second), clouds.MinSession)
	plan, err := lifetime.PlanIssue(time.Now(), boundsOf(b.System().MaxLeaseTTL(), i.account, &policyView{None: true}, &i.role), wanted)
	return plan, asUserError(err)
}

// sessionName is what the cloud's audit log shows: the role, and who asked.
func (i issuance) sessionName(displayName string) string {
	name := i.account.kind.CleanName("vault-" + i.roleName + "-" + displayName)
	return name[:min(len(name), maxSessionName)]
}

// sessionResponse is a lease that ends with the session: Vault offers no renewal of it.
func (b *backend) sessionResponse(i issuance, plan lifetime.IssuePlan, session provider.Session) (*logical.Response, error) {
	// By the cloud's clock, and by this machine's from before the call: where this one is slow,
	// the first alone would let the lease outlive the session by what the call took.
	left := min(time.Until(session.Expires), time.Until(plan.Issued.Add(plan.Lease)))
	ttl := left.Truncate(time.Second)
	if ttl < time.Second {
		return nil, fmt.Errorf("account %q: the session that the cloud gave ends at %s, and nothing is left of it: check the "+
			"clocks", i.account.name, showTime(session.Expires))
	}
	resp := b.Secret(secretSessionType).Response(map[string]any{
		"access_key":     session.AccessKey,
		"secret_key":     session.Secret.Reveal(),
		"security_token": session.Token.Reveal(),
		"expiration":     showTime(session.Expires),
		"user_name":      "",
		"account":        i.account.name,
		"region":         i.account.config.Region,
	}, map[string]any{ // strings, as in every lease
		"account": i.account.name, "access_key": session.AccessKey, "expires": session.Expires.UTC().Format(time.RFC3339Nano),
	})
	resp.Secret.TTL, resp.Secret.MaxTTL = ttl, ttl
	resp.AddWarning(fmt.Sprintf("the cloud cannot take this session back: it works until %s, also when its lease is revoked",
		showTime(session.Expires)))
	if warning := cutWarning(plan, i.requested); warning != "" {
		resp.AddWarning(warning)
	}
	return resp, nil
}

func explainSession(i issuance, err error) error {
	switch provider.KindOf(err) {
	case provider.KindNotFound:
		return userError("role %q cannot get a session: agency %q does not exist, or does not trust the engine's account (%s)",
			i.roleName, i.role.AgencyName, err)
	case provider.KindDenied:
		return userError("role %q cannot get a session: the engine's key may not assume agency %q. Give its user the role Agent "+
			"Operator, or the permission %s (%s)", i.roleName, i.role.AgencyName, "iam:tokens:assume", err)
	default:
		return explain(i.account.name, err)
	}
}

// credentialSession leases temporary keys, which end by themselves.
const credentialSession = clouds.SessionToken

// validateSession refuses what a session cannot have.
func (r *roleEntry) validateSession() error {
	switch {
	case r.CredentialType != credentialSession:
		return nil
	case r.MaxActiveKeys > 0:
		return userError("max_active_keys does not go with credential_type=%s: a session cannot be taken back, so nothing would make "+
			"room for the next. Set it to 0", credentialSession)
	case r.TTL > 0 && r.TTL < clouds.MinSession:
		return userError("ttl is %s, and a session lasts %s at least, since the cloud gives no shorter one", r.TTL, clouds.MinSession)
	case r.MaxTTL > 0 && r.MaxTTL < clouds.MinSession:
		return userError("max_ttl is %s, and a session lasts %s at least, since the cloud gives no shorter one", r.MaxTTL, clouds.MinSession)
	case r.AgencyDomain != "" && r.AgencyName == "":
		return userError("agency_domain goes with agency_name: name the agency")
	}
	return nil
}

// secretSessionType stands in the leases of sessions. It must never be renamed.
const secretSessionType = "cloudkeys_session_token"

// sessionSecret is the lease of a session. Without Renew, Vault does not offer to renew it.
func (b *backend) sessionSecret() *framework.Secret {
	return &framework.Secret{
		Type:   secretSessionType,
		Revoke: b.revokeSession,
	}
}

// revokeSession has nothing to do: the cloud takes no session back, and at its end the session
// is over with its lease, give or take the part of a second that no TTL has. It needs no
// account, and cannot fail for long.
func (b *backend) revokeSession(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	r := leaseReader{data: req.Secret.InternalData}
	account, accessKey, expires := r.text("account"), r.text("access_key"), r.time("expires")
	if r.err == nil && time.Now().Add(lifetime.ClockMargin).Before(expires) {
		b.Logger().Warn("a lease was revoked whose session works on: the cloud cannot take it back before its end",
			"account", account, "access_key", accessKey, "expiration", showTime(expires))
	}
	return nil, nil
}
