// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/huawei"
)

const (
	// credentialSession leases temporary keys, which end by themselves.
	credentialSession = "session_token"

	// What Huawei Cloud gives, the one cloud that has sessions.
	minSession = huawei.MinSession
	maxSession = huawei.MaxSession
)

// validateSession refuses what a session cannot have.
func (r *roleEntry) validateSession() error {
	switch {
	case r.CredentialType != credentialSession:
		return nil
	case r.MaxActiveKeys > 0:
		return mendable("max_active_keys does not go with credential_type=%s: a session cannot be taken back, so nothing would make room for the next. Set it to 0",
			credentialSession)
	case r.TTL > 0 && r.TTL < minSession:
		return mendable("ttl is %s, and a session lasts %s at least, since the cloud gives no shorter one", r.TTL, minSession)
	case r.MaxTTL > 0 && r.MaxTTL < minSession:
		return mendable("max_ttl is %s, and a session lasts %s at least, since the cloud gives no shorter one", r.MaxTTL, minSession)
	case r.AgencyDomain != "" && r.AgencyName == "":
		return mendable("agency_domain goes with agency_name: name the agency")
	}
	if err := huawei.CheckSession(minSession, r.SessionPolicy); err != nil {
		return mendable("session_policy: %s", err)
	}
	return nil
}

// sessionWarnings tell what a session_token role does not do.
func (r *roleEntry) sessionWarnings() []string {
	if r.CredentialType != credentialSession || r.SessionPolicy == "" {
		return nil
	}
	return []string{"Huawei Cloud's OBS alone honours a session_policy: on every other service the sessions have all the rights of the agency"}
}

// checkSession keeps a role from handing out the engine's own rights.
func (a *account) checkSession(r *roleEntry) error {
	if r.AgencyName != "" || a.config.AllowRootIdentity {
		return nil
	}
	return mendable("a role without agency_name leases sessions with the rights of the engine's own key, which account %q does not allow: "+
		"name an agency, or set allow_root_identity=true in config/%s", a.name, a.name)
}
