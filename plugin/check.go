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

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// checkup is what a check of one account finds. It changes nothing in the cloud.
type checkup struct {
	account  *account
	instance string
	learn    func(user string, foreign int) // keeps what its lists show
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

// keyCount is how an identity's slots are used.
type keyCount struct {
	ours, others, quota int
	engine              bool // the engine key is one of them, and neither of ours nor another's
}

func (c keyCount) free() int { return c.quota - c.used() }

func (c keyCount) used() int {
	if c.engine {
		return c.ours + c.others + 1
	}
	return c.ours + c.others
}

func (c keyCount) String() string {
	engine := ""
	if c.engine {
		engine = "the engine key, "
	}
	return fmt.Sprintf("%d of %d (%s%d issued by this mount, %d others)", c.used(), c.quota, engine, c.ours, c.others)
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
	users, err := roleUsers(ctx, s, a.name)
	if err != nil {
		return nil, err
	}
	c := &checkup{account: a, instance: instance, now: time.Now(), counts: map[string]keyCount{}, foreign: map[string][]string{}}
	c.learn = func(user string, foreign int) { b.full.learn(a.name, user, foreign) }
	c.checkCaller(ctx)
	if err := b.checkPolicy(ctx, s, c); err != nil {
		return nil, err
	}
	c.checkOwnKey(ctx)
	for _, user := range slices.Sorted(maps.Keys(users)) {
		c.checkUser(ctx, user, users[user])
	}
	c.checkRoles(users)
	if err := c.checkStaticRoles(ctx, s, users); err != nil {
		return nil, err
	}
	if err := c.checkPastDate(ctx, s, b.ledger); err != nil {
		return nil, err
	}
	if err := c.checkPermissions(ctx, s); err != nil {
		return nil, err
	}
	c.checkDenied()
	if err := b.checkLimits(ctx, s, c); err != nil {
		return nil, err
	}
	c.checkClock()
	if len(c.withoutExpiration) > 0 {
		c.warning(fmt.Sprintf("access keys without a date that this mount did not issue: %s", strings.Join(c.withoutExpiration, ", ")),
			"give each a date or delete it, or the account cannot get an access policy greater than 0")
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
func (b *backend) checkPolicy(ctx context.Context, s logical.Storage, c *checkup) (err error) {
	if !c.lost {
		c.policy, err = b.refreshPolicy(ctx, s, c.account)
	}
	if c.outOfTime(ctx) || c.lost {
		c.policy, err = storedPolicy(context.WithoutCancel(ctx), s, c.account)
	}
	if err != nil {
		return err
	}
	c.bounds = b.bounds(c.account, c.policy, 0)
	if c.policy.secureMode() {
		c.failure(
			secureModeNews,
			fmt.Sprintf("the engine does not rotate its own key, which %s. Before that, write one that was made in Cockpit to config/%s; "+
				"leases need RequireTrustedEnvSecureMode switched off", c.account.config.keyEnds(), c.account.name),
		)
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
			"set MaxAccessKeyExpirationSeconds in the cloud account, so that every key must have a date")
	case longest < lifetime.MinMaxLease && by == lifetime.LimitPolicy:
		least := lifetime.MinMaxLease + c.bounds.Grace + lifetime.ClockMargin
		c.failure(fmt.Sprintf("the access policy lets a key live %s, which leaves no useful lease", c.bounds.Policy),
			fmt.Sprintf("raise MaxAccessKeyExpirationSeconds to %d at least, or lower expiry_grace in config/%s", seconds(least), c.account.name))
	}
	return nil
}

// checkOwnKey looks at the key that signs the calls, and at its neighbours. It warns
// when a third of the key's life is left: a fixed time would be wrong both for keys of
// an hour and for keys of a year. One that is inactive or past its date cannot ask.
func (c *checkup) checkOwnKey(ctx context.Context) {
	c.checkUser(ctx, "", nil)
	c.checkOwnSlots()
	switch left := c.own.Expires.Sub(c.account.cloudNow()); {
	case c.own.ID == "": // not listed; checkCaller has said why
	case c.own.Expires.IsZero() && !c.account.endsKeys():
		if c.account.config.RotationPeriod == 0 {
			c.warning(
				fmt.Sprintf("the engine key %s has no end, and is never replaced by itself", c.own.ID),
				"set rotation_period in config/"+c.account.name,
			)
		}
	case c.own.Expires.IsZero():
		c.warning(fmt.Sprintf("the engine key %s has no date", c.own.ID),
			"write a key with a date to config/"+c.account.name+", or the account cannot get an access policy greater than 0")
	case left < c.own.Expires.Sub(c.own.Created)/3:
		c.warning(fmt.Sprintf("the engine key %s expires at %s, in %s", c.own.ID, showTime(c.own.Expires), left.Round(time.Second)),
			"write a new one to config/"+c.account.name+" before, or every lease fails")
	}
}

// checkUser counts an identity's keys. roles are those that lease its keys.
func (c *checkup) checkUser(ctx context.Context, user string, roles []string) {
	if _, counted := c.counts[user]; counted || c.lost || c.outOfTime(ctx) {
		return
	}
	keys, err := c.account.cloud.ListKeys(ctx, user)
	if provider.KindOf(err) == provider.KindNotFound && user != "" {
		c.failure(fmt.Sprintf("user %q of role %s does not exist in the cloud account", user, strings.Join(roles, ", ")),
			"create it, or take it out of user_names")
		return
	}
	if err != nil {
		c.failed(ctx, err)
		return
	}
	count := keyCount{quota: c.account.cloud.KeyQuota()}
	for _, key := range keys {
		if key.ID == c.account.config.AccessKey {
			c.own = key
		}
		switch {
		case isOurs(key, c.instance):
			count.ours++
			continue
		case key.ID == c.account.config.AccessKey:
			count.engine = true
			continue
		}
		count.others++
		c.noteForeign(user, key)
	}
	c.counts[user] = count
	c.learn(user, count.used()-count.ours)
	c.checkSlots(user, count)
}

// noteForeign remembers a key that this mount did not make, and does not use.
func (c *checkup) noteForeign(user string, key provider.Key) {
	if slices.Contains(c.account.config.ownKeys(), key.ID) {
		return
	}
	c.foreign[user] = append(c.foreign[user], key.ID)
	if key.Expires.IsZero() && c.account.endsKeys() {
		c.withoutExpiration = append(c.withoutExpiration, fmt.Sprintf("%s (%s)", key.ID, identityName(key.User)))
	}
}

// checkRoles finds the roles that no user has a slot for.
func (c *checkup) checkRoles(users map[string][]string) {
	free := map[string]int{}
	for user, roles := range users {
		count, counted := c.counts[user]
		for _, role := range roles {
			switch {
			case counted && user == "":
				free[role] += max(0, count.free()-reservedSlots+1) // the engine's current key is counted already
			case counted:
				free[role] += max(0, count.free())
			default:
				free[role]++ // nothing is known of this user's slots, or it has its own finding
			}
		}
	}
	for _, role := range slices.Sorted(maps.Keys(free)) {
		if free[role] == 0 {
			c.failure(fmt.Sprintf("role %q cannot lease: no user of it has a free slot for an access key", role),
				fmt.Sprintf("delete keys that nobody uses, revoke leases, or add users to roles/%s", role))
		}
	}
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
		c.failure(
			"the cloud finds the time of the requests wrong ("+err.Error()+")",
			"set the clock of Vault's machine by NTP; the engine then goes on by itself",
		)
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
	c.failure(
		fmt.Sprintf("permission missing: the engine key may not call %s (%s)", strings.Join(calls, ", "), c.denied[0]),
		fmt.Sprintf(
			"permit %s to its user (%s has all that is needed), or check the account's API access rules",
			strings.Join(rights, ", "),
			c.account.kind.PolicyFiles,
		),
	)
}

// checkLimits finds the limits under which no lease is possible: the account's and the mount's, and each role's.
func (b *backend) checkLimits(ctx context.Context, s logical.Storage, c *checkup) error {
	if c.policy == nil {
		return nil
	}
	if err := c.bounds.CheckUsable(); err != nil {
		if _, by := c.bounds.MaxLease(); by != lifetime.LimitPolicy { // that one has its own finding
			c.failure("no role of the account can lease", err.Error())
		}
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	names, err := s.List(ctx, rolePrefix)
	if err != nil {
		return fmt.Errorf("listing roles: %w", err)
	}
	for _, name := range names {
		role, err := b.roles.load(ctx, s, rolePrefix+name)
		if err != nil {
			return err
		}
		if role == nil || role.Account != c.account.name {
			continue
		}
		if err := b.boundsOf(c.account, c.policy, role).CheckUsable(); err != nil {
			c.failure(fmt.Sprintf("role %q cannot lease", name), err.Error())
		}
	}
	return nil
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
func roleUsers(ctx context.Context, s logical.Storage, account string) (map[string][]string, error) {
	names, err := s.List(ctx, rolePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing roles: %w", err)
	}
	users := map[string][]string{}
	for _, name := range names {
		role, err := load[roleEntry](ctx, s, rolePrefix+name)
		if err != nil {
			return nil, err
		}
		if role == nil || role.Account != account || role.CredentialType != credentialAccessKey {
			continue
		}
		if len(role.UserNames) == 0 {
			users[""] = append(users[""], name)
		}
		for _, user := range role.UserNames {
			users[user] = append(users[user], name)
		}
	}
	return users, nil
}

const (
	// nearlyFull is how many free slots of an identity are few enough to warn of, where it
	// has many.
	nearlyFull = 2

	// fewSlots is a quota at which a full identity is nothing to warn of: a pool spreads its
	// leases over users that are full in turn (Huawei Cloud gives each of them two slots).
	fewSlots = 2 * nearlyFull
)

// checkSlots warns of an identity whose slots run out, or, where it has few of them, of one
// that has keys which this mount did not make.
func (c *checkup) checkSlots(user string, count keyCount) {
	foreign := c.foreign[user]
	switch {
	case count.quota > fewSlots:
		if count.free() <= nearlyFull {
			c.warning(fmt.Sprintf("%s has %s access keys", identityName(user), count),
				"delete keys that nobody uses, revoke leases, or spread them over more user_names; an identity can have "+fmt.Sprint(count.quota))
		}
	case user != "" && len(foreign) > 0:
		c.warning(
			fmt.Sprintf(
				"%s has %s access keys, and those that this mount did not issue%s take slots from its leases",
				identityName(user),
				count,
				inBrackets(foreign),
			),
			"delete keys that nobody uses, or name other users in user_names",
		)
	}
}

// checkOwnSlots looks whether the engine's next key has a slot. Without one a key that ends
// locks the engine out; one that does not end just grows old.
func (c *checkup) checkOwnSlots() {
	count, counted := c.counts[""]
	if !counted || count.free() > 0 || len(c.foreign[""]) == 0 {
		return
	}
	report := c.warning
	if !c.own.Expires.IsZero() {
		report = c.failure
	}
	report(fmt.Sprintf("the engine key cannot be rotated, since keys that this mount did not make%s take the slots of its identity: %s",
		inBrackets(c.foreign[""]), count), "delete one that nobody uses")
}

// checkStaticRoles finds the static roles whose next key has no slot. Their own previous key
// makes room, other keys do not.
func (c *checkup) checkStaticRoles(ctx context.Context, s logical.Storage, leased map[string][]string) error {
	stored := context.WithoutCancel(ctx) // what storage says is told also where the time is up
	roles, err := staticRolesOf(stored, s, c.account.name)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		creds, err := load[staticCreds](stored, s, staticCredsPrefix+name)
		if err != nil {
			return err
		}
		if also := leased[roles[name].UserName]; len(also) > 0 {
			c.warning(
				fmt.Sprintf(
					"%s belongs to static role %q, and role %s leases keys of it",
					identityName(roles[name].UserName),
					name,
					strings.Join(also, ", "),
				),
				"give each a user of its own: they take each other's slots",
			)
		}
		if creds == nil || c.lost || c.outOfTime(ctx) {
			continue
		}
		if err := c.checkStaticUser(ctx, name, roles[name].UserName, creds); err != nil {
			c.failed(ctx, err)
		}
	}
	return nil
}

func (c *checkup) checkStaticUser(ctx context.Context, role, user string, creds *staticCreds) error {
	keys, err := c.account.cloud.ListKeys(ctx, user)
	if provider.KindOf(err) == provider.KindNotFound {
		c.failure(
			fmt.Sprintf("%s of static role %q does not exist in the cloud account", identityName(user), role),
			"create it, or delete the static role",
		)
		return nil
	}
	if err != nil {
		return err
	}
	var others []string
	there, active := false, false
	for _, key := range keys {
		if !slices.Contains(creds.ids(), key.ID) {
			others = append(others, key.ID)
		}
		if key.ID == creds.AccessKey {
			there, active = true, key.Active
		}
	}
	switch {
	case creds.AccessKey == "" || !creds.Expires.IsZero() && c.now.After(creds.Expires): // its rotation says what is wrong
	case !there:
		c.failure(
			fmt.Sprintf("static role %q gives out access key %s, which the cloud does not list for %s", role, creds.AccessKey, identityName(user)),
			"vault write -f rotate-role/"+role,
		)
	case !active:
		c.failure(fmt.Sprintf("somebody has switched off access key %s, which static role %q gives out", creds.AccessKey, role),
			"replace it (vault write -f rotate-role/"+role+"), or switch it on again in the cloud")
	}
	if quota := c.account.cloud.KeyQuota(); len(others)+2 > quota {
		c.failure(fmt.Sprintf("static role %q cannot be rotated: %s has %d other access keys%s, and its key and the next one need 2 of %d slots",
			role, identityName(user), len(others), inBrackets(others), quota), "delete those that nobody uses")
	}
	return nil
}

// checkPastDate finds leased keys that are past their date and still work, since the cloud
// ends none by itself and the engine could not delete them.
func (c *checkup) checkPastDate(ctx context.Context, s logical.Storage, index *ledger.Ledger) error {
	if err := index.Load(context.WithoutCancel(ctx), s, c.account.name); err != nil {
		return err
	}
	now := time.Now()
	for _, item := range index.Select(c.account.name, func(i *ledger.Item) bool { return i.Problem != "" || i.Unreadable != "" }) {
		switch {
		case item.Unreadable != "":
			c.warning(item.Unreadable, "its key counts as in use until then")
		case item.Leased() && !item.Unfinished() && now.After(item.Expires.Add(lifetime.ClockMargin)) && !c.account.isDead(item.Expires):
			c.failure(fmt.Sprintf("access key %s of %s should have ended at %s and still works, since it cannot be removed (%s)",
				item.AccessKey, identityName(item.User), showTime(item.Expires), item.Problem), "fix that, or delete the key in the cloud's console")
		}
	}
	return nil
}

// checkPermissions asks whether the engine key may make the calls that the account's
// roles need, where the cloud tells that without making them.
func (c *checkup) checkPermissions(ctx context.Context, s logical.Storage) error {
	prober, ok := c.account.cloud.(provider.PermissionProber)
	if !ok || c.lost || c.outOfTime(ctx) {
		return nil
	}
	uses, err := usesOf(ctx, s, c.account.name)
	if err != nil {
		return err
	}
	for _, problem := range prober.ProbePermissions(ctx, uses...) {
		c.failed(ctx, problem)
	}
	return nil
}

// usesOf is what the roles of an account need its key for.
func usesOf(ctx context.Context, s logical.Storage, account string) ([]provider.Use, error) {
	names, err := s.List(ctx, rolePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing roles: %w", err)
	}
	needed := map[provider.Use]bool{provider.UseKeys: true}
	for _, name := range names {
		role, err := load[roleEntry](ctx, s, rolePrefix+name)
		if err != nil {
			return nil, err
		}
		if role == nil || role.Account != account || role.CredentialType != credentialIAMUser {
			continue
		}
		needed[provider.UseUsers] = true
		needed[provider.UseInlinePolicies] = needed[provider.UseInlinePolicies] || role.PolicyDocument != ""
		needed[provider.UseManagedPolicies] = needed[provider.UseManagedPolicies] || len(role.PolicyORNs) > 0
		needed[provider.UseGroups] = needed[provider.UseGroups] || len(role.Groups) > 0
	}
	var uses []provider.Use
	for _, use := range []provider.Use{
		provider.UseKeys, provider.UseUsers, provider.UseInlinePolicies, provider.UseManagedPolicies, provider.UseGroups,
	} {
		if needed[use] {
			uses = append(uses, use)
		}
	}
	return uses, nil
}

// checkClock compares the clocks by the answers that came so far.
func (c *checkup) checkClock() {
	skew, _ := c.account.measuredSkew()
	c.skew = skew
	switch {
	case skew.Abs() > transport.MaxSkew:
		c.failure(sayClock(skew), "set it by NTP: the cloud takes no signature that is more than "+transport.MaxSkew.String()+" off")
	case skew.Abs() > tellSkew:
		c.warning(
			sayClock(skew)+", for which the dates of keys allow",
			"set it by NTP: signatures are refused from "+transport.MaxSkew.String()+" on",
		)
	}
}
