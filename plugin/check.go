// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// checkup is what a check of one account finds. It changes nothing in the cloud.
type checkup struct {
	*backend
	storage  logical.Storage
	account  *account
	instance string
	leasing  []namedRole // the account's roles
	now      time.Time

	who    provider.Whoami
	own    provider.Key // the engine key, as listed
	policy *policyView
	bounds lifetime.Bounds
	counts map[string]keyCount // by user
	skew   time.Duration       // of the cloud's clock before this machine's
	lost   bool                // the cloud does not answer this key: further calls would say no more

	foreign           map[string][]string // ids of keys that this mount knows nothing of, by user
	withoutExpiration []string
	denied            []*provider.Error // calls that the engine key may not make
	findings          []string
	errors            int
}

// failure is a finding that keeps leases from being given, renewed or revoked.
func (c *checkup) failure(what, remedy string) {
	c.errors++
	c.add("error: " + what + ": " + remedy)
}

// warning is a finding that will, or that somebody should know of.
func (c *checkup) warning(what, remedy string) { c.add("warning: " + what + ": " + remedy) }

func (c *checkup) add(finding string) {
	if !slices.Contains(c.findings, finding) {
		c.findings = append(c.findings, finding)
	}
}

// check asks the cloud about everything that a lease of the account needs.
func (b *backend) check(ctx context.Context, s logical.Storage, a *account) (*checkup, error) {
	instance, err := b.instanceID(ctx, s)
	if err != nil {
		return nil, err
	}
	leasing, err := b.leaseRoles(ctx, s, a.name)
	if err != nil {
		return nil, err
	}
	c := &checkup{
		backend: b, storage: s, account: a, instance: instance, leasing: leasing, now: time.Now(),
		counts: map[string]keyCount{}, foreign: map[string][]string{},
	}
	c.checkCaller(ctx)
	if err := c.checkPolicy(ctx); err != nil {
		return nil, err
	}
	c.checkOwnKey(ctx)
	users := c.roleUsers()
	for _, user := range slices.Sorted(maps.Keys(users)) {
		c.checkUser(ctx, user, users[user])
	}
	c.checkRoles(users)
	if err := c.checkStaticRoles(ctx, users); err != nil {
		return nil, err
	}
	if err := c.checkPastDate(ctx); err != nil {
		return nil, err
	}
	c.checkPermissions(ctx)
	c.checkDenied()
	c.checkLimits()
	c.checkClock()
	if withheld := b.lastFound(a.name).withheld(a.name); withheld != "" {
		c.add("warning: " + withheld)
	}
	if len(c.withoutExpiration) > 0 {
		c.warning(fmt.Sprintf("keys not created by this mount never expire: %s", strings.Join(c.withoutExpiration, ", ")),
			"give each an expiration date or delete it, or the account cannot get an access policy greater than 0")
	}
	return c, nil
}

// checkCaller asks who the engine key is.
func (c *checkup) checkCaller(ctx context.Context) {
	who, err := c.account.cloud.WhoAmI(ctx)
	if err != nil {
		c.failed(ctx, err)
		return
	}
	c.who = who
	config := c.account.config
	if config.AccountID != "" && config.AccountID != who.AccountID {
		c.failure(fmt.Sprintf("the engine key is of cloud account %s, and the leases are of %s", who.AccountID, config.AccountID),
			"write a key of the latter to config/"+c.account.name)
	}
	if who.Identity.Kind == provider.IdentityUnknown {
		c.warning("the engine cannot find out which user its key belongs to", c.account.kind.FindsItself)
	}
}

// checkPolicy reads the access policy now; the view that leases are judged by is
// refreshed on the way.
func (c *checkup) checkPolicy(ctx context.Context) (err error) {
	if !c.lost {
		c.policy, err = c.refreshPolicy(ctx, c.storage, c.account)
	}
	if c.outOfTime(ctx) || c.lost {
		c.policy, err = storedPolicy(context.WithoutCancel(ctx), c.storage, c.account)
	}
	if err != nil {
		return err
	}
	c.bounds = bounds(c.System().MaxLeaseTTL(), c.account, c.policy, 0)
	if c.policy.secureMode() {
		c.failure(secureModeNews, fmt.Sprintf("the engine does not rotate its own key, which %s. Before that, write one that was "+
			"made in Cockpit to config/%s; leases need RequireTrustedEnvSecureMode switched off", c.account.config.keyEnds(),
			c.account.name))
	}
	switch longest, by := c.bounds.MaxLease(); {
	case c.lost:
	case !c.policy.known():
		c.warning("the account's access policy is unknown ("+c.policy.Problem+")", "permit the call ReadApiAccessPolicy to the engine's user, "+
			"or leases may ask for more than the policy allows")
	case c.policy.None && c.account.config.MaxTTL == 0:
		c.warning(c.account.kind.Title+" sets no limit to the life of access keys, and ends none by itself",
			"set max_ttl in config/"+c.account.name+", which bounds every lease of the account")
	case c.policy.None:
	case c.policy.Policy.MaxKeyLifetime == 0:
		c.warning("the account's access policy sets no longest life for access keys",
			"set MaxAccessKeyExpirationSeconds in the cloud account, so that every key must have an expiration date")
	case longest < lifetime.MinMaxLease && by == lifetime.LimitPolicy:
		least := lifetime.KeyLife(lifetime.MinMaxLease, c.bounds.Grace)
		c.failure(fmt.Sprintf("the access policy lets a key live %s, which leaves no useful lease", c.bounds.Policy),
			fmt.Sprintf("raise MaxAccessKeyExpirationSeconds to %d at least, or lower expiry_grace in config/%s", seconds(least), c.account.name))
	}
	return nil
}

// outOfTime tells whether no more calls can be made, and says so once.
func (c *checkup) outOfTime(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	if !c.lost {
		c.lost = true
		c.failure("the check did not end in time, and not everything was looked at",
			"try again when the cloud is faster, or raise max_requests_per_second in config/"+c.account.name)
	}
	return true
}

// failed turns a call that went wrong into a finding.
func (c *checkup) failed(ctx context.Context, err error) {
	if c.outOfTime(ctx) {
		return
	}
	var refused *provider.Error
	if !errors.As(err, &refused) {
		c.failure("the check is incomplete: "+err.Error(), "check the account's endpoint and the cloud's state, and try again")
		return
	}
	name := c.account.name
	switch kind := refused.Kind; {
	case kind == provider.KindDenied:
		if !slices.ContainsFunc(c.denied, func(other *provider.Error) bool { return other.Op == refused.Op }) {
			c.denied = append(c.denied, refused)
		}
	case kind == provider.KindKeyRefused, kind == provider.KindKeyUnclear:
		c.lost = true
		c.failure("the cloud does not accept the engine key ("+err.Error()+")",
			"check that it exists, is active, has not expired and is of the configured region, then write a working one to config/"+name)
	case kind == provider.KindLockedOut:
		c.lost = true
		c.failure("somebody's refused keys have locked the account's API, which is no news of the engine key ("+err.Error()+")",
			"find what uses a deleted or expired key; the engine tries again by itself when the lock is over")
	case kind == provider.KindClockWrong:
		c.lost = true
		c.failure("the cloud finds the time of the requests wrong ("+err.Error()+")", "set the clock of Vault's machine by NTP; the "+
			"engine then goes on by itself")
	case kind == provider.KindUnreachable && refused.Status == 0: // with one, it answers
		c.lost = true
		c.failure("the cloud cannot be reached ("+err.Error()+")", "check endpoint and certificates in config/"+name+", and the network")
	case kind == provider.KindThrottled:
		c.failure("the cloud throttles the account ("+err.Error()+")",
			"lower max_requests_per_second in config/"+name+", or what else calls the cloud with the account's keys")
	default:
		c.failure("a call failed ("+err.Error()+")", "try again, and ask the cloud's support with the request id if it lasts")
	}
}

// checkDenied is one finding for all calls that the engine key may not make: whoever gives rights one
// at a time needs a day for five of them.
func (c *checkup) checkDenied() {
	if len(c.denied) == 0 {
		return
	}
	var calls, rights []string
	for _, refused := range c.denied {
		calls = append(calls, refused.Op)
		rights = append(rights, c.account.kind.Permission(refused.Op))
	}
	c.failure(fmt.Sprintf("permission missing: the engine key may not call %s (%s)", strings.Join(calls, ", "), c.denied[0]),
		fmt.Sprintf("permit %s to its user (%s has all that is needed), or check the account's API access rules",
			strings.Join(rights, ", "), c.account.kind.PolicyFiles))
}

// checkLimits finds the limits under which no lease is possible: the account's and the mount's, and each role's.
func (c *checkup) checkLimits() {
	if err := c.bounds.CheckUsable(); err != nil {
		if _, by := c.bounds.MaxLease(); by != lifetime.LimitPolicy { // that one has its own finding
			c.failure("no role of the account can lease", err.Error())
		}
		return
	}
	for _, role := range c.leasing {
		if err := boundsOf(c.System().MaxLeaseTTL(), c.account, c.policy, role.roleEntry).CheckUsable(); err != nil {
			c.failure(fmt.Sprintf("role %q cannot lease", role.name), err.Error())
		}
	}
}

// identityName names an identity in a sentence.
func identityName(user string) string {
	if user == "" {
		return "the engine's own identity"
	}
	return fmt.Sprintf("user %q", user)
}

// roleUsers maps the users whose keys the account's roles lease to the roles; the engine's
// own identity is the empty user. Roles that make users, or sessions, take no slot of one.
func (c *checkup) roleUsers() map[string][]string {
	users := map[string][]string{}
	for _, role := range c.leasing {
		if role.CredentialType != credentialAccessKey {
			continue
		}
		if len(role.UserNames) == 0 {
			users[""] = append(users[""], role.name)
		}
		for _, user := range role.UserNames {
			users[user] = append(users[user], role.name)
		}
	}
	return users
}

// checkPermissions asks whether the engine key may make the calls that the account's
// roles need, where the cloud tells that without making them.
func (c *checkup) checkPermissions(ctx context.Context) {
	prober, ok := c.account.cloud.(provider.PermissionProber)
	if !ok || c.lost || c.outOfTime(ctx) {
		return
	}
	for _, problem := range prober.ProbePermissions(ctx, c.uses()...) {
		c.failed(ctx, problem)
	}
}

// uses is what the account's roles need its key for.
func (c *checkup) uses() []provider.Use {
	needed := map[provider.Use]bool{provider.UseKeys: true}
	for _, role := range c.leasing {
		if role.CredentialType != credentialIAMUser {
			continue
		}
		needed[provider.UseUsers] = true
		needed[provider.UseInlinePolicies] = needed[provider.UseInlinePolicies] || role.PolicyDocument != ""
		needed[provider.UseManagedPolicies] = needed[provider.UseManagedPolicies] || len(role.PolicyORNs) > 0
		needed[provider.UseGroups] = needed[provider.UseGroups] || len(role.Groups) > 0
	}
	return slices.DeleteFunc([]provider.Use{
		provider.UseKeys, provider.UseUsers, provider.UseInlinePolicies, provider.UseManagedPolicies, provider.UseGroups,
	}, func(use provider.Use) bool { return !needed[use] })
}

// checkClock compares the clocks by the answers that came so far.
func (c *checkup) checkClock() {
	skew, _ := c.account.measuredSkew()
	c.skew = skew
	switch {
	case skew.Abs() > transport.MaxSkew:
		c.failure(sayClock(skew), "set it by NTP: the cloud takes no signature that is more than "+transport.MaxSkew.String()+" off")
	case skew.Abs() > tellSkew:
		c.warning(sayClock(skew)+", for which the dates of keys allow", "set it by NTP: signatures are refused "+
			"from "+transport.MaxSkew.String()+" on")
	}
}
