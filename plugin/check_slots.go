// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

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
		c.warning(fmt.Sprintf("%s has %s access keys, and those that this mount did not issue%s take slots from its leases", identityName(user), count, inBrackets(foreign)),
			"delete keys that nobody uses, or name other users in user_names")
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
	report(fmt.Sprintf("the engine's own key cannot be rotated, since keys that this mount did not make%s take the slots of its identity: %s",
		inBrackets(c.foreign[""]), count), "delete one that nobody uses")
}

// checkStaticRoles finds the static roles whose next key has no slot. Their own previous key
// makes room, other keys do not.
func (c *checkup) checkStaticRoles(ctx context.Context, s logical.Storage) error {
	stored := context.WithoutCancel(ctx) // what storage says is told also where the time is up
	roles, err := staticRolesOf(stored, s, c.account.name)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		creds, err := load[staticCreds](stored, s, staticCredsPrefix+name)
		if err != nil {
			return err
		}
		if creds == nil || c.lost || c.outOfTime(ctx) {
			continue
		}
		if err := c.checkStaticUser(ctx, name, roles[name].UserName, creds.ids()); err != nil {
			c.failed(ctx, err)
		}
	}
	return nil
}

func (c *checkup) checkStaticUser(ctx context.Context, role, user string, ids []string) error {
	keys, err := c.account.cloud.ListKeys(ctx, user)
	if provider.KindOf(err) == provider.KindNotFound {
		c.failure(fmt.Sprintf("%s of static role %q does not exist in the cloud account", identityName(user), role), "create it, or delete the static role")
		return nil
	}
	if err != nil {
		return err
	}
	var others []string
	for _, key := range keys {
		if !slices.Contains(ids, key.ID) {
			others = append(others, key.ID)
		}
	}
	if quota := c.account.cloud.KeyQuota(); len(others)+2 > quota {
		c.failure(fmt.Sprintf("static role %q cannot be rotated: %s has %d other access keys%s, and its key and the next one need 2 of %d slots",
			role, identityName(user), len(others), inBrackets(others), quota), "delete those that nobody uses")
	}
	return nil
}

// checkPastDate finds leased keys that are past their date and still work, since the cloud
// ends none by itself and the engine could not delete them.
func (c *checkup) checkPastDate(ctx context.Context, s logical.Storage) error {
	for entry, err := range leasedKeys(context.WithoutCancel(ctx), s, c.account.name) {
		if err != nil {
			return err
		}
		now := time.Now()
		if entry.Problem != "" && now.After(entry.Expires.Add(clockMargin)) && !c.account.isDead(entry, now) {
			c.failure(fmt.Sprintf("access key %s of %s should have ended at %s and still works, since it cannot be removed (%s)",
				entry.AccessKey, identityName(entry.User), showTime(entry.Expires), entry.Problem), "mend that, or delete the key in the cloud's console")
		}
	}
	return nil
}
