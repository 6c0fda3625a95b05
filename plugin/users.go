// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// userList is what the lists of an account's users have shown on this node: which id each name has,
// and since when. Names move: users are renamed, and their names are given to others. Users that
// were made for one lease are not in it.
type userList struct {
	mu    sync.Mutex // never held across a cloud call
	names map[string]namedUser
	begun time.Time // when the last list was asked for; zero: ask again
}

// namedUser is the id that a name has had in every list since one that was whole by then.
type namedUser struct {
	id    string
	since time.Time
}

// note takes a whole list over.
func (l *userList) note(ids map[string]string, begun, ended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make(map[string]namedUser, len(ids))
	for name, id := range ids {
		names[name] = namedUser{id, ended}
		if before := l.names[name]; before.id == id {
			names[name] = before
		}
	}
	l.names, l.begun = names, begun
}

// isStale tells that there is no list, or one that is known to be wrong.
func (l *userList) isStale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun.IsZero()
}

// idOf is the id of a name as last listed; empty: not known.
func (l *userList) idOf(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[name].id
}

// expire has the users listed again before they are needed next.
func (l *userList) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = time.Time{}
}

// certain tells whether a key that was made under a name surely is the user's of an id: lists from
// before and after its create have the name at that id, and so have all between.
func (l *userList) certain(e *ledger.Entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	made := e.MadeAt
	if made.IsZero() {
		made = e.Issued.Add(begunAge) // by then it is made, if at all
	}
	user := l.names[e.User]
	return e.UserID != "" && user.id == e.UserID && user.since.Before(e.Issued) && l.begun.After(made)
}

// usersKnown is the list of an account, which outlives the clients that its rotations replace. One that is pointed to another cloud
// account has another list: names are other users there.
func (b *backend) usersKnown(name, accountID string) *userList {
	known, _ := b.users.LoadOrStore(name+"/"+accountID, &userList{})
	return known.(*userList)
}

// listUsers asks the cloud for the ids of an account's users, by name.
func (b *backend) listUsers(ctx context.Context, a *account) (map[string]string, error) {
	begun := time.Now()
	ids := map[string]string{}
	for user, err := range a.cloud.ListUsers(ctx) {
		if err != nil {
			return nil, err
		}
		if user.Label == "" {
			ids[user.Name] = user.ID
		}
	}
	a.users.note(ids, begun, time.Now())
	return maps.Clone(ids), nil
}

// pinUsers returns the ids of users, for what is written of them now; before are those of the write before. A name that is
// not listed keeps the id that it had: who is given it later is somebody else. A cloud that does not tell keeps no role from
// being written.
func (b *backend) pinUsers(
	ctx context.Context, a *account, users []string, before map[string]string,
) (ids map[string]string, warnings []string) {
	if len(users) == 0 {
		return nil, nil
	}
	listed, err := b.listUsers(ctx, a)
	if err != nil {
		return before, []string{fmt.Sprintf("the account's users cannot be listed, so that a user who takes one of these names later is "+
			"not noticed: %s", err)}
	}
	ids = map[string]string{}
	for _, user := range users {
		is, was := listed[user], before[user]
		if id := cmp.Or(is, was); id != "" {
			ids[user] = id
		}
		switch {
		case is == "":
			warnings = append(warnings, fmt.Sprintf("the account has no user %q, or one that was made for a lease alone: write this again "+
				"once there is one, so that a user who takes the name later is noticed", user))
		case was != "" && was != is:
			warnings = append(warnings, fmt.Sprintf("user %q is another user than when this was last written (its id was %s, and is %s "+
				"now), and is meant from now on", user, was, is))
		}
	}
	return ids, warnings
}

// refuseAnother refuses a name that is another user than when a role was written: whoever bears it
// may have other rights. path is where the role is written again.
func (b *backend) refuseAnother(ctx context.Context, a *account, user, id, path string) error {
	if id == "" {
		return nil
	}
	if a.users.isStale() {
		if _, err := b.listUsers(ctx, a); err != nil {
			b.Logger().Warn("whether a user is the one of its role cannot be looked up", "account", a.name, "user", user, "error", err)
			return nil
		}
	}
	if now := a.users.idOf(user); now != "" && now != id {
		return userError("user %q is another user since the role was written (its id was %s, and is %s now): write %s again if that "+
			"is meant", user, id, now, path)
	}
	return nil
}

// refreshUsers lists an account's users anew where somebody has needed them, as often as its policy.
func (b *backend) refreshUsers(ctx context.Context, a *account) error {
	if a.users.isStale() || time.Now().Before(a.next.users) {
		return nil
	}
	a.next.users = time.Now().Add(policyRefresh)
	if _, err := b.listUsers(ctx, a); err != nil && provider.KindOf(err) != provider.KindDenied {
		return fmt.Errorf("account %q: listing its users: %w", a.name, err)
	}
	return nil
}

// A lease on the identity of the engine's own key can extend itself and delete that key. A role gets
// it only where the account allows it (allow_root_identity) and the role asks for it (own_identity):
// a misspelt field must not.

// isOwnIdentity tells whether a user is the identity of the engine's own key. id is the user's where
// it is known: names move, and the account's owner on Huawei Cloud is a user like others.
func (a *account) isOwnIdentity(user, id string) bool {
	return user == "" || isUser(a.config.Identity, user, a.idOf(user, id))
}

// idOf is a user's id as it is known already, else as last listed.
func (a *account) idOf(user, id string) string {
	if id == "" && a.users != nil {
		return a.users.idOf(user)
	}
	return id
}

// isUser tells whether an identity is a user, by the ids where both are known.
func isUser(who provider.Identity, user, id string) bool {
	if who.UserID != "" && id != "" {
		return who.UserID == id
	}
	return who.Kind == provider.IdentityUser && who.User == user
}

// owns is isOwnIdentity by what the cloud says now, where names do not decide it: the list of its
// users, or, where the engine could not find out whose key it has, that user's keys.
func (b *backend) owns(ctx context.Context, a *account, user string) (bool, error) {
	own := a.config.Identity
	if own.UserID != "" && user != "" {
		if _, err := b.listUsers(ctx, a); err != nil {
			b.Logger().Warn("whether a user is the engine's own is judged by the name: the users cannot be listed", "account",
				a.name, "user", user, "error", err)
		}
	}
	if a.isOwnIdentity(user, "") || own.Kind != provider.IdentityUnknown {
		return a.isOwnIdentity(user, ""), nil
	}
	keys, err := a.cloud.ListKeys(ctx, user)
	if err != nil && provider.KindOf(err) != provider.KindNotFound {
		return false, explain(a.name, err)
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
		return userError("own_identity leases no access keys on %s, whose users have two slots, both the engine's: leave it out, and "+
			"name users in user_names", a.kind.Title)
	case r.OwnIdentity && !a.config.AllowRootIdentity:
		return userError("role %q asks for the engine's own identity (own_identity), which account %q does not allow: name other "+
			"users in user_names, or set allow_root_identity=true in config/%s", name, a.name, a.name)
	case a.leasesOwn(r):
		return nil
	case len(r.UserNames) == 0:
		return userError("role %q has no user_names: name the users whose keys it leases. A role without user_names leases keys of "+
			"the engine's own identity, and must ask for that: own_identity=true in roles/%s, and allow_root_identity=true in "+
			"config/%s", name, name, a.name)
	}
	for _, user := range r.UserNames {
		// Ids of which nobody knows the cloud account do not hide what the name says.
		if a.isOwnIdentity(user, r.idsIn(a)[user]) || r.UserAccount == "" && a.isOwnIdentity(user, "") {
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
