// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const (
	// rotationOverlap is how long a replaced key goes on working: past every budget, so
	// that requests under way with it can end.
	rotationOverlap = 90 * time.Second

	// rotationLead is the least time before a key's own date at which it is replaced: a few
	// ticks, for a cloud that cannot be reached at the first of them.
	rotationLead = 3 * time.Minute

	// maxRetired bounds the memory of replaced keys.
	maxRetired = 50
)

// previousKey is a key that was replaced and is still to be deleted.
type previousKey struct {
	ID          string            `json:"id"`
	Label       string            `json:"label,omitempty"`
	AccountID   string            `json:"account_id"`
	Identity    provider.Identity `json:"identity"`    // an operator may give the account a key of another user
	ByOperator  bool              `json:"by_operator"` // it was not rotation that replaced it
	Expires     time.Time         `json:"expires"`
	DeleteAfter time.Time         `json:"delete_after"`
}

// ref names the key to the cloud.
func (p previousKey) ref(accountID, user string) provider.KeyRef {
	return provider.KeyRef{AccountID: accountID, User: user, ID: p.ID, Label: p.Label, Expires: p.Expires}
}

// owner is the user to name when the key is deleted with a key of the given identity.
func (p previousKey) owner(signer provider.Identity) (string, error) {
	switch {
	case p.Identity == signer && !(p.ByOperator && signer.Kind == provider.IdentityUnknown):
		return "", nil
	case p.Identity.Kind == provider.IdentityUser:
		return p.Identity.User, nil
	default:
		return "", fmt.Errorf("it belongs to another identity (%s), whose keys the account's present key cannot delete: delete it in the cloud", p.Identity.Kind)
	}
}

// nextRotation is when the engine's own key is replaced by itself: when its period has
// passed, and in any case when a third of its life is left. Zero means never.
func nextRotation(created, expires time.Time, period time.Duration) time.Time {
	var next time.Time
	if period > 0 {
		next = created.Add(period)
	}
	if expires.IsZero() {
		return next
	}
	byDate := expires.Add(-max(expires.Sub(created)/3, rotationLead))
	if next.IsZero() || byDate.Before(next) {
		return byDate
	}
	return next
}

// rootExpiry is the date of a new key of the engine's own: as far as the access policy
// goes, else twice the rotation period, else none.
func rootExpiry(now time.Time, policy, period time.Duration) time.Time {
	switch {
	case policy > 0:
		return now.Add(policy - clockMargin).Truncate(time.Second)
	case period > 0:
		return ceilSecond(now.Add(2 * period))
	default:
		return time.Time{}
	}
}

// rotateRoot replaces the engine's own key:
//
//	(1) WAL entry → (2) create → (3) ledger entry
//	    → crash: the rollback finds the key by its label. The configuration does not
//	      name it, so it is deleted
//	(4) verify the new key with a call of its own
//	    → crash: the same
//	(5) store the configuration {current: new, previous: old}
//	    → crash: the configuration names the new key, so the rollback leaves it
//	(6) delete the WAL entry
//	(7) at a later tick: delete the old key, in the cloud and in the ledger → store the
//	    configuration without it
//	    → crash, or failure: the configuration still names it, and the next tick begins anew
//
// A failure up to (4) deletes the new key at once. One at (5) does not: the write may
// have been stored all the same, and a configuration whose key is deleted would lock the
// engine out. The rollback decides by what is stored then. Requests under way keep the
// client, and so the key, that they began with.
func (b *backend) rotateRoot(ctx context.Context, s logical.Storage, name string) (config *accountConfig, err error) {
	if _, err := b.identified(ctx, s, name); err != nil {
		return nil, err
	}
	ctx = urgently(ctx)
	defer func() {
		b.announceRotation(ctx, eventRotateRoot, name, "rotate-root/"+name, configPrefix+name, err)
	}()
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, err := b.account(ctx, s, name)
	if err != nil {
		return nil, err
	}
	if err := b.refuseSharedKey(ctx, s, a); err != nil {
		return nil, err
	}
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, err
	}
	view, err := b.refreshPolicy(ctx, s, a) // the new key's date must hold under the policy of now
	if err != nil {
		return nil, err
	}
	if a, err = b.makeRoom(ctx, s, a); err != nil {
		return nil, err
	}

	now := time.Now()
	i := issuance{storage: s, account: a, instance: instance}
	key, err := b.makeRecordedKey(ctx, i, keyOrder{
		kind: keylabel.KindRoot, issued: now,
		expires: a.lastingEnd(rootExpiry(now, view.Policy.MaxKeyLifetime, a.config.RotationPeriod)),
	})
	if provider.KindOf(err) == provider.KindQuota {
		return nil, mendable("the engine's own key of account %q cannot be rotated: %s. Delete a key that is not used%s",
			name, b.explainQuota(ctx, i, "", err), b.nameForeign(ctx, i, ""))
	}
	if err != nil {
		return nil, explain(name, err)
	}
	config, err = b.verifiedSuccessor(ctx, a, key)
	if err != nil {
		b.undoKey(ctx, i, key)
		return nil, fmt.Errorf("the new key does not work, and the old one stays: %w", explain(name, err))
	}
	if err := b.storeAccount(ctx, s, name, config); err != nil {
		return nil, fmt.Errorf("storing the new key of account %q: %w", name, err)
	}
	if err := framework.DeleteWAL(ctx, s, key.walID); err != nil {
		b.Logger().Warn("WAL entry of a finished rotation is left to the rollback", "account", name, "error", err)
	}
	b.Logger().Info("rotated the engine's own access key", "account", name, "access_key", config.AccessKey, "previous", a.config.AccessKey)
	return config, nil
}

// refuseSharedKey keeps a rotation from deleting the key of another account of the mount.
func (b *backend) refuseSharedKey(ctx context.Context, s logical.Storage, a *account) error {
	names, err := accountNames(ctx, s)
	if err != nil {
		return err
	}
	for _, name := range names {
		other, err := b.accountConfig(ctx, s, name)
		if err != nil {
			return err
		}
		if name != a.name && other != nil && other.AccessKey == a.config.AccessKey {
			return mendable("the key of account %q cannot be rotated, since account %q has the same one: give config/%s a key of its own", a.name, name, name)
		}
	}
	return nil
}

// urgently puts the calls of a rotation before all others: a storm of revokes must not
// keep the key that they need from being replaced.
func urgently(ctx context.Context) context.Context {
	return transport.WithNext(transport.WithClass(ctx, transport.ClassIssue))
}

// verifiedSuccessor is the configuration with the new key, once the cloud has accepted a
// call that it signs.
func (b *backend) verifiedSuccessor(ctx context.Context, a *account, key recordedKey) (*accountConfig, error) {
	config := *a.config
	config.AccessKey, config.SecretKey = key.ID, key.Secret.Reveal()
	own, err := b.tryNewKey(ctx, a.vendor, &config)
	if err != nil {
		return nil, err
	}
	config.KeyCreated, config.KeyExpires, config.KeyLabel = own.Created, own.Expires, key.Label
	config.Retired = append(slices.Clone(config.Retired), a.config.AccessKey)
	if extra := len(config.Retired) - maxRetired; extra > 0 {
		config.Retired = config.Retired[extra:]
	}
	config.Previous = append(slices.Clone(config.Previous), a.config.asPrevious(time.Now()))
	return &config, nil
}

// tryNewKey has a new key sign a call. Where the cloud does not know it everywhere at once, it is
// tried a few times, each time by a client of its own: the one before remembers the refusal.
func (b *backend) tryNewKey(ctx context.Context, v vendor, config *accountConfig) (own provider.Key, err error) {
	for _, pause := range append([]time.Duration{0}, v.settling...) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return provider.Key{}, errors.Join(err, ctx.Err())
		}
		own, err = b.ownKey(ctx, config)
		switch provider.KindOf(err) {
		case provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindNotFound:
		default:
			return own, err
		}
	}
	return own, err
}

func (b *backend) ownKey(ctx context.Context, config *accountConfig) (provider.Key, error) {
	a, err := b.openAccount("", config)
	if err != nil {
		return provider.Key{}, err
	}
	return a.cloud.OwnKey(ctx)
}

// makeRoom deletes the replaced keys whose overlap is over where they leave no slot for the
// next one. One that requests may still use is waited for.
func (b *backend) makeRoom(ctx context.Context, s logical.Storage, a *account) (*account, error) {
	if len(a.config.previousHere())+1 < a.cloud.KeyQuota() {
		return a, nil
	}
	problem := b.deleteReplacedKeys(ctx, s, a)
	a, err := b.account(ctx, s, a.name)
	if err != nil {
		return nil, errors.Join(problem, err)
	}
	previous := a.config.previousHere()
	switch {
	case len(previous)+1 < a.cloud.KeyQuota():
		return a, nil
	case problem != nil:
		return nil, fmt.Errorf("the engine's own key of account %q cannot be rotated before the one that it replaced is deleted: %w", a.name, problem)
	default:
		return nil, mendable("the engine's own key of account %q cannot be rotated yet: an identity can have %d access keys, and %s, which was replaced, "+
			"works until %s, so that requests under way can end. Try again then",
			a.name, a.cloud.KeyQuota(), previous[0].ID, showTime(previous[0].DeleteAfter))
	}
}

// previousHere are the replaced keys that take slots of the present key's identity.
func (c *accountConfig) previousHere() []previousKey {
	return slices.DeleteFunc(slices.Clone(c.Previous), func(p previousKey) bool { return p.AccountID != c.AccountID || p.Identity != c.Identity })
}

// asPrevious is the current key as one that is being replaced.
func (c *accountConfig) asPrevious(now time.Time) previousKey {
	return previousKey{
		ID: c.AccessKey, AccountID: c.AccountID, Label: c.KeyLabel, Identity: c.Identity,
		Expires: c.KeyExpires, DeleteAfter: now.Add(rotationOverlap),
	}
}

// deletePrevious deletes the replaced keys whose overlap has passed, with the current
// one. It keeps those that the cloud does not let go, for the next tick.
func (b *backend) deletePrevious(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := b.account(ctx, s, name)
	if err != nil {
		return err
	}
	return b.deleteReplacedKeys(ctx, s, a)
}

// deleteReplacedKeys does so under the account's lock.
func (b *backend) deleteReplacedKeys(ctx context.Context, s logical.Storage, a *account) error {
	config, now := *a.config, time.Now()
	var left []previousKey
	var problems []error
	for _, previous := range config.Previous {
		if now.Before(previous.DeleteAfter) {
			left = append(left, previous)
			continue
		}
		if err := b.deleteReplaced(ctx, s, a, previous); err != nil {
			left = append(left, previous)
			problems = append(problems, fmt.Errorf("deleting the replaced key %s: %w", previous.ID, err))
		}
	}
	if len(left) == len(config.Previous) {
		return errors.Join(problems...)
	}
	config.Previous = left
	return errors.Join(append(problems, b.storeAccount(ctx, s, a.name, &config))...)
}

// deleteReplaced deletes a key from cloud and ledger. Where the ledger fails, the key stays one
// of the replaced ones: nobody else looks for it there, the reaper least of all.
func (b *backend) deleteReplaced(ctx context.Context, s logical.Storage, a *account, previous previousKey) error {
	if previous.AccountID != a.config.AccountID {
		return fmt.Errorf("it belongs to cloud account %s, and account %q is now %s: delete it there", previous.AccountID, a.name, a.config.AccountID)
	}
	user, err := previous.owner(a.config.Identity)
	if err != nil {
		return err
	}
	if err := a.cloud.RevokeKey(ctx, previous.ref(a.config.AccountID, user)); err != nil {
		return explain(a.name, err)
	}
	return b.strike(ctx, s, &ledgerEntry{Account: a.name, AccessKey: previous.ID})
}

// keyEnds says when the engine's own key ends.
func (c *accountConfig) keyEnds() string {
	if c.KeyExpires.IsZero() {
		return "has no end"
	}
	return "ends at " + showTime(c.KeyExpires)
}

// rotateIfDue is the automatic rotation, where this node may write the configuration. It
// needs no Rotation Manager, which Vault Community and OpenBao do not have.
func (b *backend) rotateIfDue(ctx context.Context, s logical.Storage, a *account) error {
	if !b.WriteSafeReplicationState() {
		return nil
	}
	now := time.Now()
	if slices.ContainsFunc(a.config.Previous, func(p previousKey) bool { return !now.Before(p.DeleteAfter) }) {
		if err := b.deletePrevious(ctx, s, a.name); err != nil {
			b.Logger().Warn("a replaced key cannot be deleted yet", "account", a.name, "error", err)
		}
	}
	next := nextRotation(a.config.KeyCreated, a.config.KeyExpires, a.config.RotationPeriod)
	if next.IsZero() || now.Before(next) {
		return nil
	}
	// A new key that the cloud does not know everywhere at once takes longer than a tick has.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget+a.vendor.settlingTime())
	defer cancel()
	if _, err := b.rotateRoot(ctx, s, a.name); err != nil {
		return fmt.Errorf("rotating the engine's own key of account %q, which %s: %w", a.name, a.config.keyEnds(), err)
	}
	return nil
}
