// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// A lease on the identity of the engine's own key can extend itself and delete that key. A role gets
// it only where the account allows it (allow_root_identity) and the role asks for it (own_identity):
// a misspelt field must not.

// isOwnIdentity tells whether a user is the identity of the engine's own key. id is the user's where
// it is known: names move, and the account's owner on Huawei Cloud is a user like others.
func (a *account) isOwnIdentity(user, id string) bool {
	own := a.config.Identity
	if id == "" && a.users != nil {
		id = a.users.idOf(user)
	}
	switch {
	case user == "":
		return true
	case own.UserID != "" && id != "":
		return own.UserID == id
	default:
		return own.Kind == provider.IdentityUser && own.User == user
	}
}

// owns does so with what the cloud says now, where names do not decide it: the list of its users,
// or, where the engine could not find out whose key it has, that user's keys.
func (b *backend) owns(ctx context.Context, a *account, user string) (bool, error) {
	own := a.config.Identity
	if own.UserID != "" && user != "" {
		if _, err := b.listUsers(ctx, a); err != nil {
			b.Logger().Warn("whether a user is the engine's own is judged by the name: the users cannot be listed", "account", a.name, "user", user, "error", err)
		}
	}
	if a.isOwnIdentity(user, "") || own.Kind != provider.IdentityUnknown {
		return a.isOwnIdentity(user, ""), nil
	}
	holds, err := a.holdsOwnKey(ctx, user)
	if err != nil && provider.KindOf(err) != provider.KindNotFound {
		return false, explain(a.name, err)
	}
	return holds, nil
}

// holdsOwnKey tells whether the engine's key is among a user's.
func (a *account) holdsOwnKey(ctx context.Context, user string) (bool, error) {
	keys, err := a.cloud.ListKeys(ctx, user)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(keys, func(k provider.Key) bool { return k.ID == a.config.AccessKey }), nil
}

// leasesOwn tells whether a role gets the engine's own identity: both sides have to say so.
func (a *account) leasesOwn(r *roleEntry) bool {
	return r.OwnIdentity && a.config.AllowRootIdentity
}

// checkOwnIdentity guards the engine's own identity from roles of users that exist, when they are written.
func (b *backend) checkOwnIdentity(ctx context.Context, a *account, name string, r *roleEntry) error {
	if err := a.refuseOwnIdentity(name, r); err != nil || a.leasesOwn(r) || a.config.Identity.Kind != provider.IdentityUnknown {
		return err
	}
	for _, user := range r.UserNames {
		own, err := b.owns(ctx, a, user)
		if err != nil {
			return err
		}
		if own {
			return a.ownsTheKey(user)
		}
	}
	return nil
}

// refuseOwnIdentity does so by what is known without a call, also at each issue: the account may
// have got another key since the role was written, and users other names.
func (a *account) refuseOwnIdentity(name string, r *roleEntry) error {
	switch {
	case r.OwnIdentity && r.CredentialType == credentialAccessKey && !a.kind.LeasesOwnIdentity:
		return userError("own_identity leases no access keys on %s, whose users have two slots, both the engine's: leave it out, and name users in user_names", a.kind.Title)
	case r.OwnIdentity && !a.config.AllowRootIdentity:
		return userError("role %q asks for the engine's own identity (own_identity), which account %q does not allow: name other users in user_names, "+
			"or set allow_root_identity=true in config/%s", name, a.name, a.name)
	case a.leasesOwn(r):
		return nil
	case len(r.UserNames) == 0:
		return userError("role %q has no user_names: name the users whose keys it leases. A role without user_names leases keys of the engine's own identity, "+
			"and must ask for that: own_identity=true in roles/%s, and allow_root_identity=true in config/%s", name, name, a.name)
	}
	for _, user := range r.UserNames {
		if a.isOwnIdentity(user, r.UserIDs[user]) {
			return a.ownsTheKey(user)
		}
	}
	return nil
}

func (a *account) ownsTheKey(user string) error {
	return userError("user %q owns the engine's own access key: a lease on it could extend itself and delete that key. Name another user%s",
		user, a.orAllowIt())
}

// orAllowIt is the other way out of a refusal, where the cloud leaves one.
func (a *account) orAllowIt() string {
	if !a.kind.LeasesOwnIdentity {
		return ""
	}
	return ", or set own_identity=true in the role, and allow_root_identity=true in config/" + a.name
}

// checkSession keeps a role from handing out the engine's own rights.
func (a *account) checkSession(r *roleEntry) error {
	if r.AgencyName != "" || a.leasesOwn(r) {
		return nil
	}
	return userError("a role without agency_name leases sessions with the rights of the engine's own key: name an agency, "+
		"or ask for these rights with own_identity=true in the role, and allow_root_identity=true in config/%s", a.name)
}
