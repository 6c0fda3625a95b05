// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// A date that the cloud judges is in the cloud's clock: that of a key which ends by it, in the ledger, in leases, and of the
// engine's own key. All other dates are in this machine's, and what is decided of a lease is decided in that: a
// key's date is moved by the skew when it is written, and compared with the cloud's time.

// tellSkew is the skew from which on people are told of it.
const tellSkew = time.Minute

// measuredSkew is how far the cloud's clock is ahead of this machine's, as its answers show.
func (a *account) measuredSkew() (skew time.Duration, known bool) {
	clock, ok := a.cloud.(provider.ClockSkew)
	if !ok {
		return 0, false
	}
	return clock.ClockSkew()
}

// skew is what dates that the cloud judges are moved by, in whole seconds; 0 where no answer has shown it, and where it is
// less than the margin that is kept anyway.
func (a *account) skew() time.Duration {
	skew, known := a.measuredSkew()
	if !known || skew.Abs() <= lifetime.ClockMargin || !a.endsKeys() {
		return 0
	}
	return skew.Round(time.Second)
}

// cloudNow is the time by the clock that the dates of keys are in.
func (a *account) cloudNow() time.Time { return time.Now().Add(a.skew()) }

// isDead tells whether a key has ended by its date, so that its removal can wait. While nobody knows the
// cloud's time no date proves that.
func (a *account) isDead(expires time.Time) bool {
	_, known := a.measuredSkew()
	return known && a.endsKeys() && a.cloudNow().After(expires.Add(lifetime.ClockMargin))
}

// skewMoved tells that dates were written by another skew than the one that is known now, as that of a process's first key is.
func (a *account) skewMoved(from time.Duration) bool {
	return (a.skew() - from).Abs() > lifetime.ClockMargin
}

// correctDate moves a key that was just made to the date that it should have, where its create was the first
// answer to show the skew. The entry is still begun, so that a crash here leaves a key that the next tick deletes.
func (i issuance) correctDate(ctx context.Context, key *recordedKey) error {
	e := key.entry
	if e.Expires.IsZero() || !i.account.skewMoved(e.Skew) {
		return nil
	}
	skew := i.account.skew()
	e.Expires, e.Skew = e.Expires.Add(skew-e.Skew), skew
	ref, err := i.account.ref(e)
	if err == nil {
		err = i.account.cloud.MoveExpiry(ctx, ref)
	}
	if err != nil {
		return fmt.Errorf("moving the date of the new access key %s to what it should be by the cloud's clock: %w", key.ID, err)
	}
	key.Expires = e.Expires
	return nil
}

// clockWarning tells of a skew that somebody should see to; empty: there is none.
func (a *account) clockWarning() string {
	skew, known := a.measuredSkew()
	if !known || skew.Abs() <= tellSkew {
		return ""
	}
	return sayClock(skew) + ": the dates of keys allow for it, and signatures are refused from " + transport.MaxSkew.String() + " on. Set it by NTP"
}

// sayClock says on which side of the cloud's this machine's clock is.
func sayClock(skew time.Duration) string {
	side := "behind"
	if skew < 0 {
		side = "ahead of"
	}
	return fmt.Sprintf("this machine's clock is %s %s the cloud's", skew.Abs().Round(time.Second), side)
}
