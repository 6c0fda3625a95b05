// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Hold implements provider.Holder.
func (b *Breaker) Hold() (hold provider.Hold, held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != open && b.state != suspect {
		return provider.Hold{}, false
	}
	return provider.Hold{
		Why: b.why.Kind(), Refusals: b.refusals, Since: b.since, Until: b.retryAt, Last: b.at, WantedFrom: b.wantedFrom(), Trying: b.probing,
	}, true
}

// Resume implements provider.Holder. A time that lies further ahead than the longest pause was written under a clock that was wrong,
// and is not believed; that the key was refused still is, and that there is no fourth try in the first half hour. A first refusal in
// the future tells by how much the clock was ahead. Where the clock was the reason it may have been set meanwhile, which nobody has
// seen: the pause is half an hour at most.
func (b *Breaker) Resume(hold provider.Hold) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.state != unproven || hold.Refusals < 0 {
		return
	}
	unbelieved := hold.Until.Sub(now) > longestPause
	if ahead := hold.Since.Sub(now); ahead > 0 {
		hold.Since, hold.Until, hold.Last = now, hold.Until.Add(-ahead), now
	}
	if hold.Since.IsZero() && hold.Refusals > 0 {
		hold.Since = now
	}
	if unbelieved {
		hold.Until = earliestTry(hold.Refusals, hold.Since)
	}
	if hold.Last.IsZero() || hold.Last.After(now) {
		hold.Last = now
	}
	if latest := hold.Last.Add(unlockedTime); hold.Why == provider.KindClockWrong && hold.Until.After(latest) {
		hold.Until = latest
	}
	if hold.Until.Before(now) {
		hold.Until = now
	}
	b.why, b.refusals, b.since = verdictOf(hold.Why), hold.Refusals, steady(hold.Since, now)
	b.at = steady(hold.Last, now)
	b.wall = b.at.Round(0)
	b.become(open, steady(hold.Until, now))
}

// OnHold implements provider.Holder.
func (b *Breaker) OnHold(changed func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onHold = changed
}

// steady gives a time that was read, or told, the monotonic reading of now (package time): without it, whoever sets this machine's clock
// would move it. The zero time stays.
func steady(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(t.Sub(now))
}

func verdictOf(kind provider.Kind) Verdict {
	for _, v := range []Verdict{Unclear, Locked, WrongTime} {
		if v.Kind() == kind {
			return v
		}
	}
	return Refused
}
