// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package lifetime

import (
	"errors"
	"fmt"
	"time"
)

const (
	// RotationOverlap is how long a replaced key of the engine goes on working: past every
	// budget, so that requests under way with it can end.
	RotationOverlap = 90 * time.Second

	// PrimaryOverlap is the same on a performance primary of Vault Enterprise, whose secondaries sign with the replaced
	// key until the configuration has reached them.
	PrimaryOverlap = 10 * time.Minute

	// MaxOverlap is the longest overlap that is believed: PrimaryOverlap, with room for a longer one. A date further
	// ahead was written under a clock that was wrong.
	MaxOverlap = 15 * time.Minute

	// RotationLead is the least time before a key's own date at which it is replaced: a few
	// ticks, for a cloud that cannot be reached at the first of them.
	RotationLead = 3 * time.Minute

	// MinStaticPeriod leaves the rotation of a static role some ticks to happen in.
	MinStaticPeriod = 5 * time.Minute

	// MinRotationPeriod is the shortest that the engine's own key can have.
	MinRotationPeriod = 10 * time.Minute

	// MaxRotationPeriod keeps dates that are a few periods ahead within what a time.Duration
	// and the clouds' dates can say. Nobody waits longer for a rotation.
	MaxRotationPeriod = 10 * 365 * 24 * time.Hour

	// MinRotationWindow is the shortest time that a scheduled rotation may be late. Vault's own
	// static roles have the same bound (sdk/rotation).
	MinRotationWindow = time.Hour

	// MaxKeyLifetime is the longest life that an access policy can allow a key: a hundred
	// years, in seconds (OUTSCALE, UpdateApiAccessPolicy).
	MaxKeyLifetime = 3_153_600_000 * time.Second

	// maxDefaultGrace bounds the grace that is taken where none is given.
	maxDefaultGrace = time.Hour
)

// Overlap is how long a key of the engine that is replaced now goes on working; primary tells whether this is a performance
// primary of Vault Enterprise.
func Overlap(primary bool) time.Duration {
	if primary {
		return PrimaryOverlap
	}
	return RotationOverlap
}

// NextRotation is when the engine's own key is replaced by itself: when its period has passed,
// and in any case when a third of its life is left. Zero means never.
func NextRotation(created, expires time.Time, period time.Duration) time.Time {
	var next time.Time
	if period > 0 {
		next = created.Add(period)
	}
	if expires.IsZero() {
		return next
	}
	byDate := expires.Add(-max(expires.Sub(created)/3, RotationLead))
	if next.IsZero() || byDate.Before(next) {
		return byDate
	}
	return next
}

// EngineKeyExpiry is the date of a new key of the engine's own: as far as the access policy
// goes, else twice the rotation period, else none.
func EngineKeyExpiry(now time.Time, policy, period time.Duration) time.Time {
	if latest, bound := LatestExpiry(now, policy); bound {
		return latest
	}
	if period > 0 {
		return CeilSecond(now.Add(EngineKeyNeeds(period)))
	}
	return time.Time{}
}

// EngineKeyNeeds is the life that a key of the engine's own is given where no access policy
// bounds it; 0 where it has no rotation period.
func EngineKeyNeeds(period time.Duration) time.Duration { return 2 * period }

// Static is when a static role's key is replaced: after each period, or by a schedule.
type Static struct {
	Period   time.Duration
	Schedule string        // five cron fields, in UTC; instead of a period
	Window   time.Duration // how late a scheduled rotation may be; 0: any time
	Grace    time.Duration // how long the replaced key goes on working
}

// Check refuses what could not work, in a sentence for the operator.
func (s Static) Check(now time.Time) error {
	switch {
	case (s.Period == 0) == (s.Schedule == ""):
		return errors.New("give either rotation_period or rotation_schedule")
	case s.Schedule == "" && s.Period < MinStaticPeriod:
		return fmt.Errorf("rotation_period is %s, and %s is the least", s.Period, MinStaticPeriod)
	case s.Period > MaxRotationPeriod:
		return fmt.Errorf("rotation_period is %s, and %s (ten years) is the most", s.Period, MaxRotationPeriod)
	case s.Window != 0 && s.Schedule == "":
		return errors.New("rotation_window goes with rotation_schedule, not with rotation_period")
	case s.Window != 0 && s.Window < MinRotationWindow:
		return fmt.Errorf("rotation_window is %s, and %s is the least", s.Window, MinRotationWindow)
	case s.Window > MaxRotationPeriod:
		return fmt.Errorf("rotation_window is %s, and %s (ten years) is the most", s.Window, MaxRotationPeriod)
	case s.Grace < 0:
		return errors.New("rotation_grace_period cannot be negative")
	}
	shortest, longest, err := s.gaps(now)
	switch {
	case err != nil:
		return err
	case shortest < MinStaticPeriod:
		return fmt.Errorf("rotation_schedule %q has rotations %s apart, and %s is the least", s.Schedule, shortest, MinStaticPeriod)
	case s.Grace >= longest:
		return fmt.Errorf("rotation_grace_period (%s) must be shorter than the time between two rotations (%s)", s.Grace, longest)
	}
	return nil
}

// Next is the first rotation after a time.
func (s Static) Next(after time.Time) (time.Time, error) {
	if s.Schedule == "" {
		return after.Add(s.Period), nil
	}
	schedule, err := parseSchedule(s.Schedule)
	if err != nil {
		return time.Time{}, err
	}
	return schedule.Next(after.UTC()), nil
}

// gaps are the shortest and the longest time between two rotations.
func (s Static) gaps(from time.Time) (shortest, longest time.Duration, err error) {
	if s.Schedule == "" {
		return s.Period, s.Period, nil
	}
	schedule, err := parseSchedule(s.Schedule)
	if err != nil {
		return 0, 0, err
	}
	last := schedule.Next(from.UTC())
	for i := range scheduleSamples {
		next := schedule.Next(last)
		if last.IsZero() || next.IsZero() {
			return 0, 0, fmt.Errorf("rotation_schedule %q never comes", s.Schedule)
		}
		gap := next.Sub(last)
		if longest = max(longest, gap); i == 0 || gap < shortest {
			shortest = gap
		}
		last = next
	}
	return shortest, longest, nil
}

// Needs is the life that a key must have to be replaced in time, and to work through the
// grace after that.
func (s Static) Needs(now time.Time) (time.Duration, error) {
	_, gap, err := s.gaps(now)
	if err != nil {
		return 0, err
	}
	return gap + s.Window + max(s.Grace, RotationLead), nil
}

// LongestKey is the life that an access policy must allow a key of the role.
func (s Static) LongestKey(now time.Time) (time.Duration, error) {
	needs, err := s.Needs(now)
	return needs + ClockMargin, err
}

// CheckPolicy refuses a rotation that the access policy does not leave time for; 0 is no bound.
func (s Static) CheckPolicy(now time.Time, policy time.Duration) error {
	needs, err := s.Needs(now)
	if err != nil || policy == 0 || needs+ClockMargin <= policy {
		return err
	}
	return fmt.Errorf(
		"the account's access policy lets a key live %s at most, and this rotation needs %s: the longest gap and rotation_window, "+
			"then %s for rotation_grace_period (at least %s), and a clock margin of %s. Rotate more often, or raise MaxAccessKeyExpirationSeconds",
		policy,
		needs+ClockMargin,
		max(s.Grace, RotationLead),
		RotationLead,
		ClockMargin,
	)
}

// KeyExpiry is the date of a new key: twice what it needs, for a Vault that is down when it
// should be replaced, and never beyond the policy.
func (s Static) KeyExpiry(now time.Time, policy time.Duration) (time.Time, error) {
	needs, err := s.Needs(now)
	if err != nil {
		return time.Time{}, err
	}
	expiry := CeilSecond(now.Add(2 * needs))
	if latest, bound := LatestExpiry(now, policy); bound && expiry.After(latest) {
		return latest, nil
	}
	return expiry, nil
}

// Due is when a key is to be replaced that was made at the last rotation: as the role says,
// and before its own date (zero: it has none). A scheduled rotation that missed its window
// waits for the next one, if the key lives that long. A last rotation that is still to come was noted under a clock that
// was wrong: the key is replaced now.
func (s Static) Due(last, created, expires, now time.Time) (time.Time, error) {
	if last.After(now.Add(MinStaticPeriod)) { // less is a clock that was set a little
		return now, nil
	}
	next, err := s.Next(last)
	if err != nil {
		return time.Time{}, err
	}
	if s.Window > 0 && now.After(next.Add(s.Window)) {
		if next, err = s.Next(now.Add(-s.Window)); err != nil { // the next window may be open already
			return time.Time{}, err
		}
	}
	if expires.IsZero() {
		return next, nil
	}
	// Where a lowered policy leaves less than the role needs, a third of the key's life must do.
	lead := min(max(s.Grace, RotationLead), expires.Sub(created)/3)
	if lastMoment := expires.Add(-lead); lastMoment.Before(next) {
		return lastMoment, nil
	}
	return next, nil
}

// DefaultGrace is the smaller of an hour and a quarter of the time between rotations.
func (s Static) DefaultGrace(now time.Time) (time.Duration, error) {
	_, gap, err := s.gaps(now)
	return min(maxDefaultGrace, gap/4), err
}
