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

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	staticRolePrefix  = "static-roles/"
	staticCredsPrefix = "static-creds/"
)

// staticRole is a user whose one key is rotated on time, as it stands in storage.
type staticRole struct {
	Account          string        `json:"account"`
	UserName         string        `json:"user_name"`
	UserID           string        `json:"user_id,omitempty"` // as listed when the role was written
	RotationPeriod   time.Duration `json:"rotation_period"`
	RotationSchedule string        `json:"rotation_schedule"` // cron, UTC; instead of a period
	RotationWindow   time.Duration `json:"rotation_window"`   // how late a scheduled rotation may be; 0: any time
	Grace            time.Duration `json:"rotation_grace_period"`
}

// staticCreds is the state of its key. It is one entry, so that a rotation is stored whole
// or not at all.
type staticCreds struct {
	AccountID    string        `json:"account_id"`
	AccessKey    string        `json:"access_key"`
	SecretKey    string        `json:"secret_key"`
	Label        string        `json:"label,omitempty"`
	Created      time.Time     `json:"created"`
	Expires      time.Time     `json:"expires"`        // zero: the cloud ends it at no date
	Skew         time.Duration `json:"skew,omitempty"` // by which both were moved into this machine's clock
	Previous     []previousKey `json:"previous,omitempty"`
	LastRotation time.Time     `json:"last_rotation"`
	Compared     time.Time     `json:"compared,omitzero"`  // when a comparison has last replaced a key that was gone
	Deleting     bool          `json:"deleting,omitempty"` // a delete of the role has begun with this key
}

// ids are the keys that the entry names.
func (c *staticCreds) ids() []string { return append([]string{c.AccessKey}, idsOf(c.Previous)...) }

// switchedOff says why the current key of a role is, and what to do.
func (c *staticCreds) switchedOff(role string) (finding, remedy string) {
	if c.Deleting {
		return fmt.Sprintf("a delete of static role %q has not ended, and left its access key %s switched off", role, c.AccessKey),
			fmt.Sprintf("delete it again (vault delete static-roles/%s), or give the role another key (vault write -f rotate-role/%s)", role, role)
	}
	return fmt.Sprintf("somebody has switched off access key %s, which static role %q gives out", c.AccessKey, role),
		fmt.Sprintf("replace it (vault write -f rotate-role/%s), or switch it on again in the cloud", role)
}

// times is when the role's key is replaced.
func (r *staticRole) times() lifetime.Static {
	return lifetime.Static{Period: r.RotationPeriod, Schedule: r.RotationSchedule, Window: r.RotationWindow, Grace: r.Grace}
}

// due is when the role's present key is to be replaced.
func (r *staticRole) due(creds *staticCreds, now time.Time) (time.Time, error) {
	return r.times().Due(creds.LastRotation, creds.Created, creds.Expires, now)
}

// longestGrace is for how long a replaced key may have been promised to go on working: a grace that was lowered since
// holds for the keys that are replaced from then on.
func (r *staticRole) longestGrace() time.Duration { return max(r.Grace, 30*24*time.Hour) }

// validate refuses what could not work. before is the stored role, nil for a new one.
func (r *staticRole) validate(before *staticRole) error {
	switch {
	case r.UserName == "":
		return userError("user_name is missing: name the user whose key is to be rotated")
	case before != nil && (before.UserName != r.UserName || before.Account != r.Account):
		return userError("user_name and account of a static role cannot be changed: delete it, and write another")
	}
	return asUserError(r.times().Check(time.Now()))
}

// asPrevious is the current key as one that is being replaced. Its date is the cloud's own again: by that one it ends, and its delete
// sends it along.
func (c *staticCreds) asPrevious(r *staticRole, now time.Time) previousKey {
	return previousKey{
		ID: c.AccessKey, AccountID: c.AccountID, Label: c.Label,
		Identity: provider.Identity{Kind: provider.IdentityUser, User: r.UserName},
		Expires:  byThisClock(c.Expires, -c.Skew), DeleteAfter: now.Add(r.Grace),
	}
}

// allStaticRoles are those of all accounts, by name.
func allStaticRoles(ctx context.Context, s logical.Storage) (map[string]*staticRole, error) {
	return loadAll(ctx, s, staticRolePrefix, func(name string) (*staticRole, error) { return load[staticRole](ctx, s, staticRolePrefix+name) })
}

// staticRolesByAccount are all static roles, by account and name.
func staticRolesByAccount(ctx context.Context, s logical.Storage) (map[string]map[string]*staticRole, error) {
	all, err := allStaticRoles(ctx, s)
	roles := map[string]map[string]*staticRole{}
	for name, role := range all {
		if roles[role.Account] == nil {
			roles[role.Account] = map[string]*staticRole{}
		}
		roles[role.Account][name] = role
	}
	return roles, err
}

// staticRolesOf are the static roles of an account.
func staticRolesOf(ctx context.Context, s logical.Storage, account string) (map[string]*staticRole, error) {
	roles, err := staticRolesByAccount(ctx, s)
	return roles[account], err
}

// loadStatic loads a static role and the state of its key, which is empty before the first; the role is nil where there is none.
func loadStatic(ctx context.Context, s logical.Storage, name string) (*staticRole, *staticCreds, error) {
	role, err := load[staticRole](ctx, s, staticRolePrefix+name)
	if err != nil || role == nil {
		return nil, nil, err
	}
	creds, err := loadOrNew[staticCreds](ctx, s, staticCredsPrefix+name)
	return role, creds, err
}

// writeStaticRole stores the role and, for a new one, makes its first key. A crash between
// the two is made up for by the next tick.
func (b *backend) writeStaticRole(ctx context.Context, s logical.Storage, data *framework.FieldData) (warnings []string, err error) {
	name := data.Get("name").(string)
	if err := refuseField(data, "user_names", "roles/", "user_name"); err != nil {
		return nil, err
	}
	unlock, err := b.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := load[staticRole](ctx, s, staticRolePrefix+name)
	if err != nil {
		return nil, err
	}
	reset, _ := ctx.Value(resetKey{}).([]string)
	role, err := newStaticRole(before, data, slices.Contains(reset, "rotation_grace_period"))
	if err != nil {
		return nil, err
	}
	if err := role.validate(before); err != nil {
		return nil, err
	}
	a, err := b.checkStaticUser(ctx, s, role)
	if err != nil {
		return nil, err
	}
	ids, news := b.pinUsers(ctx, a, []string{role.UserName}, map[string]string{role.UserName: role.UserID})
	role.UserID = ids[role.UserName]
	if err := b.refuseEngineUsers(ctx, s, a, []string{role.UserName}, ids); err != nil {
		return nil, err
	}
	shared, err := b.storeStaticRole(ctx, s, a, name, role)
	if warnings = append(news, shared...); err != nil {
		return warnings, err
	}
	b.static.forget(name)
	if before == nil {
		creds, err := b.rotateStatic(ctx, s, name, role)
		if err != nil {
			return nil, errors.Join(err, b.dropUnlessMade(ctx, s, name))
		}
		b.hastenRotation(s, role, creds)
		return warnings, nil
	}
	creds, err := loadOrNew[staticCreds](ctx, s, staticCredsPrefix+name)
	if err == nil {
		b.hastenRotation(s, role, creds)
	}
	return warnings, err
}

// roleUsersLock is held from the look at whose a user is to the write of a role or static role of it: two that are written
// together would else both find it free. No cloud is called meanwhile.
const roleUsersLock = "role-users"

// storeStaticRole keeps a user in one static role, and looks for roles that lease keys of it.
func (b *backend) storeStaticRole(
	ctx context.Context, s logical.Storage, a *account, name string, role *staticRole,
) (warnings []string, err error) {
	unlock, err := b.lock(ctx, roleUsersLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := b.refuseSecondRole(ctx, s, a, name, role); err != nil {
		return nil, err
	}
	leasing, err := b.leaseRoles(ctx, s, "")
	if err != nil {
		return nil, err
	}
	for _, other := range leasing {
		if !other.shares(a, role) {
			continue
		}
		same, err := b.sameCloudAccount(ctx, s, a, other.Account)
		if err != nil {
			return nil, err
		}
		if same {
			warnings = append(warnings, fmt.Sprintf("role %q leases keys of user %q", other.name, role.UserName))
		}
	}
	if warnings, err = a.sharedSlots(warnings); err != nil {
		return nil, err
	}
	return warnings, save(ctx, s, staticRolePrefix+name, role)
}

// refuseSecondRole keeps a user from having two static roles, by whichever account of the same cloud account: the keys of both
// would take the slots that a rotation of either needs.
func (b *backend) refuseSecondRole(ctx context.Context, s logical.Storage, a *account, name string, role *staticRole) error {
	others, err := allStaticRoles(ctx, s)
	if err != nil {
		return err
	}
	delete(others, name)
	names, err := b.inCloudAccount(ctx, s, a, others, func(other *staticRole) bool { return other.isOf(role.UserName, role.UserID) })
	if err == nil && len(names) > 0 {
		err = userError("user %q belongs to static role %q already", role.UserName, names[0])
	}
	return err
}

// inCloudAccount names those of the static roles that are wanted, and of the same account in the cloud, whatever it is called here.
func (b *backend) inCloudAccount(
	ctx context.Context, s logical.Storage, a *account, roles map[string]*staticRole, wanted func(*staticRole) bool,
) (names []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		if !wanted(roles[name]) {
			continue
		}
		same, err := b.sameCloudAccount(ctx, s, a, roles[name].Account)
		if err != nil {
			return nil, err
		}
		if same {
			names = append(names, name)
		}
	}
	return names, nil
}

// isOf tells whether a static role is of a user, by the ids where both are known: names move.
func (r *staticRole) isOf(user, id string) bool {
	return id != "" && id == r.UserID || user == r.UserName && (id == "" || r.UserID == "")
}

// shares tells whether a role leases keys of a static role's user, where both are of an account's cloud account.
func (r *roleEntry) shares(a *account, static *staticRole) bool {
	return slices.ContainsFunc(r.UserNames, func(user string) bool { return static.isOf(user, r.idsIn(a)[user]) })
}

// checkStaticRoles looks for static roles whose user a role leases keys of.
func (b *backend) checkStaticRoles(ctx context.Context, s logical.Storage, a *account, r *roleEntry) (warnings []string, err error) {
	roles, err := allStaticRoles(ctx, s)
	if err != nil {
		return nil, err
	}
	names, err := b.inCloudAccount(ctx, s, a, roles, func(static *staticRole) bool { return r.shares(a, static) })
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		warnings = append(warnings, fmt.Sprintf("user %q belongs to static role %q", roles[name].UserName, name))
	}
	slices.Sort(warnings)
	return a.sharedSlots(warnings)
}

// sharedSlots warns of users that a role and a static role share. Where a user has two slots, a rotation needs both.
func (a *account) sharedSlots(shared []string) (warnings []string, err error) {
	if len(shared) == 0 {
		return nil, nil
	}
	quota := a.cloud.KeyQuota()
	if shared[0] = strings.Join(shared, "; "); quota <= engineSlots {
		return nil, userError("%s: a user of %s can have %d access keys, and a rotation needs both: give each role users of its own",
			shared[0], a.kind.Title, quota)
	}
	return []string{shared[0] + ": they take each other's slots, so give each a user of its own"}, nil
}

// sameCloudAccount tells whether another configured account is the same one in the cloud.
func (b *backend) sameCloudAccount(ctx context.Context, s logical.Storage, a *account, name string) (bool, error) {
	if name == a.name {
		return true, nil
	}
	config, err := b.accountConfig(ctx, s, name)
	return config != nil && config.AccountID != "" && config.AccountID == a.config.AccountID, err
}

// dropUnlessMade takes back a new role whose first key could not be made. One whose key is
// stored all the same, or may be, is kept: the next tick completes it.
func (b *backend) dropUnlessMade(ctx context.Context, s logical.Storage, name string) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	creds, err := load[staticCreds](ctx, s, staticCredsPrefix+name)
	if err != nil || creds != nil {
		return err
	}
	return remove(ctx, s, staticRolePrefix+name)
}

func newStaticRole(before *staticRole, data *framework.FieldData, defaultGrace bool) (*staticRole, error) {
	role := &staticRole{Account: defaultAccount}
	if before != nil {
		*role = *before
	}
	takeFields(data, role)
	if _, given := data.GetOk("rotation_grace_period"); before == nil && !given {
		defaultGrace = true
	}
	if defaultGrace && (role.RotationPeriod > 0) != (role.RotationSchedule != "") {
		var err error
		if role.Grace, err = role.times().DefaultGrace(time.Now()); err != nil {
			return nil, asUserError(err)
		}
	}
	return role, nil
}

// checkStaticUser keeps a static role away from the engine's own identity, and its rotation within the access policy.
func (b *backend) checkStaticUser(ctx context.Context, s logical.Storage, role *staticRole) (*account, error) {
	a, err := b.identified(ctx, s, role.Account)
	if err != nil {
		return nil, err
	}
	if err := a.kind.CheckUserName("user_name", role.UserName); err != nil {
		return nil, asUserError(err)
	}
	own, err := b.owns(ctx, a, role.UserName)
	if err != nil {
		return nil, err
	}
	if own {
		return nil, userError("user %q owns the engine's own access key: a static role cannot have it", role.UserName)
	}
	view, err := b.currentPolicy(ctx, s, a)
	if err != nil {
		return nil, err
	}
	return a, asUserError(role.times().CheckPolicy(time.Now(), view.Policy.MaxKeyLifetime))
}
