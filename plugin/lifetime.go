// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"fmt"
	"time"
)

const (
	// clockMargin is kept free below the access policy's maximum: the cloud judges
	// dates by its own clock.
	clockMargin = 5 * time.Second

	// minMaxLease is the shortest maximum that is of use. Where a role cannot get
	// even that, issuing is refused; a shorter TTL that is asked for is honoured.
	minMaxLease = 30 * time.Second

	defaultExpiryGrace = 60 * time.Second
	minExpiryGrace     = 10 * time.Second
)

// limit names what decides a role's longest lease.
type limit string

const (
	limitRole    limit = "role"
	limitAccount limit = "account"
	limitMount   limit = "mount"
	limitPolicy  limit = "policy"
	limitCloud   limit = "cloud"
)

// bounds is everything that limits a lease. Zero means "not set", but for Mount,
// which Vault always sets.
type bounds struct {
	Role, Account, Mount time.Duration
	Policy               time.Duration // the access policy's longest key life; 0: unlimited, or never read
	Cloud                time.Duration // the longest that the cloud gives; 0: any
	Least                time.Duration // the shortest maximum that is of use; 0: minMaxLease
	Grace                time.Duration // how long the key outlives the lease
}

// maxLease is the longest lease from issue to end, and what decides it. Among
// equals the operator is told of the one that is hardest to move.
func (b bounds) maxLease() (time.Duration, limit) {
	longest, by := b.Mount, limitMount
	if b.Account > 0 && b.Account < longest {
		longest, by = b.Account, limitAccount
	}
	if b.Role > 0 && b.Role < longest {
		longest, by = b.Role, limitRole
	}
	if b.Cloud > 0 && b.Cloud <= longest {
		longest, by = b.Cloud, limitCloud
	}
	if b.Policy > 0 && b.Policy-b.Grace-clockMargin <= longest {
		longest, by = b.Policy-b.Grace-clockMargin, limitPolicy
	}
	return longest, by
}

// checkUsable refuses bounds that leave no useful lease, with the arithmetic.
func (b bounds) checkUsable() error {
	longest, by := b.maxLease()
	least := cmp.Or(b.Least, minMaxLease)
	if longest >= least {
		return nil
	}
	if by == limitPolicy {
		return mendable("no useful lease is possible: the account's access policy lets a key live %s at most; "+
			"less expiry_grace (%s) and a clock margin (%s) that leaves %s, and %s is the least that is of use. "+
			"Raise MaxAccessKeyExpirationSeconds in the cloud account or lower the account's expiry_grace",
			b.Policy, b.Grace, clockMargin, max(longest, 0), least)
	}
	return mendable("no useful lease is possible: the %s's max_ttl allows %s at most, and %s is the least that is of use", by, longest, least)
}

// latestExpiry is the last date that a key issued at the given time may have
// under the access policy; false where there is no bound.
func (b bounds) latestExpiry(issued time.Time) (time.Time, bool) {
	if b.Policy <= 0 {
		return time.Time{}, false
	}
	return issued.Add(b.Policy - clockMargin).Truncate(time.Second), true
}

// keyExpiry is the date of a key whose lease ends at leaseEnd: later by the
// grace, in whole seconds, and never beyond the access policy.
func (b bounds) keyExpiry(issued, leaseEnd time.Time) time.Time {
	expiry := ceilSecond(leaseEnd.Add(b.Grace))
	if latest, bound := b.latestExpiry(issued); bound && expiry.After(latest) {
		return latest
	}
	return expiry
}

// issuePlan is the life of a lease and its key, decided before the key exists.
type issuePlan struct {
	Issued   time.Time
	Lease    time.Duration
	MaxLease time.Duration
	Expiry   time.Time // the key's date
	Grace    time.Duration
}

// planIssue decides a new lease's life. wanted is the TTL asked for, or the
// default that applies.
func planIssue(now time.Time, b bounds, wanted time.Duration) (issuePlan, error) {
	if err := b.checkUsable(); err != nil {
		return issuePlan{}, err
	}
	longest, _ := b.maxLease()
	lease := min(wanted, longest)
	return issuePlan{
		Issued:   now,
		Lease:    lease,
		MaxLease: longest,
		Expiry:   b.keyExpiry(now, now.Add(lease)),
		Grace:    b.Grace,
	}, nil
}

// slack is how far a lease may reach into its key's grace: dates are whole seconds, and
// a client that asks for ten minutes should not get 9m59s for it.
const slack = time.Second

// atReply is what Vault is told. It starts the lease's clock only when it has the
// reply, so what the cloud took is taken off: no lease ends after its key.
func (p issuePlan) atReply(now time.Time) (ttl, maxTTL time.Duration, err error) {
	ttl = p.Lease.Truncate(time.Second)
	if left := p.Expiry.Add(-p.Grace).Sub(now); left+slack <= p.Lease {
		ttl = left.Truncate(time.Second)
	}
	maxTTL = p.Issued.Add(p.MaxLease).Sub(now).Truncate(time.Second)
	if ttl < time.Second || maxTTL < time.Second {
		return 0, 0, fmt.Errorf("the cloud took %s to make the key, longer than the lease of %s", now.Sub(p.Issued).Round(time.Second), p.Lease)
	}
	return min(ttl, maxTTL), maxTTL, nil
}

// firstSet is the first of the durations that is set.
func firstSet(durations ...time.Duration) time.Duration {
	for _, d := range durations {
		if d > 0 {
			return d
		}
	}
	return 0
}

// ceilSecond rounds up to a whole second, the cloud's precision.
func ceilSecond(t time.Time) time.Time {
	if floor := t.Truncate(time.Second); !floor.Equal(t) {
		return floor.Add(time.Second)
	}
	return t
}
