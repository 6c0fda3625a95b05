// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// issueFromPool makes a key on the first of the role's users that has a free slot.
func (b *backend) issueFromPool(ctx context.Context, i issuance) (recordedKey, error) {
	chosen, release, err := b.choose(ctx, i)
	if err != nil {
		return recordedKey{}, err
	}
	defer func() { release() }()
	var refusals []string
	for at, choice := range chosen {
		user := choice.user
		if err := b.refuseAnother(ctx, i.account, user, i.role.UserIDs[user], "roles/"+i.roleName); err != nil {
			refusals = append(refusals, err.Error())
			continue
		}
		if refusal, full := b.slots.recall(i.account.name, user); full {
			refusals = append(refusals, refusal)
			continue
		}
		var lost error // of the first attempt: what it has made takes a slot of its own
		refusal, own := "", i.account.isOwnIdentity(user, i.role.idsIn(i.account)[user])
		key, err := b.tryTwice(ctx, i, func(p lifetime.IssuePlan) (key recordedKey, err error) {
			if own || at > 0 && lost == nil {
				release()
				if release, refusal, err = b.reserve(ctx, i, user); err != nil || refusal != "" {
					return key, cmp.Or(err, lost)
				}
			}
			key, lost = b.makeKey(ctx, i, keyOrder{kind: keylabel.KindLease, user: user, issued: p.Issued, expires: p.Expiry}, nil)
			return key, lost
		})
		switch kind := provider.KindOf(err); {
		case err == nil && refusal != "":
			refusals = append(refusals, refusal)
		case err == nil:
			// It had a slot all the same. How many the engine's own identity has free is never known here, and its count is another's.
			if _, known := b.slots.foreignKeys(i.account.name, user); known && choice.free <= 0 && user != "" {
				b.slots.unlearn(i.account.name, user)
			}
			return key, nil
		case kind == provider.KindQuota:
			full, _ := b.explainQuota(ctx, i, user, err)
			b.slots.remember(i.account.name, user, inPool(full))
			refusals = append(refusals, inPool(full))
		case kind == provider.KindNotFound && user != "":
			i.account.users.expire()
			refusals = append(refusals, fmt.Sprintf("user %q does not exist in the cloud account: create it, or take it out of "+
				"user_names (%s)", user, err))
		default:
			return recordedKey{}, explain(i.account.name, err)
		}
	}
	return recordedKey{}, userError("role %q cannot get an access key: %s", i.roleName, strings.Join(refusals, "; "))
}

// choose puts the users with the most free slots first, tells how many each has, and reserves
// a slot of the first: requests that come together would else all find the same one the freest,
// and those that it has no slot for would be refused, and list its keys.
//
// The keys of others are known from lists that were made anyway, for whatever reason; only
// a user that would come first and was never listed is listed for it, once. A role with
// one user has no choice, and makes no call for it.
func (b *backend) choose(ctx context.Context, i issuance) (ordered []choice, release func(), err error) {
	switch users := i.role.UserNames; len(users) {
	case 0:
		return []choice{{}}, func() {}, nil // see reserve
	case 1:
		release, _, _ = b.ledger.Reserve(i.account.name, users[0], 0, nil)
		return []choice{{user: users[0]}}, release, nil
	}
	for {
		ordered, release, err = b.reserveFirst(ctx, i)
		if err != nil {
			return nil, nil, err
		}
		if _, known := b.slots.foreignKeys(i.account.name, ordered[0].user); known {
			return ordered, release, nil
		}
		err = b.learnForeign(ctx, i, ordered[0].user)
		release()
		if err != nil {
			return nil, nil, err
		}
	}
}

// choice is a user that a key can be made for, with the slots that are free as far as that is known.
type choice struct {
	user string
	free int
}

// reserveFirst orders a pool's users by what is known, and reserves a slot of the first.
func (b *backend) reserveFirst(ctx context.Context, i issuance) (ordered []choice, release func(), err error) {
	unlock, err := b.lock(ctx, "pool/"+i.account.name)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := b.ledger.Load(ctx, i.storage, i.account.name); err != nil {
		return nil, nil, fmt.Errorf("counting the keys of account %q: %w", i.account.name, err)
	}
	users, quota := i.role.UserNames, i.account.cloud.KeyQuota()
	used, foreign := b.ledger.Used(i.account.name, users, i.account.config.isOfAnother), b.slots.foreignOf(i.account.name, users)
	ordered = make([]choice, len(users))
	for n, user := range users {
		ordered[n] = choice{user: user, free: quota - used[n] - foreign[n]}
	}
	slices.SortStableFunc(ordered, func(x, y choice) int { return cmp.Compare(y.free, x.free) })
	release, _, _ = b.ledger.Reserve(i.account.name, ordered[0].user, 0, nil)
	return ordered, release, nil
}

// learnForeign lists a user's keys. One that turns out full is not even tried. Requests that
// come together wait for one list.
func (b *backend) learnForeign(ctx context.Context, i issuance, user string) error {
	unlock, err := b.lock(ctx, "slots/"+i.account.name+"/"+user)
	if err != nil {
		return err
	}
	defer unlock()
	if _, known := b.slots.foreignKeys(i.account.name, user); known {
		return nil
	}
	_, own, others, err := b.listCounted(ctx, i.account, user, i.instance)
	if err != nil {
		b.slots.learn(i.account.name, user, 0) // the create says what is wrong
		return nil
	}
	if quota := i.account.cloud.KeyQuota(); own+others >= quota {
		b.slots.remember(i.account.name, user, inPool(fullSlots(user, own, others, quota, "as listed")))
	}
	return nil
}

// listCounted lists the keys of a user, counts them by who made them, and keeps what the list shows: how many take slots that the account's
// index does not know of. A label of this mount does not tell that, since the key may be another account's, or lost: it has to do while the
// index is not whole. The engine's own identity is listed for itself, see foreignOwn.
func (b *backend) listCounted(ctx context.Context, a *account, user, instance string) (keys []provider.Key, own, others int, err error) {
	indexed := map[string]bool{}
	note := func() {
		for _, item := range b.ledger.Owned(a.name, user, func(*ledger.Item) bool { return true }) {
			indexed[item.Label] = true
		}
	}
	note() // before the list and after it: some are deleted meanwhile, and some are made
	if keys, err = a.cloud.ListKeys(ctx, user); err != nil {
		return nil, 0, 0, err
	}
	note()
	known := 0
	for _, key := range keys {
		if isOurs(key, instance) {
			own++
		}
		if indexed[key.Label] {
			known++
			delete(indexed, key.Label) // another key with it has a copy
		}
	}
	if !b.ledger.Whole(a.name) {
		known = own
	}
	if user != "" {
		b.slots.learn(a.name, user, len(keys)-known)
	}
	return keys, own, len(keys) - own, nil
}

// explainQuota says whose keys fill a user's slots, and names those that an operator can delete.
func (b *backend) explainQuota(ctx context.Context, i issuance, user string, cause error) (refusal, foreign string) {
	keys, own, others, err := b.listCounted(ctx, i.account, user, i.instance)
	if err != nil {
		return fmt.Sprintf("%s has no free slot for an access key (%s)", identityName(user), cause), ""
	}
	return fullSlots(user, own, others, i.account.cloud.KeyQuota(), cause.Error()), i.nameForeign(keys)
}

func fullSlots(user string, own, others, quota int, why string) string {
	return fmt.Sprintf("%s has no free slot for an access key: %d of %d issued by this mount, %d others (%s)", identityName(user), own,
		quota, others, why)
}

// inPool adds what can be done about it where the user is one of a role's.
func inPool(full string) string {
	return fmt.Sprintf("%s: revoke leases, delete keys that nobody uses, or name more users in user_names; the cloud is asked again "+
		"after %s", full, fullFor)
}

// maxNamed is how many keys a refusal names.
const maxNamed = 3

// nameForeign names those of an identity's keys that neither this mount nor the engine's account
// accounts for, in brackets. Empty where there are none.
func (i issuance) nameForeign(keys []provider.Key) string {
	var ids []string
	for _, key := range keys {
		if !isOurs(key, i.instance) && !slices.Contains(i.account.config.ownKeys(), key.ID) {
			ids = append(ids, key.ID)
		}
	}
	return inBrackets(ids)
}

// inBrackets lists the first of the ids.
func inBrackets(ids []string) string {
	switch {
	case len(ids) == 0:
		return ""
	case len(ids) > maxNamed:
		return fmt.Sprintf(" (%s and %d more)", strings.Join(ids[:maxNamed], ", "), len(ids)-maxNamed)
	default:
		return fmt.Sprintf(" (%s)", strings.Join(ids, ", "))
	}
}

// fullFor is how long a user without a free slot is not asked again, so that a crash
// loop does not become a storm of creates and lists.
const fullFor = 30 * time.Second

// slotMemory remembers the users whose slots were all taken, with what was said of it, and
// how many slots of each user the keys of others take.
type slotMemory struct {
	mu      sync.Mutex
	users   map[owner]fullUser
	foreign map[owner]listed
}

// owner is a user of an account; the empty one is the engine's own identity.
type owner struct{ account, user string }

type fullUser struct {
	refusal string
	until   time.Time
}

// listed is how many keys of others a user had when its keys were last listed.
type listed struct {
	count int
	at    time.Time
}

func (f *slotMemory) remember(account, user, refusal string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[owner{account, user}] = fullUser{refusal: refusal, until: time.Now().Add(fullFor)}
}

// recall returns the refusal of a user that was full a moment ago.
func (f *slotMemory) recall(account, user string) (refusal string, full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := owner{account, user}
	known, full := f.users[of]
	if full && !time.Now().Before(known.until) {
		delete(f.users, of)
		return "", false
	}
	return known.refusal, full
}

// forget is called when a slot has become free.
func (f *slotMemory) forget(account, user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, owner{account, user})
}

// learn keeps the count of foreign keys from a list that was made anyway.
func (f *slotMemory) learn(account, user string, foreign int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.foreign[owner{account, user}] = listed{foreign, time.Now()}
}

// foreignKeys is that count; known is false where the user was never listed.
func (f *slotMemory) foreignKeys(account, user string) (count int, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, known := f.foreign[owner{account, user}]
	return last.count, known
}

// lately is that count where the user was listed within a time.
func (f *slotMemory) lately(account, user string, within time.Duration) (count int, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.foreign[owner{account, user}]
	return last.count, time.Since(last.at) < within
}

// foreignOf is that count of each of these users, 0 where it is not known.
func (f *slotMemory) foreignOf(account string, users []string) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make([]int, len(users))
	for i, user := range users {
		counts[i] = f.foreign[owner{account, user}].count
	}
	return counts
}

// unlearn drops a count that has proved wrong.
func (f *slotMemory) unlearn(account, user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.foreign, owner{account, user})
}

// roleSlots is how the slots for keys of the users that a role leases keys of are used.
type roleSlots struct {
	account, role string
	used, free    int
}

func (s roleSlots) labels() []label { return []label{{"account", s.account}, {"role", s.role}} }

// slotsByRole tells of the roles that lease keys of users that exist, the fullest first. It knows what the ledger's index has, and of
// the keys of others what was listed last, for whatever reason.
func (b *backend) slotsByRole(ctx context.Context, s logical.Storage) ([]roleSlots, error) {
	roles, err := b.leaseRoles(ctx, s, "")
	if err != nil {
		return nil, err
	}
	var all []roleSlots
	for _, role := range roles {
		// Users that are made have slots of their own, and the engine's own identity keeps two for the engine.
		if role.CredentialType != credentialAccessKey || len(role.UserNames) == 0 {
			continue
		}
		a := b.openedAccount(role.Account)
		if a == nil { // as before the first tick
			continue
		}
		quota := a.cloud.KeyQuota()
		slots := roleSlots{account: role.Account, role: role.name}
		used := b.ledger.Used(role.Account, role.UserNames, a.config.isOfAnother)
		foreign := b.slots.foreignOf(role.Account, role.UserNames)
		for i := range role.UserNames {
			taken := min(quota, used[i]+foreign[i])
			slots.used, slots.free = slots.used+taken, slots.free+quota-taken
		}
		all = append(all, slots)
	}
	slices.SortStableFunc(all, func(x, y roleSlots) int { return cmp.Compare(x.free, y.free) })
	return all[:min(len(all), roleSeriesMax)], nil
}
