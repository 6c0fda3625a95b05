// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// rotateStatic replaces a static role's key, or makes the first one:
//
//	(1) entry, begun → (2) create
//	    → crash: the next tick finds the key by its label. The role's entry does not name
//	      it, so it is deleted
//	(3) store the role's entry {current: new, previous: old until the grace is over}
//	    → crash: the role's entry names the new key, so the next tick does (4)
//	(4) entry, made
//	(5) at a later tick, past the grace: delete the old key, store the role's entry without it
//
// A failure at (3) deletes nothing: the write may have been stored all the same. The
// next tick decides by what is stored then. At the quota the role's own keys that nobody needs
// make room (freeOwnSlot), never a foreign one.
func (b *backend) rotateStatic(ctx context.Context, s logical.Storage, name string, role *staticRole) (creds *staticCreds, err error) {
	ctx = urgently(ctx)
	defer func() {
		b.announceRotation(ctx, eventRotate, name, "rotate-role/"+name, staticCredsPrefix+name, err)
	}()
	a, err := b.identified(ctx, s, role.Account)
	if err != nil {
		return nil, err
	}
	if a.isOwnIdentity(role.UserName, role.UserID) {
		return nil, userError("user %q owns the engine's own access key: a static role cannot have it", role.UserName)
	}
	if err := b.refuseEngineUsers(ctx, s, a, []string{role.UserName}, map[string]string{role.UserName: role.UserID}); err != nil {
		return nil, err
	}
	if err := b.refuseAnother(ctx, a, role.UserName, role.UserID, "static-roles/"+name); err != nil {
		return nil, err
	}
	before, err := loadOrNew[staticCreds](ctx, s, staticCredsPrefix+name)
	if err != nil {
		return nil, err
	}
	r, err := b.staticRotation(ctx, s, a, name, role)
	if err != nil {
		return nil, err
	}
	r.store = func(ctx context.Context, key recordedKey) error {
		creds = before.followedBy(a, role, key)
		if err := save(ctx, s, staticCredsPrefix+name, creds); err != nil {
			return fmt.Errorf("storing the new key of static role %q: %w", name, err)
		}
		return nil
	}
	err = b.rotate(ctx, r)
	for provider.KindOf(err) == provider.KindQuota {
		freed, problem := b.freeOwnSlot(ctx, s, a, role, before)
		if problem != nil {
			return nil, problem
		}
		if !freed {
			break
		}
		err = b.rotate(ctx, r)
	}
	switch kind := provider.KindOf(err); {
	case err == nil:
		b.Logger().Info("rotated a static role", "static_role", name, "access_key", creds.AccessKey, "previous", before.AccessKey)
		b.static.forget(name)
		return creds, nil
	case kind == provider.KindQuota:
		refusal, foreign := b.explainQuota(ctx, r.issuance, role.UserName, err)
		return nil, userError("static role %q cannot be rotated: %s. Delete a key that is not used%s", name, refusal, foreign)
	case kind == provider.KindNotFound:
		return nil, userError("user %q of static role %q does not exist in the cloud account (%s)", role.UserName, name, err)
	default:
		return nil, explain(a.name, err)
	}
}

// freeOwnSlot deletes one key of a static role's own where others leave its user no slot: the oldest that was replaced, and where none is
// left, the current one if the cloud has ended it by its date. That key works for nobody, and would keep its successor out for ever.
//
//	delete the key, in the cloud and in the ledger
//	→ crash: the role names a key that is gone, which the next rotation, or the next comparison, replaces
func (b *backend) freeOwnSlot(
	ctx context.Context, s logical.Storage, a *account, role *staticRole, creds *staticCreds,
) (freed bool, err error) {
	if len(creds.Previous) > 0 {
		if err := b.deletePrevious(ctx, s, a, creds.Previous[0]); err != nil {
			return false, err
		}
		creds.Previous = creds.Previous[1:]
		return true, nil
	}
	keys, _ := a.cloud.ListKeys(ctx, role.UserName) // without a list, the refusal for the quota stands, which says what to do
	ended := func(key provider.Key) bool { return key.ID == creds.AccessKey && a.hasEnded(key) }
	if !slices.ContainsFunc(keys, ended) {
		return false, nil
	}
	if err := b.deletePrevious(ctx, s, a, creds.asPrevious(role, time.Time{})); err != nil {
		return false, err
	}
	creds.AccessKey = ""
	return true, nil
}

// staticRotation is the order of a static role's next key.
func (b *backend) staticRotation(ctx context.Context, s logical.Storage, a *account, name string, role *staticRole) (rotation, error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return rotation{}, err
	}
	view, err := b.refreshPolicy(ctx, s, a) // the new key's date must hold under the policy of now
	if err != nil {
		return rotation{}, err
	}
	now := time.Now()
	expires, err := role.times().KeyExpiry(now, view.Policy.MaxKeyLifetime)
	return rotation{
		issuance: issuance{storage: s, account: a, roleName: name, instance: instance},
		order:    keyOrder{kind: keylabel.KindStatic, user: role.UserName, issued: now, expires: a.lastingEnd(expires)},
	}, err
}

// followedBy is the state of a static role once a new key has taken the place of the present one.
func (c *staticCreds) followedBy(a *account, role *staticRole, key recordedKey) *staticCreds {
	now, skew := time.Now(), a.skew()
	next := &staticCreds{
		AccountID: a.config.AccountID, AccessKey: key.ID, SecretKey: key.Secret.Reveal(), Label: key.Label,
		Created: byThisClock(key.Created, skew), Expires: byThisClock(key.Expires, skew), Skew: skew,
		Previous: slices.Clone(c.Previous), LastRotation: now, Compared: c.Compared,
	}
	if c.AccessKey != "" {
		next.Previous = append(next.Previous, c.asPrevious(role, now))
	}
	return next
}

// byThisClock is a date of the cloud's in this machine's clock, which a schedule is kept in.
func byThisClock(date time.Time, skew time.Duration) time.Time {
	if date.IsZero() {
		return date
	}
	return date.Add(-skew)
}
