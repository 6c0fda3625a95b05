// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"errors"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// leaseLife is what a renewal knows of the lease before it decides.
type leaseLife struct {
	Issued    time.Time // by our clock, before the key was made: all bounds count from it
	Started   time.Time // by Vault's: what Secret.MaxTTL counts from
	KeyExpiry time.Time // the latest date that the key was ever given
}

// renewalPlan is the renewed lease and its key's date.
type renewalPlan struct {
	life   leaseLife
	grace  time.Duration
	TTL    time.Duration
	MaxTTL time.Duration // counted from life.Started
	Expiry time.Time     // the key's date; never earlier than it was
}

var errPastMaximum = errors.New("the lease has reached its maximum life and cannot be renewed: ask for a new one")

// planRenewal decides a renewal. increment is what the client asks for (0: the
// role's TTL). It fails where the lease is past its maximum, so that no cloud
// call is spent on it.
func planRenewal(sys logical.SystemView, now time.Time, life leaseLife, b bounds, increment, roleTTL time.Duration) (renewalPlan, error) {
	longest, _ := b.maxLease()
	maxTTL := life.Issued.Add(longest).Sub(life.Started).Truncate(time.Second)
	if maxTTL < time.Second {
		return renewalPlan{}, errPastMaximum // CalculateTTL would take 0 for "not set"
	}
	ttl, _, err := framework.CalculateTTL(sys, increment, roleTTL, 0, maxTTL, 0, life.Started)
	if err != nil {
		return renewalPlan{}, errPastMaximum
	}
	expiry := b.keyExpiry(life.Issued, now.Add(ttl))
	if expiry.Before(life.KeyExpiry) {
		expiry = life.KeyExpiry
	}
	return renewalPlan{life: life, grace: b.Grace, TTL: ttl, MaxTTL: maxTTL, Expiry: expiry}, nil
}

// atReply is what Vault is told. Vault prefers the client's increment to
// Secret.TTL and counts it from the reply, so where the cloud took its time the
// maximum is lowered instead, for this renewal only: it is set anew each time.
func (p renewalPlan) atReply(now time.Time) (ttl, maxTTL time.Duration, err error) {
	lastEnd := p.Expiry.Add(-p.grace)
	left := lastEnd.Sub(now)
	if left+slack > p.TTL {
		return p.TTL, p.MaxTTL, nil
	}
	if left < time.Second {
		return 0, 0, errors.New("the cloud took so long to move the key's expiry that nothing of the lease is left: renew again")
	}
	return left.Truncate(time.Second), min(p.MaxTTL, lastEnd.Sub(p.life.Started).Truncate(time.Second)), nil
}
