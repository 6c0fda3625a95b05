// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// rotateRoot replaces the engine's own key:
//
//	(1) entry, begun → (2) create
//	    → crash: the next tick finds the key by its label. The configuration does not
//	      name it, so it is deleted
//	(3) verify the new key with a call of its own
//	    → crash: the same
//	(4) store the configuration {current: new, previous: old}
//	    → crash: the configuration names the new key, so the next tick does (5)
//	(5) entry, made
//	(6) at a later tick: delete the old key, in the cloud and in the ledger → store the
//	    configuration without it
//	    → crash, or failure: the configuration still names it, and the next tick begins anew
//
// A failure up to (3) deletes the new key at once. One at (4) does not: the write may
// have been stored all the same, and a configuration whose key is deleted would lock the
// engine out. The next tick decides by what is stored then. Requests under way keep the
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
	view, err := b.mayRotateRoot(ctx, s, a)
	if err != nil {
		return nil, err
	}
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, err
	}
	if a, err = b.makeRoom(ctx, s, a); err != nil {
		return nil, err
	}

	now := time.Now()
	r := rotation{issuance: issuance{storage: s, account: a, instance: instance}, order: keyOrder{
		kind: keylabel.KindRoot, issued: now,
		expires: a.lastingEnd(lifetime.EngineKeyExpiry(now, view.Policy.MaxKeyLifetime, a.config.RotationPeriod)),
	}}
	r.verify = func(ctx context.Context, key recordedKey) error {
		if config, err = b.verifiedSuccessor(ctx, a, key); err != nil {
			return fmt.Errorf("the new key does not work, and the old one stays: %w", explain(name, err))
		}
		return nil
	}
	r.store = func(ctx context.Context, _ recordedKey) error {
		if err := b.storeAccount(ctx, s, name, config); err != nil {
			return fmt.Errorf("storing the new key of account %q: %w", name, err)
		}
		return nil
	}
	err = b.rotate(ctx, r)
	if provider.KindOf(err) == provider.KindQuota {
		refusal, foreign := b.explainQuota(ctx, r.issuance, "", err)
		return nil, userError("the engine's own key of account %q cannot be rotated: %s. Delete a key that is not used%s", name, refusal, foreign)
	}
	if err != nil {
		return nil, explain(name, err)
	}
	b.Logger().Info("rotated the engine's own access key", "account", name, "access_key", config.AccessKey, "previous", a.config.AccessKey)
	return config, nil
}

// mayRotateRoot refuses a rotation that would take another account's key, or whose new key could not be made. It reads the access
// policy, since the new key's date must hold under that of now.
func (b *backend) mayRotateRoot(ctx context.Context, s logical.Storage, a *account) (*policyView, error) {
	switch other, err := b.sharesKey(ctx, s, a); {
	case err != nil:
		return nil, err
	case other != "":
		return nil, userError("the key of account %q cannot be rotated, since account %q has the same one: give config/%s a key of "+
			"its own", a.name, other, other)
	}
	view, err := b.refreshPolicy(ctx, s, a)
	if err == nil && view.secureMode() {
		err = userError("the engine's own key of account %q cannot be rotated: %s. The key in use %s: before that, write one "+
			"that was made in Cockpit to config/%s", a.name, secureModeNews, a.config.keyEnds(), a.name)
	}
	return view, err
}

// sharesKey names another account of the mount that has the same key; empty: none has.
func (b *backend) sharesKey(ctx context.Context, s logical.Storage, a *account) (name string, err error) {
	return b.signsWith(ctx, s, a.name, a.config.AccessKey)
}

// signsWith names another account of the mount whose current key this is; empty: none has it.
func (b *backend) signsWith(ctx context.Context, s logical.Storage, account, accessKey string) (name string, err error) {
	configs, err := b.accountConfigs(ctx, s)
	for name, other := range configs {
		if name != account && other.AccessKey == accessKey {
			return name, err
		}
	}
	return "", err
}

// verifiedSuccessor is the configuration with the new key, once the cloud has accepted a
// call that it signs.
func (b *backend) verifiedSuccessor(ctx context.Context, a *account, key recordedKey) (*accountConfig, error) {
	config := *a.config
	config.AccessKey, config.SecretKey = key.ID, key.Secret.Reveal()
	own, err := b.tryNewKey(ctx, a.kind, &config)
	if errors.Is(err, provider.ErrUnlisted) { // it works, and its dates are those that the create has answered
		own, err = key.Key, nil
	}
	if err != nil {
		return nil, err
	}
	config.KeyCreated, config.KeyExpires, config.KeyLabel = own.Created, own.Expires, key.Label
	config.Retired = append(slices.Clone(config.Retired), a.config.AccessKey)
	if a.config.KeyLabel == "" { // an old Terraform state brings it back, years later
		config.Given = append(slices.Clone(config.Given), a.config.AccessKey)
	}
	if extra := len(config.Retired) - maxRetired; extra > 0 {
		config.Retired = config.Retired[extra:]
	}
	config.Previous = append(slices.Clone(config.Previous), a.config.asPrevious(b.endOfOverlap(ctx)))
	return &config, nil
}

// tryNewKey has a new key sign a call. Where the cloud does not know it everywhere at once, it is
// tried a few times, each time by a client of its own: the one before remembers the refusal.
func (b *backend) tryNewKey(ctx context.Context, kind clouds.Cloud, config *accountConfig) (own provider.Key, err error) {
	for _, pause := range append([]time.Duration{0}, kind.Settling...) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return provider.Key{}, errors.Join(err, ctx.Err())
		}
		own, err = b.ownKey(ctx, nil, config)
		switch provider.KindOf(err) {
		case provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindNotFound:
		default:
			return own, err
		}
	}
	return own, err
}

// ownKey reads the key of a configuration with itself. former is an account whose client knows of the key; nil: none does.
func (b *backend) ownKey(ctx context.Context, former *account, config *accountConfig) (provider.Key, error) {
	a, err := b.openAfter(former, "", config)
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
	problem := b.deleteReplacedHeld(ctx, s, a)
	a, err := b.account(ctx, s, a.name)
	if err != nil {
		return nil, errors.Join(problem, err)
	}
	previous := a.config.previousHere()
	switch {
	case len(previous)+1 < a.cloud.KeyQuota():
		return a, nil
	case problem != nil:
		return nil, fmt.Errorf("the engine's own key of account %q cannot be rotated before the one that it replaced is deleted: "+
			"%w", a.name, problem)
	default:
		return nil, userError("the engine's own key of account %q cannot be rotated yet: an identity can have %d access keys, and "+
			"%s, which was replaced, works until %s, so that requests under way can end. Try again then", a.name,
			a.cloud.KeyQuota(), previous[0].ID, showTime(previous[0].DeleteAfter))
	}
}

// deleteReplaced deletes the engine's replaced keys whose overlap has passed, with the current one.
// It keeps those that the cloud does not let go, for the next tick.
func (b *backend) deleteReplaced(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := b.account(ctx, s, name)
	if err != nil {
		return err
	}
	return b.deleteReplacedHeld(ctx, s, a)
}

// deleteReplacedInTime is deleteReplaced within reapBudget: where the cloud hangs, the rest of the tick is left to the account's
// other work. A failure is logged.
func (b *backend) deleteReplacedInTime(ctx context.Context, s logical.Storage, name string) {
	ctx, cancel := context.WithTimeout(ctx, reapBudget)
	defer cancel()
	if err := b.deleteReplaced(ctx, s, name); err != nil {
		b.Logger().Warn("a replaced key cannot be deleted yet", "account", name, "error", err)
	}
}

// deleteReplacedHeld is deleteReplaced for callers that hold the account's lock.
func (b *backend) deleteReplacedHeld(ctx context.Context, s logical.Storage, a *account) error {
	left, err := b.deleteDue(ctx, s, a, a.config.Previous, lifetime.MaxOverlap)
	if len(left) == len(a.config.Previous) {
		return err
	}
	config := *a.config
	config.Previous = left
	ctx, cancel := cleanupContext(ctx) // what was deleted at the last moment is not named any more
	defer cancel()
	return errors.Join(err, b.storeAccount(ctx, s, a.name, &config))
}

// previousHere are the replaced keys that take slots of the present key's identity.
func (c *accountConfig) previousHere() []previousKey {
	return slices.DeleteFunc(
		slices.Clone(c.Previous),
		func(p previousKey) bool { return p.AccountID != c.AccountID || !p.Identity.Same(c.Identity) },
	)
}

// endOfOverlap is until when a key that is replaced now goes on working.
func (b *backend) endOfOverlap(ctx context.Context) time.Time {
	return time.Now().Add(lifetime.Overlap(b.mayHaveSecondaries(ctx)))
}

// asPrevious is the current key as one that is being replaced, and goes on working for a while.
func (c *accountConfig) asPrevious(until time.Time) previousKey {
	return previousKey{
		ID: c.AccessKey, AccountID: c.AccountID, Label: c.KeyLabel, Identity: c.Identity,
		Expires: c.KeyExpires, DeleteAfter: until,
	}
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
	now, next := time.Now(), a.config.nextRotation()
	if a.timeDecides(next) && b.WriteSafeReplicationState() {
		_, _ = b.refreshPolicy(ctx, s, a) // any answer tells the time, and a failure is logged
	}
	replaced := anyDue(a.config.Previous, now, lifetime.MaxOverlap)
	due := !next.IsZero() && !a.cloudNow().Before(next) && !lifetime.Waits(a.next.rotation, now, lifetime.LongestPause)
	if !replaced && !due || !b.WriteSafeReplicationState() { // which are two calls to the server, of every account
		return nil
	}
	if replaced {
		b.deleteReplacedInTime(ctx, s, a.name)
	}
	if !due {
		return nil
	}
	// A new key that the cloud does not know everywhere at once takes longer than a tick has, and what came before may have used it up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget+a.kind.SettlingTime())
	defer cancel()
	// In secure mode a successor would have lost the rights that the key in use has: check says so.
	view, err := storedPolicy(ctx, s, a)
	if err == nil && view.secureMode() { // it may be off again, and the key may have no time to wait for the next look
		view, err = b.refreshPolicy(ctx, s, a)
	}
	if err != nil || view.secureMode() {
		return err
	}
	if _, err := b.rotateRoot(ctx, s, a.name); err != nil {
		a.next.rotationFailures++
		pause := rotationPause(a.next.rotationFailures, a.config.KeyExpires.Sub(a.cloudNow()))
		a.next.rotation = now.Add(pause)
		return fmt.Errorf("rotating the engine's own key of account %q, which %s (tried again in %s): %w", a.name, a.config.keyEnds(), pause, err)
	}
	return nil
}

// timeDecides tells that the cloud's clock decides whether a rotation is due, and that nobody has seen it yet: by this machine's, which
// may be behind, a new process would come when the key has ended.
func (a *account) timeDecides(next time.Time) bool {
	_, known := a.measuredSkew()
	now := time.Now()
	return !known && a.endsKeys() && !next.IsZero() && !now.Add(transport.MaxSkew).Before(next) &&
		!lifetime.Waits(a.next.policy, now, policyRefresh) // a cloud that hangs is not asked at each tick
}

// rotationPause is the pause after so many failures in a row, for a key that lives so long yet; less than
// nothing where the key never expires. Each try makes calls, and perhaps a key: yet there are always some tries
// left before the key ends.
func rotationPause(failures int, left time.Duration) time.Duration {
	pause := lifetime.RotationPause(failures)
	if left > 0 {
		pause = min(pause, left/8)
	}
	return pause
}

// maxRetired bounds the memory of replaced keys that the engine has made: nobody else has their secrets.
const maxRetired = 50
