// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Several accounts of a mount can be one account in the cloud, each with an engine key of another user. A role or static role of one
// of them that had the engine's user of another could delete the other's key, and would take the slot of its next one. No account can
// allow that in another's place: allow_root_identity is about an account's own.

// engineUsers are the identities of the engine's keys, by cloud account. Each lease needs them, so that they are kept in memory until
// a configuration changes.
type engineUsers struct {
	mu      sync.Mutex // never held across a storage call
	known   map[string][]engineUser
	changes int       // of the configurations that they were read from, see backend.changes
	again   time.Time // when they are read anew though nothing has changed; zero: never
}

// engineUser is the identity of an account's key.
type engineUser struct {
	account  string
	identity provider.Identity
	keys     []string // ids of those of the account, see ownKeysHere
}

// engineUsersRetry is how long a configuration that could not be read is left out: one that is damaged must not have each lease
// read all the others.
const engineUsersRetry = time.Minute

// current are those that are known, unless a configuration has changed since.
func (e *engineUsers) current(changes int) (known map[string][]engineUser, is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.known == nil || e.changes != changes || !e.again.IsZero() && !time.Now().Before(e.again)
	return e.known, !old
}

func (e *engineUsers) keep(known map[string][]engineUser, changes int, again time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known, e.changes, e.again = known, changes, again
}

// configChanges counts the changes of configurations.
func (b *backend) configChanges() int {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	return b.changes
}

// engineUsersOf are the identities of the engine's keys in a cloud account. Requests that come together wait for one reading, which
// asks storage for no configuration that is in memory.
func (b *backend) engineUsersOf(ctx context.Context, s logical.Storage, accountID string) ([]engineUser, error) {
	if known, is := b.engineUsers.current(b.configChanges()); is {
		return known[accountID], nil
	}
	unlock, err := b.lock(ctx, "engine-users")
	if err != nil {
		return nil, err
	}
	defer unlock()
	changes := b.configChanges() // before anything is read: what changes meanwhile is read anew by the next
	if known, is := b.engineUsers.current(changes); is {
		return known[accountID], nil
	}
	names, err := storedNames(ctx, s, configPrefix)
	if err != nil {
		return nil, err
	}
	known, again := map[string][]engineUser{}, time.Time{}
	for _, name := range names {
		config, err := b.accountConfig(ctx, s, name)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			again = time.Now().Add(engineUsersRetry)
			b.Logger().Warn("cannot read which user owns an account's engine key; until it can be read, roles of other accounts may "+
				"lease keys of that user", "account", name, "error", err)
			continue
		}
		if config != nil && config.AccountID != "" {
			known[config.AccountID] = append(known[config.AccountID], engineUser{name, config.Identity, config.ownKeysHere()})
		}
	}
	b.engineUsers.keep(known, changes, again)
	return known[accountID], nil
}

// refuseEngineUsersOf is refuseEngineUsers for a role that leases their keys.
func (b *backend) refuseEngineUsersOf(ctx context.Context, s logical.Storage, a *account, role *roleEntry) error {
	return b.refuseEngineUsers(ctx, s, a, role.UserNames, role.idsIn(a))
}

// refuseEngineUsers refuses users whose key is the engine's own in another account of the mount that is the same cloud account. ids are
// those of the users that have one. A user that is the account's own identity as well is that account's to allow.
func (b *backend) refuseEngineUsers(ctx context.Context, s logical.Storage, a *account, users []string, ids map[string]string) error {
	if a.config.AccountID == "" { // it was never verified, and is before anything is leased
		return nil
	}
	engines, err := b.engineUsersOf(ctx, s, a.config.AccountID)
	if err != nil {
		return err
	}
	if len(engines) <= 1 { // the account itself
		return nil
	}
	for _, user := range users {
		if a.isOwnIdentity(user, ids[user]) {
			continue
		}
		for _, other := range engines {
			if other.account != a.name && isUser(other.identity, user, a.idOf(user, ids[user])) {
				return userError("user %q owns the engine key of account %q, which is the same cloud account: a lease or a static role on that "+
					"user could delete the engine key, or take the slot of its successor. allow_root_identity does not permit this. Name another "+
					"user, or write a key of another user to config/%s", user, other.account, other.account)
			}
		}
	}
	return nil
}

// warnOfBlockedRoles names the roles and static roles, of any account that is the same cloud account, that get no keys any more since
// their user is the identity of the engine key that was just written.
func (b *backend) warnOfBlockedRoles(ctx context.Context, s logical.Storage, account string) []string {
	blocked, err := b.rolesOnEngineUser(ctx, s, account)
	if err != nil {
		return []string{fmt.Sprintf("cannot look up whether roles name the user that owns the engine key: %s", err)}
	}
	if len(blocked) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("roles name the user that owns the engine key, and get no new keys of that user from now on (%s): name "+
		"other users there, or write a key of a user that only the engine uses", strings.Join(blocked, "; "))}
}

// rolesOnEngineUser are those.
func (b *backend) rolesOnEngineUser(ctx context.Context, s logical.Storage, account string) (blocked []string, err error) {
	a, err := b.account(ctx, s, account)
	if err != nil || a.config.AccountID == "" {
		return nil, err
	}
	leasing, err := b.leaseRoles(ctx, s, "")
	if err != nil {
		return nil, err
	}
	for _, role := range leasing {
		ids := role.idsIn(a)
		user, is := a.engineUserAmong(role.UserNames, ids)
		if !is {
			continue
		}
		if other, err := b.account(ctx, s, role.Account); err == nil && other.leasesOwn(role.roleEntry) &&
			other.isOwnIdentity(user, ids[user]) {
			continue // as the account allows
		}
		same, err := b.sameCloudAccount(ctx, s, a, role.Account)
		if err != nil {
			return nil, err
		}
		if same {
			blocked = append(blocked, fmt.Sprintf("role %q: user %q", role.name, user))
		}
	}
	static, err := allStaticRoles(ctx, s)
	if err != nil {
		return nil, err
	}
	names, err := b.inCloudAccount(ctx, s, a, static, func(role *staticRole) bool {
		return isUser(a.config.Identity, role.UserName, a.idOf(role.UserName, role.UserID))
	})
	for _, name := range names {
		blocked = append(blocked, fmt.Sprintf("static role %q: user %q", name, static[name].UserName))
	}
	return blocked, err
}

// engineUserAmong is the one of a role's users that is the identity of the account's key.
func (a *account) engineUserAmong(users []string, ids map[string]string) (user string, is bool) {
	for _, user := range users {
		if isUser(a.config.Identity, user, a.idOf(user, ids[user])) {
			return user, true
		}
	}
	return "", false
}
