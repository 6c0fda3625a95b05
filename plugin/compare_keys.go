// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// What a comparison does about keys that it finds otherwise than their records say: those of static roles, and those that
// their holders have changed.

// rolesOf are the static roles of a user, those of other accounts which are the same one in the cloud as well.
func (c *comparer) rolesOf(ctx context.Context, a *account, user string) (names []string, err error) {
	id := a.users.idOf(user)
	return c.inCloudAccount(ctx, c.storage, a, c.statics, func(role *staticRole) bool { return role.isOf(user, id) })
}

// ownRolesOf are those of them that are this account's.
func (c *comparer) ownRolesOf(ctx context.Context, a *account, user string) ([]string, error) {
	names, err := c.rolesOf(ctx, a, user)
	return slices.DeleteFunc(names, func(name string) bool { return c.statics[name].Account != c.name }), err
}

// lookAtStatic looks for the keys of a user's static roles in the list of its keys, which is nil where the
// cloud has no such user: then the next rotation says so. off are those that are switched off, which
// are left as they are.
func (c *comparer) lookAtStatic(
	ctx context.Context, a *account, user string, keys []provider.Key,
) (gone map[string]string, off []string, err error) {
	if keys == nil || !c.WriteSafeReplicationState() {
		return nil, nil, nil
	}
	names, err := c.ownRolesOf(ctx, a, user)
	gone = map[string]string{}
	for _, name := range names {
		role, creds, err := loadStatic(ctx, c.storage, name)
		if err != nil || role == nil || creds.AccessKey == "" {
			return nil, nil, err
		}
		at := slices.IndexFunc(keys, func(key provider.Key) bool { return key.ID == creds.AccessKey })
		switch {
		case at >= 0 && !keys[at].Active:
			finding, remedy := creds.switchedOff(name)
			off = append(off, finding+": "+remedy)
			c.Logger().Warn(finding+": "+remedy, "account", a.name)
			if !creds.Deleting {
				c.send(ctx, event{operation: eventStaticOff, name: name, path: staticCredsPrefix + name})
			}
		case (at < 0 || a.hasEnded(keys[at])) && !lifetime.Waits(creds.LastRotation.Add(staticKeyAge), time.Now(), staticKeyAge):
			is, err := c.isGone(ctx, a, role, creds)
			if err != nil {
				return nil, nil, err
			}
			if is && c.mayReplace(name, creds) {
				gone[name] = creds.AccessKey
			}
		}
	}
	return gone, off, err
}

// isGone tells whether a static role's key is proven to be gone, or has ended: somebody may have moved its date.
func (c *comparer) isGone(ctx context.Context, a *account, role *staticRole, creds *staticCreds) (bool, error) {
	if err := a.mustBe(creds.AccountID, creds.AccessKey); err != nil {
		return false, err
	}
	ref, err := c.refOf(ctx, c.storage, a, creds.asPrevious(role, time.Time{}), role.UserName)
	if err != nil {
		return false, err
	}
	key, found, err := a.cloud.FindKey(ctx, ref)
	return err == nil && (!found || a.hasEnded(key)), err
}

// mayReplace tells that no comparison has replaced the role's key within a day: what takes it each time is
// not met by ever more keys.
func (c *comparer) mayReplace(name string, creds *staticCreds) bool {
	again := creds.Compared.Add(reconcilePeriod)
	waits := lifetime.Waits(again, time.Now(), reconcilePeriod)
	c.note(func(r *tidyReport) {
		line := fmt.Sprintf("access key %s of static role %q", creds.AccessKey, name)
		if waits {
			line += fmt.Sprintf(": a comparison has replaced one already, and does not again before %s: vault write -f rotate-role/%s",
				showTime(again), name)
		}
		r.Gone.add(line)
	})
	return !waits
}

// replaceGone is step (3) for one role. What is in the way of a new key is an orphan of the role's own, of a
// storage that was restored since: the oldest makes room.
func (c *comparer) replaceGone(ctx context.Context, a *account, name, lost string) error {
	unlock, err := c.lock(ctx, staticRolePrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	role, creds, err := loadStatic(ctx, c.storage, name)
	if err != nil || role == nil || creds.AccessKey != lost {
		return err
	}
	if gone, err := c.isGone(ctx, a, role, creds); err != nil || !gone {
		return err
	}
	if err := c.makeRoom(ctx, a, role.UserName); err != nil {
		return err
	}
	if creds, err = c.rotateStatic(ctx, c.storage, name, role); err != nil {
		return fmt.Errorf("static role %q, whose access key %s is gone: %w", name, lost, err)
	}
	c.note(func(r *tidyReport) {
		r.Rotated.add(fmt.Sprintf("static role %q: access key %s in place of %s", name, creds.AccessKey, lost))
	})
	creds.Compared = time.Now()
	return save(ctx, c.storage, staticCredsPrefix+name, creds)
}

func (c *comparer) makeRoom(ctx context.Context, a *account, user string) error {
	keys, orphans, err := c.findOrphans(ctx, c.storage, a, user)
	if err != nil || len(keys) < a.cloud.KeyQuota() {
		return err
	}
	slices.SortFunc(orphans, func(x, y provider.Key) int { return x.Created.Compare(y.Created) })
	for _, orphan := range orphans {
		if label, err := keylabel.Parse(orphan.Label); err == nil && label.Kind == keylabel.KindStatic {
			return c.removed(&comparison{}, orphan.ID, c.removeOrphan(ctx, c.storage, a, orphan))
		}
	}
	return nil // the rotation says whose keys are in the way
}

// deletable are the orphans that may be deleted. While a static role of their user has no key in the cloud, any of
// them may be in use, after a snapshot was restored; where it has, a key of its kind may be for the grace of a rotation,
// counted from when it was first found.
func (c *comparer) deletable(
	ctx context.Context, a *account, at *comparison, user string, keys, orphans []provider.Key,
) (free []provider.Key, kept []string, err error) {
	names, err := c.rolesOf(ctx, a, user)
	if err != nil {
		return nil, nil, err
	}
	free = orphans
	for _, name := range names {
		role, creds, err := loadStatic(ctx, c.storage, name)
		if err != nil {
			return nil, nil, err
		}
		if role == nil {
			continue
		}
		has := slices.ContainsFunc(keys, func(key provider.Key) bool { return key.ID == creds.AccessKey })
		free = slices.DeleteFunc(slices.Clone(free), func(orphan provider.Key) bool {
			if !has {
				kept = append(kept, fmt.Sprintf("access key %s: it may be in use as long as static role %q has no key in the cloud", orphan.ID, name))
				return true
			}
			if label, err := keylabel.Parse(orphan.Label); err != nil || label.Kind != keylabel.KindStatic {
				return false
			}
			until := at.firstFound(orphan.ID).Add(role.Grace)
			waits := lifetime.Waits(until, time.Now(), role.longestGrace())
			if waits {
				kept = append(kept, fmt.Sprintf("access key %s: it may be in use until %s, a grace of static role %q", orphan.ID,
					showTime(until), name))
			}
			return waits
		})
	}
	return free, kept, nil
}

func (at *comparison) firstFound(orphan string) time.Time {
	if _, known := at.Kept[orphan]; !known {
		if at.Kept == nil {
			at.Kept = map[string]time.Time{}
		}
		at.Kept[orphan] = time.Now()
	}
	return at.Kept[orphan]
}

// setRight writes label and date on the keys that somebody has written others on: their holder, whose rights may
// allow it. A date that is later than its record's, or cleared, would let a key live on that the engine has lost.
func (c *comparer) setRight(ctx context.Context, a *account, keys []provider.Key) error {
	listed := map[string]provider.Key{}
	for _, key := range keys {
		listed[key.ID] = key
	}
	changed := c.ledger.Select(a.name, func(item *ledger.Item) bool {
		key, there := listed[item.AccessKey]
		return there && !item.Unfinished() && item.Kind != keylabel.KindRoot && changedBy(key, item.Label, item.Expires) != ""
	})
	var problems []error
	for _, item := range changed {
		problems = append(problems, c.setRightKey(ctx, a, item, listed[item.AccessKey]))
	}
	return errors.Join(problems...)
}

// changedBy says what of a key is not as its record has it; empty: nothing that matters. One that is just being
// handed over has its label for that.
func changedBy(key provider.Key, label string, expires time.Time) string {
	switch {
	case key.Label == keylabel.HandedOver(label):
		return ""
	case key.Label != label:
		return fmt.Sprintf("label is %q", key.Label)
	case expires.IsZero() || !key.End().IsZero() && !key.End().After(expires.Add(lifetime.ClockMargin)):
		return ""
	case key.End().IsZero():
		return "expiration date was cleared"
	default:
		return "expiration date is " + showTime(key.End())
	}
}

// setRightKey sets one key right. The list came first, and the record is read after it: a renewal writes the record
// before the key. One that comes between is seen by the record, and its date is sent again. What ends within the minute
// is left to its end.
func (c *comparer) setRightKey(ctx context.Context, a *account, item ledger.Item, key provider.Key) error {
	cloud, ok := a.cloud.(provider.Relabeler)
	if !ok {
		return nil
	}
	unlock, err := c.lockNamer(ctx, item)
	if err != nil {
		return err
	}
	defer unlock()
	var sent *time.Time
	for what := ""; ; {
		e, err := ledger.Read(ctx, c.storage, item.Account, item.Label)
		if err != nil || e == nil || e.State != ledger.Made || e.AccessKey != key.ID {
			return err
		}
		if sent == nil {
			what = changedBy(key, e.Label, e.Expires)
		}
		switch {
		case sent != nil && sent.Equal(e.Expires), c.dryRun && what != "":
			c.saySetRight(ctx, a, key, item.Role, what)
			return nil
		case what == "", !e.Expires.IsZero() && e.Expires.Before(a.cloudNow().Add(time.Minute)):
			return nil
		}
		ref, err := a.ref(e)
		if ref.User = key.User; err == nil {
			err = cloud.RelabelKey(ctx, ref)
		}
		if err != nil {
			return fmt.Errorf("access key %s of %s: its %s, and cannot be set right: %w", key.ID, identityName(key.User), what, explain(a.name, err))
		}
		sent = &e.Expires
	}
}

func (c *comparer) saySetRight(ctx context.Context, a *account, key provider.Key, role, what string) {
	line := fmt.Sprintf("access key %s of %s (role %q): its %s, which is not what the ledger has", key.ID, identityName(key.User), role, what)
	c.note(func(r *tidyReport) { r.Right.add(line) })
	if c.dryRun {
		return
	}
	c.Logger().Warn("set an access key right: "+line, "account", a.name)
	c.metrics.setRight(a.name)
	c.send(ctx, event{operation: eventSetRight, name: key.ID, path: "keys/" + key.ID, modified: true})
}
