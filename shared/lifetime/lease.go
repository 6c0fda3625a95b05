// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package lifetime decides every date and TTL: of leases and their keys, and of the rotations
// of the engine's own and the static roles' keys. It is pure: engine and functions bring
// what they know and the time of now.
package lifetime

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

const (
	// ClockMargin is kept free below the access policy's maximum: the cloud judges
	// dates by its own clock.
	ClockMargin = 5 * time.Second

	// MinMaxLease is the shortest maximum that is of use. Where a role cannot get
	// even that, issuing is refused; a shorter TTL that is asked for is honoured.
	MinMaxLease = 30 * time.Second

	DefaultExpiryGrace = 60 * time.Second
	MinExpiryGrace     = 10 * time.Second
)

// Limit names what decides a role's longest lease.
type Limit string

const (
	LimitRole    Limit = "role"
	LimitAccount Limit = "account"
	LimitMount   Limit = "mount"
	LimitPolicy  Limit = "policy"
	LimitCloud   Limit = "cloud"
)

// Bounds is everything that limits a lease. Zero means "not set", but for Mount,
// which Vault always sets.
type Bounds struct {
	Role, Account, Mount time.Duration
	Policy               time.Duration // the access policy's longest key life; 0: unlimited, or never read
	Cloud                time.Duration // the longest that the cloud gives; 0: any
	Least                time.Duration // the shortest maximum that is of use; 0: MinMaxLease
	Grace                time.Duration // how long the key outlives the lease
}

// MaxLease is the longest lease from issue to end, and what decides it. Among
// equals the operator is told of the one that is hardest to move.
func (b Bounds) MaxLease() (time.Duration, Limit) {
	longest, by := b.Mount, LimitMount
	if b.Account > 0 && b.Account < longest {
		longest, by = b.Account, LimitAccount
	}
	if b.Role > 0 && b.Role < longest {
		longest, by = b.Role, LimitRole
	}
	if b.Cloud > 0 && b.Cloud <= longest {
		longest, by = b.Cloud, LimitCloud
	}
	if left := b.Policy - KeyLife(0, b.Grace); b.Policy > 0 && left <= longest {
		longest, by = left, LimitPolicy
	}
	return longest, by
}

// LongestKey is how long a key lives at most of whose lease everything but the access policy
// decides: what a policy must allow so that it cuts no lease.
func (b Bounds) LongestKey() time.Duration {
	b.Policy = 0
	longest, _ := b.MaxLease()
	return KeyLife(longest, b.Grace)
}

// KeyLife is the life that an access policy must allow a key whose lease lives so long.
func KeyLife(lease, grace time.Duration) time.Duration { return lease + grace + ClockMargin }

// CheckUsable refuses bounds that leave no useful lease, with the arithmetic.
func (b Bounds) CheckUsable() error {
	longest, by := b.MaxLease()
	least := cmp.Or(b.Least, MinMaxLease)
	if longest >= least {
		return nil
	}
	if by == LimitPolicy {
		return fmt.Errorf("no useful lease is possible: the account's access policy lets a key live %s at most; "+
			"less expiry_grace (%s) and a clock margin (%s) that leaves %s, and %s is the least that is of use. "+
			"Raise MaxAccessKeyExpirationSeconds in the cloud account or lower the account's expiry_grace",
			b.Policy, b.Grace, ClockMargin, max(longest, 0), least)
	}
	return fmt.Errorf(
		"no useful lease is possible: the %s's max_ttl allows %s at most, and %s is the least that is of use",
		by,
		longest,
		least,
	)
}

// LatestExpiry is the last date that a key issued at the given time may have under an access policy's longest key life;
// false where that is 0, no bound.
func LatestExpiry(issued time.Time, policy time.Duration) (time.Time, bool) {
	if policy <= 0 {
		return time.Time{}, false
	}
	return issued.Add(policy - ClockMargin).Truncate(time.Second), true
}

// KeyExpiry is the date of a key whose lease ends at leaseEnd: later by the
// grace, in whole seconds, and never beyond the access policy.
func (b Bounds) KeyExpiry(issued, leaseEnd time.Time) time.Time {
	expiry := CeilSecond(leaseEnd.Add(b.Grace))
	if latest, bound := LatestExpiry(issued, b.Policy); bound && expiry.After(latest) {
		return latest
	}
	return expiry
}

// EndedAt is when, by this machine's clock, a key has surely ended at its date. The date is in the cloud's clock, which is
// ahead of this machine's by skew.
func EndedAt(expires time.Time, skew time.Duration) time.Time { return expires.Add(ClockMargin - skew) }

// IssuePlan is the life of a lease and its key, decided before the key exists.
type IssuePlan struct {
	Issued   time.Time
	Lease    time.Duration
	MaxLease time.Duration
	Limit    Limit     // what decides MaxLease
	Expiry   time.Time // the key's date
	Grace    time.Duration
}

// PlanIssue decides a new lease's life. wanted is the TTL asked for, or the
// default that applies.
func PlanIssue(now time.Time, b Bounds, wanted time.Duration) (IssuePlan, error) {
	if err := b.CheckUsable(); err != nil {
		return IssuePlan{}, err
	}
	longest, by := b.MaxLease()
	lease := min(wanted, longest)
	return IssuePlan{
		Issued:   now,
		Lease:    lease,
		MaxLease: longest,
		Limit:    by,
		Expiry:   b.KeyExpiry(now, now.Add(lease)),
		Grace:    b.Grace,
	}, nil
}

// Slack is how far a lease may reach into its key's grace: dates are whole seconds, and
// a client that asks for ten minutes should not get 9m59s for it.
const Slack = time.Second

// AtReply is what Vault is told. It starts the lease's clock only when it has the
// reply, so what the cloud took is taken off: no lease ends after its key.
func (p IssuePlan) AtReply(now time.Time) (ttl, maxTTL time.Duration, err error) {
	ttl = p.Lease.Truncate(time.Second)
	if left := p.Expiry.Add(-p.Grace).Sub(now); left+Slack <= p.Lease {
		ttl = left.Truncate(time.Second)
	}
	maxTTL = p.Issued.Add(p.MaxLease).Sub(now).Truncate(time.Second)
	if ttl < time.Second || maxTTL < time.Second {
		return 0, 0, fmt.Errorf("the cloud took %s to make the key, longer than the lease of %s", now.Sub(p.Issued).Round(time.Second), p.Lease)
	}
	return min(ttl, maxTTL), maxTTL, nil
}

// FirstSet is the first of the durations that is set.
func FirstSet(durations ...time.Duration) time.Duration {
	for _, d := range durations {
		if d > 0 {
			return d
		}
	}
	return 0
}

// CeilSecond rounds up to a whole second, the cloud's precision.
func CeilSecond(t time.Time) time.Time {
	if floor := t.Truncate(time.Second); !floor.Equal(t) {
		return floor.Add(time.Second)
	}
	return t
}

// Life is what a renewal knows of the lease before it decides.
type Life struct {
	Issued    time.Time // by our clock, before the key was made: all bounds count from it
	Started   time.Time // by Vault's: what Secret.MaxTTL counts from
	KeyExpiry time.Time // the latest date that the key was ever given
}

// RenewalPlan is the renewed lease and its key's date.
type RenewalPlan struct {
	life   Life
	grace  time.Duration
	TTL    time.Duration
	MaxTTL time.Duration // counted from life.Started
	Expiry time.Time     // the key's date; never earlier than it was
}

// ErrPastMaximum refuses the renewal of a lease that has lived as long as it may.
var ErrPastMaximum = errors.New("the lease has reached its maximum life and cannot be renewed: ask for a new one")

// RenewalMaxTTL is the longest that a renewed lease may be, counted from life.Started. It fails
// where the lease is past its maximum, so that no cloud call is spent on it.
func (b Bounds) RenewalMaxTTL(life Life) (time.Duration, error) {
	longest, _ := b.MaxLease()
	maxTTL := life.Issued.Add(longest).Sub(life.Started).Truncate(time.Second)
	if maxTTL < time.Second {
		return 0, ErrPastMaximum // Vault would take 0 for "not set"
	}
	return maxTTL, nil
}

// PlanRenewal gives a renewed lease its key's date, which never moves back. ttl is what is
// left of maxTTL, which RenewalMaxTTL returned, at the most.
func (b Bounds) PlanRenewal(now time.Time, life Life, ttl, maxTTL time.Duration) RenewalPlan {
	expiry := b.KeyExpiry(life.Issued, now.Add(ttl))
	if expiry.Before(life.KeyExpiry) {
		expiry = life.KeyExpiry
	}
	return RenewalPlan{life: life, grace: b.Grace, TTL: ttl, MaxTTL: maxTTL, Expiry: expiry}
}

// AtReply is what Vault is told. Vault prefers the client's increment to
// Secret.TTL and counts it from the reply, so where the cloud took its time the
// maximum is lowered instead, for this renewal only: it is set anew each time.
func (p RenewalPlan) AtReply(now time.Time) (ttl, maxTTL time.Duration, err error) {
	lastEnd := p.Expiry.Add(-p.grace)
	left := lastEnd.Sub(now)
	if left+Slack > p.TTL {
		return p.TTL, p.MaxTTL, nil
	}
	if left < time.Second {
		return 0, 0, errors.New("the cloud took so long to move the key's expiry that nothing of the lease is left: renew again")
	}
	return left.Truncate(time.Second), min(p.MaxTTL, lastEnd.Sub(p.life.Started).Truncate(time.Second)), nil
}
