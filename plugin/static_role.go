// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"time"

	"github.com/hashicorp/vault/sdk/rotation"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	staticRolePrefix  = "static-roles/"
	staticCredsPrefix = "static-creds/"

	// minStaticPeriod leaves a rotation some ticks to happen in.
	minStaticPeriod = 5 * time.Minute

	// maxDefaultGrace bounds the grace that is taken where none is given.
	maxDefaultGrace = time.Hour

	// scheduleSamples is how many occurrences of a schedule are looked at for its longest
	// gap: more than a year of daily ones.
	scheduleSamples = 400
)

// staticRole is a user whose one key is rotated on time, as it stands in storage.
type staticRole struct {
	Account          string        `json:"account"`
	UserName         string        `json:"user_name"`
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
	Expires      time.Time     `json:"expires"` // zero: the cloud ends it at no date
	Previous     []previousKey `json:"previous,omitempty"`
	LastRotation time.Time     `json:"last_rotation"`
}

// ids are the keys that the entry names.
func (c *staticCreds) ids() []string {
	ids := []string{c.AccessKey}
	for _, previous := range c.Previous {
		ids = append(ids, previous.ID)
	}
	return ids
}

// next is the first rotation after a time.
func (r *staticRole) next(after time.Time) (time.Time, error) {
	if r.RotationSchedule == "" {
		return after.Add(r.RotationPeriod), nil
	}
	schedule, err := rotation.DefaultScheduler.Parse(r.RotationSchedule)
	if err != nil {
		return time.Time{}, mendable("rotation_schedule %q is not a cron expression of five fields, in UTC: %s", r.RotationSchedule, err)
	}
	return schedule.Next(after), nil
}

// longestGap is the longest time between two rotations.
func (r *staticRole) longestGap(from time.Time) (time.Duration, error) {
	if r.RotationSchedule == "" {
		return r.RotationPeriod, nil
	}
	longest := time.Duration(0)
	for range scheduleSamples {
		next, err := r.next(from)
		if err != nil {
			return 0, err
		}
		if next.IsZero() {
			return 0, mendable("rotation_schedule %q never comes", r.RotationSchedule)
		}
		longest = max(longest, next.Sub(from))
		from = next
	}
	return longest, nil
}

// needs is the life that a key must have to be replaced in time, and to work through the
// grace after that.
func (r *staticRole) needs(now time.Time) (time.Duration, error) {
	gap, err := r.longestGap(now)
	if err != nil {
		return 0, err
	}
	return gap + r.RotationWindow + max(r.Grace, rotationLead), nil
}

// checkPolicy refuses a rotation that the access policy does not leave time for.
func (r *staticRole) checkPolicy(now time.Time, policy time.Duration) error {
	needs, err := r.needs(now)
	if err != nil || policy == 0 || needs+clockMargin <= policy {
		return err
	}
	return mendable("the account's access policy lets a key live %s at most, and this rotation needs %s: the longest gap and rotation_window, "+
		"then %s for rotation_grace_period (at least %s), and a clock margin of %s. Rotate more often, or raise MaxAccessKeyExpirationSeconds",
		policy, needs+clockMargin, max(r.Grace, rotationLead), rotationLead, clockMargin)
}

// keyExpiry is the date of a new key: twice what it needs, for a Vault that is down when
// it should be replaced, and never beyond the policy.
func (r *staticRole) keyExpiry(now time.Time, policy time.Duration) (time.Time, error) {
	needs, err := r.needs(now)
	if err != nil {
		return time.Time{}, err
	}
	expiry := ceilSecond(now.Add(2 * needs))
	if policy > 0 {
		if latest := now.Add(policy - clockMargin).Truncate(time.Second); expiry.After(latest) {
			return latest, nil
		}
	}
	return expiry, nil
}

// scheduled is when the key is to be replaced: as the role says, and before its own date.
// A scheduled rotation that missed its window waits for the next one, if the key lives
// that long.
func (r *staticRole) scheduled(creds *staticCreds, now time.Time) (time.Time, error) {
	next, err := r.next(creds.LastRotation)
	if err != nil {
		return time.Time{}, err
	}
	if r.RotationWindow > 0 && now.After(next.Add(r.RotationWindow)) {
		if next, err = r.next(now.Add(-r.RotationWindow)); err != nil { // the next window may be open already
			return time.Time{}, err
		}
	}
	if creds.Expires.IsZero() {
		return next, nil
	}
	// Where a lowered policy leaves less than the role needs, a third of the key's life must do.
	lead := min(max(r.Grace, rotationLead), creds.Expires.Sub(creds.Created)/3)
	if lastMoment := creds.Expires.Add(-lead); lastMoment.Before(next) {
		return lastMoment, nil
	}
	return next, nil
}

// validate refuses what could not work. before is the stored role, nil for a new one.
func (r *staticRole) validate(before *staticRole) error {
	switch {
	case r.UserName == "":
		return mendable("user_name is missing: name the user whose key is to be rotated")
	case before != nil && (before.UserName != r.UserName || before.Account != r.Account):
		return mendable("user_name and account of a static role cannot be changed: delete it, and write another")
	case (r.RotationPeriod == 0) == (r.RotationSchedule == ""):
		return mendable("give either rotation_period or rotation_schedule")
	case r.RotationSchedule == "" && r.RotationPeriod < minStaticPeriod:
		return mendable("rotation_period is %s, and %s is the least", r.RotationPeriod, minStaticPeriod)
	case r.RotationWindow != 0 && r.RotationSchedule == "":
		return mendable("rotation_window goes with rotation_schedule, not with rotation_period")
	case r.Grace < 0:
		return mendable("rotation_grace_period cannot be negative")
	}
	if r.RotationWindow != 0 {
		if err := rotation.DefaultScheduler.ValidateRotationWindow(int(r.RotationWindow / time.Second)); err != nil {
			return mendable("%s", err)
		}
	}
	gap, err := r.longestGap(time.Now())
	if err != nil {
		return err
	}
	if r.Grace >= gap {
		return mendable("rotation_grace_period (%s) must be shorter than the time between two rotations (%s)", r.Grace, gap)
	}
	return nil
}

// defaultGrace is the smaller of an hour and a quarter of the time between rotations.
func (r *staticRole) defaultGrace() (time.Duration, error) {
	gap, err := r.longestGap(time.Now())
	return min(maxDefaultGrace, gap/4), err
}

// asPrevious is the current key as one that is being replaced.
func (c *staticCreds) asPrevious(r *staticRole, now time.Time) previousKey {
	return previousKey{
		ID: c.AccessKey, AccountID: c.AccountID, Label: c.Label,
		Identity: provider.Identity{Kind: provider.IdentityUser, User: r.UserName},
		Expires:  c.Expires, DeleteAfter: now.Add(r.Grace),
	}
}
