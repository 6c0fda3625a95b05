// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// maxAccounts is how many accounts are kept open; the one that was not used for the longest
// time makes room. An open account is about 4 KB. The bound is above what one mount should
// serve: the periodic work looks at every account each minute, and one that is given up
// forgets which key the cloud has refused.
const maxAccounts = 10000

func newAccounts() *simplelru.LRU[string, *account] {
	accounts, _ := simplelru.NewLRU[string, *account](maxAccounts, nil) // fails for sizes below 1 alone
	return accounts
}

// opener makes the client of an account.
type opener func(provider.Config) (provider.Cloud, error)

// account returns the named account. Its client is made at first use and kept
// until the configuration changes: it holds the account's pace and the memory
// of refused keys.
func (b *backend) account(ctx context.Context, s logical.Storage, name string) (*account, error) {
	for {
		b.accountsLock.Lock()
		a, open := b.accounts.Get(name)
		former, changes := b.former[name], b.changes
		b.accountsLock.Unlock()
		if open {
			return a, nil
		}
		config, err := load[accountConfig](ctx, s, configPrefix+name)
		if err != nil {
			return nil, err
		}
		if config == nil {
			return nil, userError("account %q is not configured: write config/%s first", name, name)
		}
		if a, err = b.openAfter(former, name, config); err != nil {
			return nil, fmt.Errorf("account %q: %w", name, err)
		}
		if err := b.resumeHold(ctx, s, a); err != nil {
			return nil, err
		}
		if kept := b.keepOpen(a, changes); kept != nil {
			return kept, nil
		}
	}
}

// openedAccount is an account that is open; nil: it is not.
func (b *backend) openedAccount(name string) *account {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	a, _ := b.accounts.Peek(name)
	return a
}

// latestAccount is an account that is open, or was until its configuration changed; nil: neither.
func (b *backend) latestAccount(name string) *account {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	if a, open := b.accounts.Peek(name); open {
		return a
	}
	return b.former[name]
}

// keepOpen keeps an account that was just opened, and returns the one to go on with: another request may have been faster. It is nil
// where a configuration has changed since, so that what was read may be old; one that is being stored now is not kept.
func (b *backend) keepOpen(a *account, changes int) *account {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	if first, ok := b.accounts.Get(a.name); ok {
		return first
	}
	if b.changes != changes {
		return nil
	}
	if b.storing[a.name] == 0 {
		b.accounts.Add(a.name, a)
		delete(b.former, a.name)
	}
	return a
}

// accountConfig returns an account's configuration, and makes no client for it; nil where it
// is not configured. A mount with thousands of accounts looks at all of them for every
// rotation, and need not read them all from storage again.
func (b *backend) accountConfig(ctx context.Context, s logical.Storage, name string) (*accountConfig, error) {
	if a := b.openedAccount(name); a != nil {
		return a.config, nil
	}
	return load[accountConfig](ctx, s, configPrefix+name)
}

// accountConfigs are those of all accounts, by name; storage is asked for none that is in memory.
func (b *backend) accountConfigs(ctx context.Context, s logical.Storage) (map[string]*accountConfig, error) {
	return loadAll(ctx, s, configPrefix, func(name string) (*accountConfig, error) { return b.accountConfig(ctx, s, name) })
}

// openAfter makes the client of a configuration. It goes on with what the one before has learned of the same key, if there was one:
// were that forgotten with each change of a pace, calls of both would be refused, and four refusals lock the account.
func (b *backend) openAfter(former *account, name string, config *accountConfig) (*account, error) {
	kind, err := clouds.Of(config.Provider)
	if err != nil {
		return nil, asUserError(err)
	}
	access := config.access()
	access.UserAgent, access.Observe = "vault-plugin-secrets-cloudkeys/"+b.build.name(), b.metrics.observer(name)
	if former != nil && former.config.signer() == config.signer() {
		access.After = former.cloud
	}
	cloud, err := b.open(access)
	if err != nil {
		return nil, err
	}
	return &account{name: name, config: config, kind: kind, cloud: cloud, users: b.usersKnown(name, config.AccountID)}, nil
}

// storeAccount writes a configuration and forgets the client made from the old one. Until it is written, clients that are made of
// what storage has are not kept, and an account that is frozen stays so: whoever looks after that sees what is written.
// A nil configuration deletes.
func (b *backend) storeAccount(ctx context.Context, s logical.Storage, name string, config *accountConfig) error {
	if config == nil {
		return b.removeConfig(ctx, s, name)
	}
	b.beginStoring(name)
	defer b.endStoring(name, false)
	return save(ctx, s, configPrefix+name, config)
}

// removeConfig removes the hold first, so that a crash leaves none behind, and once more when nobody knows the account any
// longer: a refusal of a call under way may have been stored meanwhile.
func (b *backend) removeConfig(ctx context.Context, s logical.Storage, name string) error {
	if err := b.removeHold(ctx, s, name); err != nil {
		return err
	}
	b.beginStoring(name)
	err := remove(ctx, s, configPrefix+name)
	b.endStoring(name, err == nil)
	if err != nil {
		return err
	}
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if err := b.removeHold(ctx, s, name); err != nil {
		b.Logger().Warn("what was known of a deleted account's key may be left", "account", name, "error", err)
	}
	return nil
}

// retire forgets an account, but not what its client knows. The lock is held.
func (b *backend) retire(name string) {
	if open, ok := b.accounts.Peek(name); ok {
		b.former[name] = open
		b.accounts.Remove(name)
	}
}

func (b *backend) beginStoring(name string) {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	b.storing[name]++
	b.retire(name)
}

func (b *backend) endStoring(name string, deleted bool) {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	if b.storing[name]--; b.storing[name] == 0 {
		delete(b.storing, name)
	}
	b.changes++
	delete(b.frozen, name)
	if deleted {
		delete(b.former, name)
	}
}

// rememberAccount keeps what the cloud said of an account on a node that cannot store it:
// the configuration of a performance secondary is its primary's. It takes the place of the one that it was made from, and of no other:
// what was written, or deleted, while the cloud was asked is newer, and the old configuration would go on until a restart.
func (b *backend) rememberAccount(former, a *account) (kept bool) {
	b.followHold(a)
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	if open, ok := b.accounts.Peek(a.name); !ok || open != former {
		return false
	}
	b.changes++
	b.accounts.Add(a.name, a)
	return true
}

// freeze keeps keys from being begun for an account until it is stored, or kept. Its caller,
// who holds the account's lock, then looks at what needs the account: a request puts its entry
// into the ledger first and looks here after, so that one of the two sees the other.
func (b *backend) freeze(name string) {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	b.frozen[name] = true
}

// keep ends freeze where nothing was stored.
func (b *backend) keep(name string) {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	delete(b.frozen, name)
}

// standing tells whether an account's configuration is the one in storage for certain, since
// whoever writes another forgets the account first, and whether it is being given up.
func (b *backend) standing(a *account) (current, frozen bool) {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	open, ok := b.accounts.Peek(a.name)
	return ok && open == a, b.frozen[a.name]
}

// forgetAccount drops the client of an account whose configuration another node
// has changed.
func (b *backend) forgetAccount(name string) {
	b.accountsLock.Lock()
	defer b.accountsLock.Unlock()
	b.changes++
	b.retire(name)
}

// configuredKeys are the ids of the own keys of all accounts, as stored. Several accounts of
// a mount can be configured for one cloud account: none of them may take another's key for
// what an unfinished request has left.
func (b *backend) configuredKeys(ctx context.Context, s logical.Storage) (map[string]bool, error) {
	configs, err := b.accountConfigs(ctx, s)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, config := range configs {
		for _, id := range config.ownKeys() {
			ids[id] = true
		}
	}
	return ids, nil
}

// isAnother tells that an account is known not to be the cloud account of a key.
func (c *accountConfig) isAnother(accountID string) bool {
	return c.AccountID != "" && c.AccountID != accountID
}

// mustBe refuses to look for a key of another cloud account: it would be found gone.
func (a *account) mustBe(accountID, accessKey string) error {
	switch a.config.AccountID {
	case accountID:
		return nil
	case "":
		return userError("access key %s was made in cloud account %s, and account %q is not identified yet: the cloud has not said whose its "+
			"key is", accessKey, accountID, a.name)
	}
	return userError("access key %s was made in cloud account %s, but account %q is now %s", accessKey, accountID, a.name, a.config.AccountID)
}

// accountOf returns the account of a key, provided that it still is the cloud account that the key was made in.
func (b *backend) accountOf(ctx context.Context, s logical.Storage, name, accountID, accessKey string) (*account, error) {
	a, err := b.identified(ctx, s, name)
	if err != nil {
		return nil, err
	}
	return a, a.mustBe(accountID, accessKey)
}

// verified asks the cloud whose key a configuration holds, and fills that in. former is as in openAfter.
func (b *backend) verified(ctx context.Context, former *account, name string, config *accountConfig) (*account, error) {
	config.AccountID = "" // of the key before: a client that knew it would not ask
	a, err := b.openAfter(former, name, config)
	if err != nil {
		return nil, userError("%s", err)
	}
	if err := b.refusals.refuse(config); err != nil {
		return nil, err
	}
	who, err := a.cloud.WhoAmI(ctx)
	b.refusals.note(config, err)
	if err != nil {
		return nil, explain(name, err)
	}
	return a, config.identify(who)
}

// identify fills in what the cloud says of the key.
func (c *accountConfig) identify(who provider.Whoami) error {
	if err := refuseLabelled(c.AccessKey, who.Key.Label); err != nil {
		return err
	}
	if c.DomainID != "" && c.DomainID != who.AccountID {
		return userError("domain_id is %s, and the access key belongs to the account %s: leave domain_id out, or write a key of that account",
			c.DomainID, who.AccountID)
	}
	c.AccountID, c.Identity = who.AccountID, who.Identity
	c.KeyCreated, c.KeyExpires = who.Key.Created, who.Key.Expires
	return nil
}

// identified returns an account whose cloud account is known. One that was written
// with verify=false is asked for it now: without it no key could ever be believed
// gone.
func (b *backend) identified(ctx context.Context, s logical.Storage, name string) (*account, error) {
	a, err := b.account(ctx, s, name)
	if err != nil || a.config.AccountID != "" {
		return a, err
	}
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if a, err = b.account(ctx, s, name); err != nil {
		return nil, err
	}
	config := *a.config
	who, err := a.cloud.WhoAmI(ctx) // of the client that remembers whether the key was refused
	if err != nil {
		return nil, explain(name, err)
	}
	if err := config.identify(who); err != nil {
		return nil, err
	}
	return b.storeIdentified(ctx, s, a, &config)
}

// storeIdentified keeps what the cloud has said of an account's key. The account's lock is held.
func (b *backend) storeIdentified(ctx context.Context, s logical.Storage, a *account, config *accountConfig) (*account, error) {
	if !b.WriteSafeReplicationState() {
		known, err := b.openAfter(a, a.name, config)
		if err != nil {
			return nil, err
		}
		if !b.rememberAccount(a, known) {
			return nil, changedMeanwhile(a.name)
		}
		return known, nil
	}
	if err := b.storeAccount(ctx, s, a.name, config); err != nil {
		return nil, fmt.Errorf("account %q: what the cloud says of its key cannot be stored: %w", a.name, err)
	}
	return b.account(ctx, s, a.name)
}

// identitySearch is how often an identity is looked for that the key may not find out: the right may have been given meanwhile. A search
// that has users left to ask goes on sooner.
const identitySearch = 24 * time.Hour

// searchIdentity goes on with the search for whose the key of an account is, where the write of it has not found that out.
func (b *backend) searchIdentity(ctx context.Context, s logical.Storage, a *account) error {
	if a.config.Identity.Kind != provider.IdentityUnknown || lifetime.Waits(a.next.identity, time.Now(), identitySearch) {
		return nil
	}
	a.next.identity = time.Now().Add(tickBudget) // cut short, it goes on in the next tick: the rest of this one is other work's
	who, err := a.cloud.WhoAmI(ctx)
	if isCutShort(ctx, err) {
		return nil
	}
	a.next.identity = time.Now().Add(policyRefresh)
	switch {
	case err != nil:
		return fmt.Errorf("account %q: finding out whose its key is: %w", a.name, err)
	case who.Identity.Kind == provider.IdentityUnknown, a.config.isAnother(who.AccountID):
		if !who.Further {
			a.next.identity = time.Now().Add(identitySearch)
		}
		return nil
	}
	ctx, cancel := cleanupContext(ctx) // what was found out at the last moment is not looked for again
	defer cancel()
	unlock, err := b.lock(ctx, configPrefix+a.name)
	if err != nil {
		return err
	}
	defer unlock()
	if current, _ := b.standing(a); !current { // it was written meanwhile, and the next tick asks for what was
		return nil
	}
	config := *a.config
	config.Identity = who.Identity
	_, err = b.storeIdentified(ctx, s, a, &config)
	return err
}
