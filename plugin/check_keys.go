// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// keyCount is how an identity's slots are used.
type keyCount struct {
	ours, others, quota int
	engine              bool // the engine key is one of them, and neither of ours nor another's
}

func (c keyCount) free() int { return c.quota - c.used() }

func (c keyCount) used() int {
	if c.engine {
		return c.ours + c.others + 1
	}
	return c.ours + c.others
}

func (c keyCount) String() string {
	engine := ""
	if c.engine {
		engine = "the engine key, "
	}
	return fmt.Sprintf("%d of %d (%s%d issued by this mount, %d others)", c.used(), c.quota, engine, c.ours, c.others)
}

// checkOwnKey looks at the key that signs the calls, and at its neighbours. It warns
// when a third of the key's life is left: a fixed time would be wrong both for keys of
// an hour and for keys of a year. One that is inactive or expired cannot ask.
func (c *checkup) checkOwnKey(ctx context.Context) {
	c.checkUser(ctx, "", nil)
	c.checkOwnSlots()
	switch left := c.own.Expires.Sub(c.account.cloudNow()); {
	case c.own.ID == "": // not listed; checkCaller has said why
	case c.own.Expires.IsZero() && !c.account.endsKeys():
		if c.account.config.RotationPeriod == 0 {
			c.warning(fmt.Sprintf("the engine key %s has no end, and is never replaced by itself", c.own.ID), "set rotation_period "+
				"in config/"+c.account.name)
		}
	case c.own.Expires.IsZero():
		c.warning(fmt.Sprintf("the engine key %s never expires", c.own.ID),
			"write a key with an expiration date to config/"+c.account.name+", or the account cannot get an access policy greater than 0")
	case !c.account.cloudNow().Before(lifetime.NextRotation(c.own.Created, c.own.Expires, 0)):
		c.warning(fmt.Sprintf("the engine key %s expires at %s, in %s", c.own.ID, showTime(c.own.Expires), left.Round(time.Second)),
			"write a new one to config/"+c.account.name+" before, or every lease fails")
	}
}

// checkUser counts an identity's keys. roles are those that lease its keys.
func (c *checkup) checkUser(ctx context.Context, user string, roles []string) {
	if _, counted := c.counts[user]; counted || c.lost || c.outOfTime(ctx) {
		return
	}
	keys, _, _, err := c.listCounted(ctx, c.account, user, c.instance)
	if provider.KindOf(err) == provider.KindNotFound && user != "" {
		c.failure(fmt.Sprintf("user %q of role %s does not exist in the cloud account", user, strings.Join(roles, ", ")),
			"create it, or take it out of user_names")
		return
	}
	if err != nil {
		c.failed(ctx, err)
		return
	}
	count := keyCount{quota: c.account.cloud.KeyQuota()}
	for _, key := range keys {
		if key.ID == c.account.config.AccessKey {
			c.own = key
		}
		switch {
		case isOurs(key, c.instance):
			count.ours++
			continue
		case key.ID == c.account.config.AccessKey:
			count.engine = true
			continue
		}
		count.others++
		c.noteForeign(user, key)
	}
	c.counts[user] = count
	c.checkSlots(user, count)
}

// noteForeign remembers a key that this mount did not make, and does not use.
func (c *checkup) noteForeign(user string, key provider.Key) {
	if slices.Contains(c.account.config.ownKeys(), key.ID) {
		return
	}
	c.foreign[user] = append(c.foreign[user], key.ID)
	if key.Expires.IsZero() && c.account.endsKeys() {
		c.withoutExpiration = append(c.withoutExpiration, fmt.Sprintf("%s (%s)", key.ID, identityName(key.User)))
	}
}

// checkRoles finds the roles that no user has a slot for.
func (c *checkup) checkRoles(users map[string][]string) {
	free := map[string]int{}
	for user, roles := range users {
		count, counted := c.counts[user]
		for _, role := range roles {
			switch {
			case counted && user == "":
				free[role] += max(0, count.free()-engineSlots+1) // the engine's current key is counted already
			case counted:
				free[role] += max(0, count.free())
			default:
				free[role]++ // nothing is known of this user's slots, or it has its own finding
			}
		}
	}
	for _, role := range slices.Sorted(maps.Keys(free)) {
		if free[role] == 0 {
			c.failure(fmt.Sprintf("role %q cannot lease: no user of it has a free slot for an access key", role),
				fmt.Sprintf("delete keys that nobody uses, revoke leases, or add users to roles/%s", role))
		}
	}
}

const (
	// nearlyFull is how many free slots of an identity are few enough to warn of, where it
	// has many.
	nearlyFull = 2

	// fewSlots is a quota at which a full identity is nothing to warn of: a pool spreads its
	// leases over users that are full in turn (Huawei Cloud gives each of them two slots).
	fewSlots = 2 * nearlyFull
)

// checkSlots warns of an identity whose slots run out, or, where it has few of them, of one
// that has keys which this mount did not make.
func (c *checkup) checkSlots(user string, count keyCount) {
	foreign := c.foreign[user]
	switch {
	case count.quota > fewSlots:
		if count.free() <= nearlyFull {
			c.warning(fmt.Sprintf("%s has %s access keys", identityName(user), count),
				"delete keys that nobody uses, revoke leases, or spread them over more user_names; an identity can have "+fmt.Sprint(count.quota))
		}
	case user != "" && len(foreign) > 0:
		c.warning(fmt.Sprintf("%s has %s access keys, and those that this mount did not issue%s take slots from its leases",
			identityName(user), count, inBrackets(foreign)), "delete keys that nobody uses, or name other users in user_names")
	}
}

// checkOwnSlots looks whether the engine's next key has a slot. Without one a key that ends
// locks the engine out; one that does not end just grows old.
func (c *checkup) checkOwnSlots() {
	count, counted := c.counts[""]
	if !counted || count.free() > 0 || len(c.foreign[""]) == 0 {
		return
	}
	report := c.warning
	if !c.own.Expires.IsZero() {
		report = c.failure
	}
	report(fmt.Sprintf("the engine key cannot be rotated, since keys that this mount did not make%s take the slots of its identity: %s",
		inBrackets(c.foreign[""]), count), "delete one that nobody uses")
}

// checkStaticRoles finds the static roles whose next key has no slot. Their own previous key
// makes room, other keys do not.
func (c *checkup) checkStaticRoles(ctx context.Context, leased map[string][]string) error {
	stored := context.WithoutCancel(ctx) // what storage says is told also where the time is up
	roles, err := staticRolesOf(stored, c.storage, c.account.name)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		creds, err := loadOrNew[staticCreds](stored, c.storage, staticCredsPrefix+name)
		if err != nil {
			return err
		}
		if also := leased[roles[name].UserName]; len(also) > 0 {
			c.warning(fmt.Sprintf("%s belongs to static role %q, and role %s leases keys of it", identityName(roles[name].UserName),
				name, strings.Join(also, ", ")), "give each a user of its own: they take each other's slots")
		}
		if creds.AccessKey == "" || c.lost || c.outOfTime(ctx) {
			continue
		}
		if err := c.checkStaticUser(ctx, name, roles[name].UserName, creds); err != nil {
			c.failed(ctx, err)
		}
	}
	return nil
}

func (c *checkup) checkStaticUser(ctx context.Context, role, user string, creds *staticCreds) error {
	keys, err := c.account.cloud.ListKeys(ctx, user)
	if provider.KindOf(err) == provider.KindNotFound {
		c.failure(fmt.Sprintf("%s of static role %q does not exist in the cloud account", identityName(user), role), "create it, or "+
			"delete the static role")
		return nil
	}
	if err != nil {
		return err
	}
	var others []string
	there, active := false, false
	for _, key := range keys {
		if !slices.Contains(creds.ids(), key.ID) {
			others = append(others, key.ID)
		}
		if key.ID == creds.AccessKey {
			there, active = true, key.Active
		}
	}
	switch {
	case !creds.Expires.IsZero() && c.now.After(creds.Expires): // its rotation says what is wrong
	case !there && lifetime.Waits(creds.LastRotation.Add(provider.Settling), time.Now(), provider.Settling): // no list need show it yet
	case !there:
		c.failure(fmt.Sprintf("static role %q gives out access key %s, which the cloud does not list for %s", role, creds.AccessKey,
			identityName(user)), "vault write -f rotate-role/"+role)
	case !active:
		c.failure(creds.switchedOff(role))
	}
	if quota := c.account.cloud.KeyQuota(); len(others)+2 > quota {
		c.failure(fmt.Sprintf("static role %q cannot be rotated: %s has %d other access keys%s, and its key and the next one need 2 of %d slots",
			role, identityName(user), len(others), inBrackets(others), quota), "delete those that nobody uses")
	}
	return nil
}

// checkPastDate finds leased keys that have expired and still work, since the cloud
// ends none by itself and the engine could not delete them.
func (c *checkup) checkPastDate(ctx context.Context) error {
	if err := c.ledger.Load(context.WithoutCancel(ctx), c.storage, c.account.name); err != nil {
		return err
	}
	now := time.Now()
	for _, item := range c.ledger.Select(c.account.name, func(i *ledger.Item) bool { return i.Problem != "" || i.Unreadable != "" }) {
		switch {
		case item.Unreadable != "":
			c.warning(item.Unreadable, "its key counts as in use until then")
		case item.Leased() && !item.Unfinished() && now.After(lifetime.EndedAt(item.Expires, c.account.skew())) && !c.account.isDead(item.Expires):
			c.failure(fmt.Sprintf("access key %s of %s should have ended at %s and still works, since it cannot be removed (%s)",
				item.AccessKey, identityName(item.User), showTime(item.Expires), item.Problem), "fix that, or delete the key in the cloud's console")
		}
	}
	return nil
}
