// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// firstKeyLife is how long a first key lives by itself. It is replaced at once, and by
	// the automatic rotation where that fails.
	firstKeyLife = 15 * time.Minute

	// firstKeyPatience is how long after its key's end the entry of an account that was never
	// configured waits for it to be: who tries again the next day has the dead key removed,
	// which takes one of ten slots until then.
	firstKeyPatience = 24 * time.Hour

	// firstKeyPause is how often an account looks for the keys of entries that wait.
	firstKeyPause = 10 * time.Minute
)

// signIn is the login and the password that mint the engine's own key. Both live as long
// as their request: no field of a stored configuration holds them.
type signIn struct{ login, password provider.Secret }

// takeSignIn takes over login and password, where they were given.
func (c *accountConfig) takeSignIn(data *framework.FieldData) error {
	given := func(field string) string { text, _ := data.Get(field).(string); return text }
	login, password := given("login"), given("password")
	switch {
	case login == "" && password == "":
		return nil
	case login == "" || password == "":
		return userError("login and password are both needed")
	case given("access_key") != "" || given("secret_key") != "":
		return userError("give either access_key and secret_key, or login and password with which the engine makes a key for itself")
	case !c.signsIn():
		return userError("provider %q makes no key with login and password: give access_key and secret_key", c.Provider)
	case !data.Get("verify").(bool):
		return userError("login and password make a key, which is always tried: leave out verify=false")
	}
	c.signIn = &signIn{login: provider.Secret(login), password: provider.Secret(password)}
	return nil
}

// signsIn tells whether a login can make the engine's own key; a cloud that is not known is
// refused elsewhere.
func (c *accountConfig) signsIn() bool {
	cloud, err := clouds.Of(c.Provider)
	return err != nil || cloud.SignsIn
}

// endpoint is where the account is called.
func (c *accountConfig) endpoint() (string, error) {
	cloud, err := clouds.Of(c.Provider)
	if err != nil {
		return "", asUserError(err)
	}
	endpoint, err := cloud.Endpoint(c.Region, c.Endpoint)
	return endpoint, asUserError(err)
}

// mintFirstKey makes the engine's own key with the account's login and password:
//
//	(1) entry, begun {account, endpoint, label} → (2) create, with label and a date 15 minutes away
//	    → crash: nothing that could delete the key is stored, so it ends by its date. Its
//	      entry waits until an account is configured whose key can see it, and then it is
//	      deleted
//	(3) verify the new key with calls of its own
//	    → crash: the same
//	(4) store the configuration
//	    → crash: the configuration names the key, so the next tick does (5)
//	(5) entry, made {cloud account, access key}
//	(6) rotate: the key that is kept is made as every later one, with the date that the
//	    access policy and rotation_period ask for
//	    → crash, or failure: the automatic rotation replaces the key within its 15 minutes
//
// A failure up to (3) deletes the key at once, with login and password. One at (4) does
// not: the write may have been stored all the same.
func (b *backend) mintFirstKey(
	ctx context.Context, s logical.Storage, name string, before, config *accountConfig,
) (warnings []string, err error) {
	byLogin, err := b.open(config.access())
	if err != nil {
		return nil, userError("%s", err)
	}
	if err := b.refusals.refuse(config); err != nil {
		return nil, err
	}
	expires, err := b.firstKeyExpiry(ctx, byLogin, name, before, config)
	if err != nil {
		return nil, err
	}
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, err
	}
	endpoint, err := config.endpoint()
	if err != nil {
		return nil, err
	}
	var a *account
	r := rotation{
		issuance: issuance{storage: s, account: &account{name: name, config: config, cloud: byLogin}, instance: instance},
		order:    keyOrder{kind: keylabel.KindRoot, issued: time.Now(), expires: expires, endpoint: endpoint},
	}
	r.verify = func(ctx context.Context, key recordedKey) error {
		config.signIn, config.AccessKey, config.SecretKey = nil, key.ID, key.Secret.Reveal()
		warnings = config.replaceKey(before, b.endOfOverlap(ctx))
		config.KeyLabel = key.entry.Label
		checked, more, err := b.verifiedChange(ctx, s, name, before, config)
		a, warnings = checked, append(warnings, more...)
		return err
	}
	r.store = func(ctx context.Context, key recordedKey) error {
		key.entry.AccountID, key.entry.Endpoint = config.AccountID, ""
		_, err := b.storeWithPolicy(ctx, s, a)
		return err
	}
	if err := b.rotate(ctx, r); err != nil {
		if a == nil && config.signIn != nil { // login and password have made no key
			return nil, explainSignIn(name, err)
		}
		return nil, err
	}
	b.Logger().Info("made the engine's own access key with the account's login", "account", name, "access_key", config.AccessKey)
	return warnings, nil
}

// firstKeyExpiry is the date of a first key, if the identity has room for it and for its
// successor.
func (b *backend) firstKeyExpiry(
	ctx context.Context, byLogin provider.Cloud, name string, before, config *accountConfig,
) (time.Time, error) {
	policy, err := byLogin.AccessPolicy(ctx)
	b.refusals.note(config, err)
	if err != nil {
		return time.Time{}, explainSignIn(name, err)
	}
	if policy.SecureMode {
		return time.Time{}, userError("no key can be made for account %q by its login: %s. Write a key that was made in Cockpit",
			name, secureModeNews)
	}
	keys, err := byLogin.ListKeys(ctx, "")
	if err != nil {
		return time.Time{}, explainSignIn(name, err)
	}
	own := 0
	if before != nil {
		ids := before.ownKeys()
		for _, key := range keys {
			if slices.Contains(ids, key.ID) {
				own++
			}
		}
	}
	if quota := byLogin.KeyQuota(); len(keys)+engineSlots > quota {
		return time.Time{}, userError("no key can be made for account %q: its root user has %d of %d access keys (%d of this "+
			"account's configuration, %d others), and the engine needs %d free slots, for its key and for the next one when that is "+
			"rotated. Delete keys that are not used", name, len(keys), quota, own, len(keys)-own, engineSlots)
	}
	now := time.Now()
	expires := now.Add(firstKeyLife).Truncate(time.Second)
	if latest, bound := lifetime.LatestExpiry(now, policy.MaxKeyLifetime); bound && latest.Before(expires) {
		return latest, nil
	}
	return expires, nil
}

// explainSignIn says what can be done about a call that login and password were to make.
func explainSignIn(account string, err error) error {
	switch provider.KindOf(err) {
	case provider.KindKeyRefused, provider.KindKeyUnclear:
		return userError("the cloud refuses login and password of account %q: check both, and the region. Four refusals in a row "+
			"lock the account's API for a minute, and further ones for longer (%s)", account, err)
	case provider.KindQuota:
		return userError("the root user of account %q has no free slot for an access key: delete one that is not used (%s)", account, err)
	default:
		return explain(account, err)
	}
}

// keepFirstKey is step (6). The account works without it.
func (b *backend) keepFirstKey(ctx context.Context, s logical.Storage, name string) ([]string, error) {
	var warnings []string
	if _, err := b.rotateRoot(ctx, s, name); err != nil {
		warnings = append(warnings, fmt.Sprintf("the engine's first key could not be replaced yet, which is tried again by itself "+
			"before it ends: %s", err))
	}
	a, view, err := b.accountAndPolicy(ctx, s, name)
	if err != nil {
		return nil, err
	}
	return append(warnings, b.accountWarnings(a, view)...), nil
}

// tendFirstKeys ends what requests for a first key have left, of whichever account, as far as an
// account's key can see it.
func (b *backend) tendFirstKeys(ctx context.Context, s logical.Storage, a *account) error {
	now := time.Now()
	if now.Before(a.next.firstKeys) {
		return nil
	}
	for _, item := range b.ledger.Unfinished("", now, true) {
		if !item.First {
			continue
		}
		a.next.firstKeys = now.Add(firstKeyPause)
		if err := b.tendFirstKey(ctx, s, a, item); err != nil {
			return fmt.Errorf("cleaning up a first key of account %q: %w", item.Account, err)
		}
	}
	return nil
}

// tendFirstKey is takeUp for a first key, of which the cloud account is not known: its entry goes
// where an account's key finds the key, or surely could not any more.
func (b *backend) tendFirstKey(ctx context.Context, s logical.Storage, a *account, item ledger.Item) error {
	unlock, err := b.lockNamer(ctx, item)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := ledger.Read(ctx, s, item.Account, item.Label)
	if err != nil {
		return err
	}
	switch {
	case e == nil:
		b.ledger.Drop(item.Account, item.Label)
		return nil
	case e.AccountID != "": // another account has settled it since
		b.ledger.Learn(e)
		return nil
	}
	id, err := namedKey(ctx, s, e)
	if err != nil {
		return err
	}
	if id != "" {
		return b.finishFirstKey(ctx, s, e, id)
	}
	if !a.mayList(e) {
		return b.dropFirstKey(ctx, s, a, e)
	}
	asOwn := *e
	asOwn.AccountID = a.config.AccountID
	found, err := removeLabelled(ctx, a, &asOwn, a.proven)
	if err != nil {
		return err
	}
	if !found {
		return b.dropFirstKey(ctx, s, a, e)
	}
	b.slots.forget(a.name, "")
	b.Logger().Info("removed the first key of an unfinished request", "account", a.name, "label", e.Label)
	return b.removeEntry(ctx, s, e)
}

// finishFirstKey is step (5), for a configuration that was stored.
func (b *backend) finishFirstKey(ctx context.Context, s logical.Storage, e *ledger.Entry, id string) error {
	config, err := load[accountConfig](ctx, s, configPrefix+e.Account)
	if err != nil || config == nil {
		return err
	}
	e.AccessKey, e.AccountID, e.Endpoint = id, config.AccountID, ""
	return b.ledger.Finish(ctx, s, e)
}

// mayList tells whether an account's key can list a first key, if both are of one identity.
func (a *account) mayList(first *ledger.Entry) bool {
	if !a.kind.SignsIn {
		return false
	}
	endpoint, err := a.config.endpoint()
	return err == nil && endpoint == first.Endpoint
}

// dropFirstKey drops an entry whose key the account's own key does not find, once that has
// surely ended. Until then it waits: the key may be another identity's, or of another cloud
// account. For good it cannot, since it keeps its account from being deleted or changed.
func (b *backend) dropFirstKey(ctx context.Context, s logical.Storage, a *account, first *ledger.Entry) error {
	if first.Account != a.name || time.Now().Before(first.EndedAt(a.skew())) {
		return nil
	}
	b.Logger().Warn("the first key of an unfinished request cannot be found with the account's key. It has ended by its date; "+
		"if the cloud account's root user lists a key with this label, delete it", "account", a.name, "endpoint", first.Endpoint,
		"label", first.Label)
	return b.removeEntry(ctx, s, first)
}

// forgetFirstKeys drops the entries of a name that nobody has configured, once their keys have
// ended for a day: no account's own tick drops them, and they would wait for ever.
func (b *backend) forgetFirstKeys(ctx context.Context, s logical.Storage, name string) error {
	for _, item := range b.ledger.Unfinished(name, time.Now(), true) {
		if !item.First || time.Now().Before(item.Expires.Add(firstKeyPatience)) {
			continue
		}
		b.Logger().Warn("an account was never configured after a request for its first key had failed. The key has ended by its date; "+
			"if the cloud account's root user lists a key with this label, delete it", "account", name, "label", item.Label)
		if err := b.ledger.Remove(ctx, s, name, item.Label); err != nil {
			return err
		}
	}
	return nil
}
