// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"fmt"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// margin is how much longer than every key's remaining life a policy must be: clocks
// differ, and the cloud decides a little later than we do.
const margin = time.Minute

// Action is what the sync does with an account's policy.
type Action string

// The actions. Tighten, ratchet and loosen change something.
const (
	ActionNone    Action = "none"    // in step, or stricter than Vault needs
	ActionTighten Action = "tighten" // to what is wanted
	ActionRatchet Action = "ratchet" // as far as the keys allow
	ActionLoosen  Action = "loosen"  // to what Vault needs
	ActionBlocked Action = "blocked" // the keys do not allow it
	ActionReport  Action = "report"  // the cloud has no such policy
)

// Changes tells whether an action writes the policy.
func (a Action) Changes() bool {
	return a == ActionTighten || a == ActionRatchet || a == ActionLoosen
}

// remains is what an account's keys leave of the choice.
type remains struct {
	noExpiration int
	longest      time.Duration // the longest remaining life
}

// decide is the whole rule: the strictest wins. Durations of a policy are 0 for unlimited.
// It never returns 0 as a new value, which would end an account's trusted sessions too, nor one
// below the floor: who has one short-lived role does not mean to end all other keys.
func decide(s settings.PolicySync, now, wanted time.Duration, keys remains) (Action, time.Duration, string) {
	wanted = max(wanted, s.Floor)
	switch {
	case now == wanted:
		return ActionNone, now, "the policy is what is wanted"
	case now > 0 && now < wanted && !s.AllowLoosen:
		return ActionNone, now, fmt.Sprintf("the policy is stricter than the wanted %s, so it bounds Vault's leases", short(wanted))
	case keys.noExpiration > 0:
		return ActionBlocked, now, fmt.Sprintf("%d keys never expire, and a policy demands an expiration date of every key", keys.noExpiration)
	case now > 0 && now < wanted:
		return ActionLoosen, wanted, "the policy is stricter than Vault needs, and ALLOW_LOOSEN is set"
	case keys.longest < wanted:
		return ActionTighten, wanted, "no key lives longer than wanted"
	}
	lowest := (keys.longest + margin).Truncate(time.Second)
	switch {
	case !s.Ratchet:
		return ActionBlocked, now, "keys live longer than wanted, and RATCHET is not set"
	case lowest > lifetime.MaxKeyLifetime || now > 0 && lowest >= now:
		return ActionBlocked, now, "keys live as long as the policy allows now: the next run may lower it"
	default:
		return ActionRatchet, lowest, fmt.Sprintf(
			"keys live longer than the wanted %s: the policy is lowered as far as they allow",
			short(wanted),
		)
	}
}

// shortened is the date that a key of the engine can be brought forward to, so that it no
// longer stands in the way: never below what the ledger promises, and never later than it
// is. The zero time means that it must stay.
func shortened(now, expires, promised time.Time, wanted time.Duration) time.Time {
	date := now.Add(wanted - margin).UTC().Truncate(time.Second)
	if promised.After(date) {
		date = promised
	}
	if !date.After(now.Add(margin)) || !expires.IsZero() && !date.Before(expires) {
		return time.Time{}
	}
	return date
}

// wanted is the policy to reach.
func wanted(s settings.PolicySync, account fleet.Account) (time.Duration, error) {
	if s.Wanted > 0 {
		return s.Wanted, nil
	}
	if account.LongestKey <= 0 {
		return 0, fmt.Errorf("the engine gives out no keys of this account, so nothing tells what its policy must allow: set WANTED_MAX")
	}
	whole := account.LongestKey.Truncate(time.Second)
	if whole < account.LongestKey {
		whole += time.Second
	}
	return min(max(whole, margin, s.Floor), lifetime.MaxKeyLifetime), nil
}

// short is a duration without the minutes and seconds that it has none of.
func short(d time.Duration) string {
	text := strings.Replace(d.String(), "m0s", "m", 1)
	return strings.Replace(text, "h0m", "h", 1)
}
