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

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// firstKeyPrefix holds an entry for each first key that is being made, in local
	// storage. It is no WAL entry, since only an account that is configured can end it: a
	// rollback would fail every minute until there is one.
	firstKeyPrefix = "first-keys/"

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
		return mendable("login and password are both needed")
	case given("access_key") != "" || given("secret_key") != "":
		return mendable("give either access_key and secret_key, or login and password with which the engine makes a key for itself")
	case !c.signsIn():
		return mendable("provider %q makes no key with login and password: give access_key and secret_key", c.Provider)
	case !data.Get("verify").(bool):
		return mendable("login and password make a key, which is always tried: leave out verify=false")
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

// firstKey is the entry of a key that is being made with login and password. It holds
// neither, and no secret.
type firstKey struct {
	Account  string    `json:"account"`
	Endpoint string    `json:"endpoint"` // of the API; the cloud account is not known yet
	Label    string    `json:"label"`
	Started  time.Time `json:"started"`
	Expires  time.Time `json:"expires"`
}

func (k firstKey) path() string { return firstKeyPrefix + k.Label }

// pending is the entry as one of the WAL.
func (k firstKey) pending() pendingKey { return pendingKey{Account: k.Account, Label: k.Label} }

// mintFirstKey makes the engine's own key with the account's login and password:
//
//	(1) entry {account, endpoint, label} → (2) create, with label and a date 15 minutes away
//	    → crash: nothing that could delete the key is stored, so it ends by its date. Its
//	      entry waits until an account is configured whose key can see it, and then it is
//	      deleted
//	(3) verify the new key with calls of its own
//	    → crash: the same
//	(4) store the configuration
//	    → crash: the configuration names the key, so the entry just goes
//	(5) ledger entry → (6) delete the entry
//	(7) rotate: the key that is kept is made as every later one, with the date that the
//	    access policy and rotation_period ask for
//	    → crash, or failure: the automatic rotation replaces the key within its 15 minutes
//
// A failure up to (3) deletes the key at once, with login and password. One at (4) does
// not: the write may have been stored all the same.
func (b *backend) mintFirstKey(ctx context.Context, s logical.Storage, name string, before, config *accountConfig) (warnings []string, err error) {
	byLogin, err := b.open(config.access())
	if err != nil {
		return nil, mendable("%s", err)
	}
	expires, err := firstKeyExpiry(ctx, byLogin, name, before)
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
	first := firstKey{Account: name, Endpoint: endpoint, Label: keylabel.New(instance, keylabel.KindRoot).String(), Started: time.Now(), Expires: expires}
	if err := save(ctx, s, first.path(), first); err != nil {
		return nil, fmt.Errorf("writing the entry without which no key is made: %w", err)
	}
	key, err := byLogin.CreateKey(ctx, provider.KeySpec{Label: first.Label, Expires: expires})
	if err != nil {
		b.abandonFirstKey(ctx, s, byLogin, first, err)
		return nil, explainSignIn(name, err)
	}
	config.signIn, config.AccessKey, config.SecretKey = nil, key.ID, key.Secret.Reveal()
	warnings = config.replaceKey(before)
	config.KeyLabel = first.Label
	a, more, err := b.judged(ctx, s, name, before, config)
	if err != nil {
		b.abandonFirstKey(ctx, s, byLogin, first, nil)
		return nil, err
	}
	if _, err := b.storeJudged(ctx, s, a); err != nil {
		return nil, err
	}
	b.settleFirstKey(ctx, s, config, first)
	return append(warnings, more...), nil
}

// settleFirstKey is steps (5) and (6). What fails here changes nothing for the account.
func (b *backend) settleFirstKey(ctx context.Context, s logical.Storage, config *accountConfig, first firstKey) {
	entry := &ledgerEntry{
		Kind: keylabel.KindRoot, AccessKey: config.AccessKey, Account: first.Account, AccountID: config.AccountID,
		Label: first.Label, Issued: first.Started, Expires: first.Expires,
	}
	err := save(ctx, s, entry.path(), entry)
	if err == nil {
		err = remove(ctx, s, first.path())
	}
	if err != nil {
		b.Logger().Warn("the entry of a first key is left to the next tick", "account", first.Account, "error", err)
	}
	b.Logger().Info("made the engine's own access key with the account's login", "account", first.Account, "access_key", config.AccessKey)
}

// firstKeyExpiry is the date of a first key, if the identity has room for it and for its
// successor.
func firstKeyExpiry(ctx context.Context, byLogin provider.Cloud, name string, before *accountConfig) (time.Time, error) {
	policy, err := byLogin.AccessPolicy(ctx)
	if err != nil {
		return time.Time{}, explainSignIn(name, err)
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
	if quota := byLogin.KeyQuota(); len(keys)+reservedSlots > quota {
		return time.Time{}, mendable("no key can be made for account %q: its root user has %d of %d access keys (%d of this account's configuration, %d others), "+
			"and the engine needs %d free slots, for its key and for the next one when that is rotated. Delete keys that are not used",
			name, len(keys), quota, own, len(keys)-own, reservedSlots)
	}
	life := firstKeyLife
	if policy.MaxKeyLifetime > 0 {
		life = min(life, policy.MaxKeyLifetime-lifetime.ClockMargin)
	}
	return time.Now().Add(life).Truncate(time.Second), nil
}

// abandonFirstKey deletes a first key that is not to be used, with the login that made it.
// cause is why none was made, as far as anybody knows. The entry goes once the key surely
// is gone.
func (b *backend) abandonFirstKey(ctx context.Context, s logical.Storage, byLogin provider.Cloud, first firstKey, cause error) {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	err := cause
	if cause == nil || provider.KindOf(cause) == provider.KindAmbiguous {
		err = deleteLabelled(ctx, byLogin, first)
	} else {
		err = nil // the cloud has surely made nothing
	}
	if err == nil {
		err = remove(ctx, s, first.path())
	}
	if err != nil {
		b.Logger().Warn("a first key that is not used may be in the cloud: it ends by itself, and is deleted once the account is configured",
			"account", first.Account, "ends", showTime(first.Expires), "error", err)
	}
}

// deleteLabelled deletes the key of a label. Where there is none the cloud may still be at
// work on it, which is an error.
func deleteLabelled(ctx context.Context, cloud provider.Cloud, first firstKey) error {
	keys, err := cloud.ListKeys(ctx, "")
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.Label == first.Label {
			return cloud.RevokeKey(ctx, key.Ref(""))
		}
	}
	return fmt.Errorf("the key labelled %s is not listed", first.Label)
}

// explainSignIn says what can be done about a call that login and password were to make.
func explainSignIn(account string, err error) error {
	switch provider.KindOf(err) {
	case provider.KindKeyRefused, provider.KindKeyUnclear:
		return mendable("the cloud refuses login and password of account %q: check both, and the region. Four refusals in a row lock the account's API "+
			"for a minute, and further ones for longer (%s)", account, err)
	case provider.KindQuota:
		return mendable("the root user of account %q has no free slot for an access key: delete one that is not used (%s)", account, err)
	default:
		return explain(account, err)
	}
}

// keepFirstKey is step (7). The account works without it.
func (b *backend) keepFirstKey(ctx context.Context, s logical.Storage, name string) ([]string, error) {
	var warnings []string
	if _, err := b.rotateRoot(ctx, s, name); err != nil {
		warnings = append(warnings, fmt.Sprintf("the engine's first key could not be replaced yet, which is tried again by itself before it ends: %s", err))
	}
	a, err := b.account(ctx, s, name)
	if err != nil {
		return nil, err
	}
	view, err := storedPolicy(ctx, s, a)
	if err != nil {
		return nil, err
	}
	return append(warnings, a.warnings(view)...), nil
}

// firstKeys are the entries of all accounts.
func firstKeys(ctx context.Context, s logical.Storage) ([]firstKey, error) {
	labels, err := s.List(ctx, firstKeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing first keys: %w", err)
	}
	var entries []firstKey
	for _, label := range labels {
		entry, err := load[firstKey](ctx, s, firstKeyPrefix+label)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			entries = append(entries, *entry)
		}
	}
	return entries, nil
}

// tendFirstKeys ends what requests for a first key have left, as far as an account's key
// can see it.
func (b *backend) tendFirstKeys(ctx context.Context, s logical.Storage, a *account) error {
	now := time.Now()
	if now.Before(a.next.firstKeys) {
		return nil
	}
	entries, err := firstKeys(ctx, s)
	if err != nil {
		return err
	}
	for _, first := range entries {
		if now.Sub(first.Started) < walMinAge {
			continue // its request may still run
		}
		a.next.firstKeys = now.Add(firstKeyPause)
		if err := b.tendFirstKey(ctx, s, a, first); err != nil {
			return fmt.Errorf("cleaning up a first key of account %q: %w", first.Account, err)
		}
	}
	return nil
}

func (b *backend) tendFirstKey(ctx context.Context, s logical.Storage, a *account, first firstKey) error {
	if !a.mayList(first) {
		return b.giveUpFirstKey(ctx, s, a, first)
	}
	keys, err := a.cloud.ListKeys(ctx, "")
	if err != nil {
		return err
	}
	found := slices.IndexFunc(keys, func(key provider.Key) bool { return key.Label == first.Label })
	if found < 0 {
		return b.giveUpFirstKey(ctx, s, a, first)
	}
	configured, err := b.configuredKeys(ctx, s) // whether a request got as far as storing its key is in storage
	if err != nil {
		return err
	}
	if key := keys[found]; !configured[key.ID] {
		if err := a.cloud.RevokeKey(ctx, key.Ref(a.config.AccountID)); err != nil {
			return err
		}
		b.full.forget(a.name, "")
		b.Logger().Info("removed the first key of an unfinished request", "account", a.name, "access_key", key.ID)
	}
	return remove(ctx, s, first.path())
}

// mayList tells whether an account's key can list a first key, if both are of one identity.
func (a *account) mayList(first firstKey) bool {
	if !a.kind.SignsIn {
		return false
	}
	endpoint, err := a.config.endpoint()
	return err == nil && endpoint == first.Endpoint
}

// giveUpFirstKey drops an entry whose key the account's own key does not find, once that has
// surely ended. Until then it waits: the key may be another identity's, or of another cloud
// account. For good it cannot, since it keeps its account from being deleted or changed.
func (b *backend) giveUpFirstKey(ctx context.Context, s logical.Storage, a *account, first firstKey) error {
	if first.Account != a.name || time.Now().Before(first.Expires.Add(lifetime.ClockMargin)) {
		return nil
	}
	b.Logger().Warn("the first key of an unfinished request cannot be found with the account's key. It has ended by its date; "+
		"if the cloud account's root user lists a key with this label, delete it", "account", a.name, "endpoint", first.Endpoint, "label", first.Label)
	return remove(ctx, s, first.path())
}

// forgetFirstKeys drops the entries of names that nobody has configured, once their keys have
// ended for a day: no account's own tick gives them up, and they would wait for ever.
func (b *backend) forgetFirstKeys(ctx context.Context, s logical.Storage, configured []string) error {
	entries, err := firstKeys(ctx, s)
	if err != nil {
		return err
	}
	for _, first := range entries {
		if slices.Contains(configured, first.Account) || time.Now().Before(first.Expires.Add(firstKeyPatience)) {
			continue
		}
		b.Logger().Warn("an account was never configured after a request for its first key had failed. The key has ended by its date; "+
			"if the cloud account's root user lists a key with this label, delete it", "account", first.Account, "endpoint", first.Endpoint, "label", first.Label)
		if err := remove(ctx, s, first.path()); err != nil {
			return err
		}
	}
	return nil
}
