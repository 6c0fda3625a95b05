// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// policyChanged reads the access policy anew after the cloud refused a request as
// invalid: which codes it uses for a date beyond the policy is not documented.
func (b *backend) policyChanged(ctx context.Context, s logical.Storage, a *account) (bool, error) {
	before, err := storedPolicy(ctx, s, a)
	if err != nil || before.None {
		return false, err
	}
	after, err := b.refreshPolicy(ctx, s, a)
	if err != nil {
		return false, err
	}
	return after.known() && after.Policy != before.Policy, nil
}

// requestedLease is the TTL that a new lease is to have before any maximum cuts it.
func (b *backend) requestedLease(i issuance) time.Duration {
	return b.wantedLease(i.requested, i.role.TTL, i.account.config.TTL)
}

// wantedLease is the first of the TTLs that is set, or the mount's. That one is a call to the server.
func (b *backend) wantedLease(ttls ...time.Duration) time.Duration {
	if ttl := lifetime.FirstSet(ttls...); ttl > 0 {
		return ttl
	}
	return b.System().DefaultLeaseTTL()
}

const (
	policyPrefix = "policy/"

	// policyRefresh is how old the view of an access policy may get. A policy
	// changed meanwhile is noticed when the cloud refuses a date.
	policyRefresh = 5 * time.Minute
)

// policyView is an account's access policy as last seen, in local storage: each
// cluster looks for itself.
type policyView struct {
	Policy  provider.AccessPolicy `json:"policy"`
	ReadAt  time.Time             `json:"read_at"`    // of Policy; zero: never
	TriedAt time.Time             `json:"tried_at"`   // of the last attempt
	Problem string                `json:"problem"`    // why the last attempt failed; empty: it did not
	Account string                `json:"account_id"` // the cloud account that answered

	// None marks a cloud without such a policy. It is never stored.
	None bool `json:"-"`
}

// known tells whether the policy could be read when last tried. One that cannot
// be read is unknown, not absent.
func (v *policyView) known() bool { return v.None || v.Problem == "" && !v.ReadAt.IsZero() }

// unbounded tells that there is a policy, and surely no bound in it.
func (v *policyView) unbounded() bool { return !v.None && v.known() && v.Policy.MaxKeyLifetime == 0 }

// secureMode tells that the account takes trusted keys alone, when its policy was last read.
func (v *policyView) secureMode() bool { return !v.None && v.Policy.SecureMode }

// secureModeNews is what an account in secure mode means, for who reads of it.
const secureModeNews = "the cloud account is in secure mode (RequireTrustedEnvSecureMode), in which it takes only keys that " +
	"were made in Cockpit v2 " +
	"after a multi-factor authentication: it may refuse the calls of every key that an API call has made, as the engine's are"

// limitedBy names a deciding limit, and says when the policy, which might decide
// otherwise, is unknown, or when there is none in this cloud.
func (v *policyView) limitedBy(by lifetime.Limit) string {
	switch {
	case v.None:
		return string(by) + ", policy none"
	case !v.known():
		return string(by) + ", policy unknown"
	default:
		return string(by)
	}
}

// storedPolicy returns the stored view; an empty one where the policy was never
// read.
func storedPolicy(ctx context.Context, s logical.Storage, a *account) (*policyView, error) {
	if !a.endsKeys() {
		return &policyView{None: true}, nil
	}
	return loadOrNew[policyView](ctx, s, policyPrefix+a.name)
}

// accountAndPolicy are an account and its policy as last seen.
func (b *backend) accountAndPolicy(ctx context.Context, s logical.Storage, name string) (*account, *policyView, error) {
	a, err := b.account(ctx, s, name)
	if err != nil {
		return nil, nil, err
	}
	view, err := storedPolicy(ctx, s, a)
	return a, view, err
}

// refreshPolicy asks the cloud and stores what it says. When it cannot be read
// the last bound that was seen stays in force: asking for keys beyond it would only
// have them refused.
func (b *backend) refreshPolicy(ctx context.Context, s logical.Storage, a *account) (*policyView, error) {
	view, err := storedPolicy(ctx, s, a)
	if err != nil || view.None {
		return view, err
	}
	policy, err := a.cloud.AccessPolicy(ctx)
	view.TriedAt = time.Now()
	if err != nil {
		view.Problem = err.Error()
		b.Logger().Warn("access policy cannot be read", "account", a.name, "error", err)
	} else {
		view.Policy, view.ReadAt, view.Problem, view.Account = policy, view.TriedAt, "", a.config.AccountID
	}
	// Also when the time is up: a cloud that hangs is not asked again at once.
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	defer b.policies.drop(policyPrefix + a.name)
	if err := save(ctx, s, policyPrefix+a.name, view); err != nil {
		return nil, err
	}
	return view, nil
}

// currentPolicy returns the stored view, which must not be changed, or asks the cloud
// where nothing was ever stored.
func (b *backend) currentPolicy(ctx context.Context, s logical.Storage, a *account) (*policyView, error) {
	if !a.endsKeys() {
		return &policyView{None: true}, nil
	}
	view, err := b.policies.load(ctx, s, policyPrefix+a.name)
	if err != nil {
		return nil, err
	}
	if view == nil || view.TriedAt.IsZero() || (view.Account != "" && view.Account != a.config.AccountID) {
		return b.refreshPolicy(ctx, s, a)
	}
	return view, nil
}

// bounds gathers what limits a lease of the account, on a mount whose longest lease is given.
func bounds(mount time.Duration, a *account, view *policyView, roleMax time.Duration) lifetime.Bounds {
	return lifetime.Bounds{
		Role: roleMax, Account: a.config.MaxTTL, Mount: mount, Policy: view.Policy.MaxKeyLifetime, Grace: a.config.ExpiryGrace,
	}
}

// boundsOf does so for a lease of a role as it stands now.
func boundsOf(mount time.Duration, a *account, view *policyView, role *roleEntry) lifetime.Bounds {
	limits := bounds(mount, a, view, role.MaxTTL)
	if role.CredentialType == credentialSession {
		limits.Policy, limits.Grace = 0, 0 // a session is no access key, and ends exactly with its lease
		limits.Cloud, limits.Least = clouds.MaxSession, clouds.MinSession
	}
	return limits
}

// longestKeysFor is how long the longest lives of keys are taken for what they were: each look
// reads every role, and a fleet's functions ask for one account after the other.
const longestKeysFor = 10 * time.Second

// longestKeys are, by account, the longest lives of keys that roles, static roles and rotations
// need where no access policy bounds them.
type longestKeys struct {
	mu      sync.Mutex // never held across a storage call
	lives   map[string]time.Duration
	readAt  time.Time
	forever time.Duration // of the mount that they were worked out for
}

// longestKeyOf is that of one account; 0 where nothing of it needs a key.
func (b *backend) longestKeyOf(ctx context.Context, s logical.Storage, a *account) (time.Duration, error) {
	mount := b.System().MaxLeaseTTL()
	b.longest.mu.Lock()
	lives, fresh := b.longest.lives, time.Since(b.longest.readAt).Abs() < longestKeysFor && b.longest.forever == mount
	b.longest.mu.Unlock()
	if !fresh {
		now := time.Now()
		var err error
		if lives, err = b.readLongestKeys(ctx, s, mount); err != nil {
			return 0, err
		}
		b.longest.mu.Lock()
		b.longest.lives, b.longest.readAt, b.longest.forever = lives, now, mount
		b.longest.mu.Unlock()
	}
	return max(lives[a.name], lifetime.EngineKeyNeeds(a.config.RotationPeriod)), nil
}

func (b *backend) readLongestKeys(ctx context.Context, s logical.Storage, mount time.Duration) (map[string]time.Duration, error) {
	configs, err := b.accountConfigs(ctx, s)
	if err != nil {
		return nil, err
	}
	lives := map[string]time.Duration{}
	roles, err := b.leaseRoles(ctx, s, "")
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		config := configs[role.Account]
		if config == nil || role.CredentialType == credentialSession { // a session is no access key
			continue
		}
		limits := lifetime.Bounds{Role: role.MaxTTL, Account: config.MaxTTL, Mount: mount, Grace: config.ExpiryGrace}
		lives[role.Account] = max(lives[role.Account], limits.LongestKey())
	}
	static, err := allStaticRoles(ctx, s)
	if err != nil {
		return nil, err
	}
	for name, role := range static {
		longest, err := role.times().LongestKey(time.Now())
		if err != nil {
			return nil, fmt.Errorf("static role %q: %w", name, err)
		}
		lives[role.Account] = max(lives[role.Account], longest)
	}
	shareLives(lives, configs)
	return lives, nil
}

// shareLives gives accounts that are one in the cloud, and so have one policy, the longest life that any of them needs.
func shareLives(lives map[string]time.Duration, configs map[string]*accountConfig) {
	shared := map[string]time.Duration{}
	for name, config := range configs {
		lives[name] = max(lives[name], lifetime.EngineKeyNeeds(config.RotationPeriod))
		shared[config.AccountID] = max(shared[config.AccountID], lives[name])
	}
	for name, config := range configs {
		if config.AccountID != "" { // else nobody knows yet which one it is
			lives[name] = shared[config.AccountID]
		}
	}
}

// refreshPolicyIfOld reads the policy where its view has grown old.
func (b *backend) refreshPolicyIfOld(ctx context.Context, s logical.Storage, a *account) error {
	if lifetime.Waits(a.next.policy, time.Now(), policyRefresh) {
		return nil
	}
	view, err := storedPolicy(ctx, s, a)
	if err != nil || view.None {
		return err
	}
	if a.next.policy = view.TriedAt.Add(policyRefresh); lifetime.Waits(a.next.policy, time.Now(), policyRefresh) {
		return nil
	}
	if _, err := b.refreshPolicy(ctx, s, a); err != nil {
		return fmt.Errorf("account %q: refreshing the access policy: %w", a.name, err)
	}
	return nil
}

// mountLimitFor is how long the mount's longest TTL is taken for what it was. A mount is tuned rarely,
// and the server itself cuts a lease that is longer than what it has been tuned to.
const mountLimitFor = 5 * time.Second

// mountLimit is the mount's longest TTL, which new leases would else ask the server for each time.
type mountLimit struct {
	mu    sync.Mutex // never held while the server is asked
	max   time.Duration
	until time.Time
}

// maxTTL is zero where the server cannot be asked.
func (m *mountLimit) maxTTL(system logical.SystemView) time.Duration {
	m.mu.Lock()
	longest, fresh := m.max, time.Now().Before(m.until)
	m.mu.Unlock()
	if fresh {
		return longest
	}
	longest = system.MaxLeaseTTL()
	m.mu.Lock()
	defer m.mu.Unlock()
	if longest > 0 {
		m.max, m.until = longest, time.Now().Add(mountLimitFor)
	}
	return longest
}
