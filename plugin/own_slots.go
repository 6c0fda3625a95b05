// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// engineSlots of the engine's own identity are never leased: its current key, and
// the next one when it rotates.
const engineSlots = 2

// ownSlots is what takes slots of an identity that engine keys are of: those of one account, or of several that are the same cloud account.
type ownSlots struct {
	accounts []string // the one that asks first
	engine   []string // ids of their engine keys, those included that are still to be deleted after a rotation
	current  []string // those of them that sign: one for accounts that share it, which is not rotated while they do
}

// kept are those that no lease gets: of the engine keys, and of the next one of each that signs.
func (o ownSlots) kept() int { return len(o.engine) + len(o.current)*(engineSlots-1) }

// add takes an account's keys along, the current one first.
func (o *ownSlots) add(account string, keys []string) {
	o.accounts = append(o.accounts, account)
	o.current, o.engine = withAll(o.current, keys[:1]), withAll(o.engine, keys)
}

// withAll adds the ids that are not there yet.
func withAll(ids, more []string) []string {
	for _, id := range more {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// ownSlotsOf finds the accounts whose engine keys are of the identity of one. Where the cloud does not say whose they are, each stands for
// itself.
func (b *backend) ownSlotsOf(ctx context.Context, i issuance) (ownSlots, error) {
	var own ownSlots
	own.add(i.account.name, i.account.config.ownKeysHere())
	engines, err := b.engineUsersOf(ctx, i.storage, i.account.config.AccountID)
	for _, other := range engines {
		if other.account != i.account.name && other.identity.Kind != provider.IdentityUnknown && other.identity.Same(i.account.config.Identity) {
			own.add(other.account, other.keys)
		}
	}
	return own, err
}

// reserve keeps a slot of a user for a request, or tells why not: a lease must not take one that an
// engine key needs, that of the key it is, of the next one when it rotates, and those of keys
// that are still to be deleted after one. Requests under way count, and so do the keys of others.
func (b *backend) reserve(ctx context.Context, i issuance, user string) (release func(), refusal string, err error) {
	if !i.account.isOwnIdentity(user, i.role.idsIn(i.account)[user]) {
		release, _, _ = b.ledger.Reserve(i.account.name, user, 0, nil)
		return release, "", nil
	}
	own, err := b.ownSlotsOf(ctx, i)
	if err != nil {
		return func() {}, "", err
	}
	for _, account := range own.accounts {
		if err := b.ledger.Load(ctx, i.storage, account); err != nil {
			return func() {}, "", fmt.Errorf("counting the keys of account %q: %w", account, err)
		}
	}
	isIts := func(item *ledger.Item) bool {
		return i.account.isOwnIdentity(item.User, item.UserID) && !i.account.config.isOfAnother(item)
	}
	foreign, err := b.foreignOwn(ctx, i, own, isIts)
	if err != nil {
		return func() {}, "", err
	}
	free := max(0, i.account.cloud.KeyQuota()-own.kept()-foreign)
	// Under one name, since roles can call this identity by others, and by none.
	release, count, reserved := b.ledger.Reserve(i.account.name, "", free, isIts, own.accounts[1:]...)
	if reserved {
		return release, "", nil
	}
	return release, fmt.Sprintf("the engine's own identity has %d leased keys of %d at most, since %d slots are kept for the "+
		"engine's own key and its rotation, and %d are taken by keys of others: revoke leases, delete keys that nobody uses, or give the "+
		"role other user_names", count, free, own.kept(), foreign), nil
}

// foreignOwn is how many slots of the engine's own identity are taken by keys that are none of its leases and no engine keys: those of others,
// and of this mount those that it has lost or abandoned. Requests that come together wait for one list. It is listed anew where
// the last list is older than a refusal stands: the engine loses its account with the slot of its next key.
func (b *backend) foreignOwn(ctx context.Context, i issuance, own ownSlots, isIts func(*ledger.Item) bool) (count int, err error) {
	unlock, err := b.lock(ctx, "slots/"+i.account.name+"/")
	if err != nil {
		return 0, err
	}
	defer unlock()
	if count, known := b.slots.lately(i.account.name, "", fullFor); known {
		return count, nil
	}
	counted := map[string]bool{}
	note := func() {
		for _, account := range own.accounts {
			for _, item := range b.ledger.Select(account, func(item *ledger.Item) bool {
				successor := item.Kind == keylabel.KindRoot && item.Running // which has a slot that is kept
				return item.Unreadable == "" && (successor || item.Leased() && isIts(item))
			}) {
				counted[item.Label] = true
			}
		}
	}
	note() // before the list and after it: some are deleted meanwhile, and some are made
	keys, err := i.account.cloud.ListKeys(ctx, "")
	if err != nil { // a guess could give away the slot of the engine's next key
		return 0, fmt.Errorf("counting the keys of others on the engine's own identity: %w", err)
	}
	note()
	for _, key := range keys {
		if !counted[key.Label] && !slices.Contains(own.engine, key.ID) {
			count++
		}
	}
	b.slots.learn(i.account.name, "", count)
	return count, nil
}
