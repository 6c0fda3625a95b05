// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

const day = 24 * time.Hour

func TestTheStrictestWins(t *testing.T) {
	ratchet := settings.PolicySync{Ratchet: true}
	floored := settings.PolicySync{Ratchet: true, Floor: day}
	loosen := settings.PolicySync{Ratchet: true, AllowLoosen: true}
	cases := map[string]struct {
		settings    settings.PolicySync
		now, wanted time.Duration
		keys        remains
		action      Action
		value       time.Duration
	}{
		"in step":                           {ratchet, day, day, remains{longest: time.Hour}, ActionNone, day},
		"in step whatever the keys":         {ratchet, day, day, remains{noExpiration: 3}, ActionNone, day},
		"unlimited, and nothing in the way": {ratchet, 0, day, remains{longest: time.Hour}, ActionTighten, day},
		"too wide, and nothing in the way":  {ratchet, 9 * day, day, remains{longest: time.Hour}, ActionTighten, day},
		"a key that lives a second less":    {ratchet, 9 * day, day, remains{longest: day - time.Second}, ActionTighten, day},
		"a key that lives exactly as long":  {ratchet, 9 * day, day, remains{longest: day}, ActionRatchet, day + margin},
		"a key that lives longer":           {ratchet, 9 * day, day, remains{longest: 3 * day}, ActionRatchet, 3*day + margin},
		"parts of a second are given to the key": {
			ratchet, 9 * day, day, remains{longest: 3*day + time.Millisecond}, ActionRatchet, 3*day + margin,
		},
		"unlimited, and a key that lives longer": {ratchet, 0, day, remains{longest: 3 * day}, ActionRatchet, 3*day + margin},
		"a key that lives as long as is allowed": {ratchet, 9 * day, day, remains{longest: 9*day - time.Second}, ActionBlocked, 9 * day},
		"without the ratchet": {
			settings.PolicySync{}, 9 * day, day, remains{longest: 3 * day}, ActionBlocked, 9 * day,
		},
		"a key without date":                             {ratchet, 0, day, remains{noExpiration: 1, longest: time.Hour}, ActionBlocked, 0},
		"a key beyond a hundred years":                   {ratchet, 0, day, remains{longest: lifetime.MaxKeyLifetime}, ActionBlocked, 0},
		"stricter than Vault needs":                      {ratchet, time.Hour, day, remains{longest: time.Minute}, ActionNone, time.Hour},
		"stricter, with keys in the way of nothing":      {ratchet, time.Hour, day, remains{noExpiration: 1}, ActionNone, time.Hour},
		"stricter, to be loosened":                       {loosen, time.Hour, day, remains{longest: time.Minute}, ActionLoosen, day},
		"stricter, to be loosened, with a key":           {loosen, time.Hour, day, remains{noExpiration: 1}, ActionBlocked, time.Hour},
		"too wide, loosening allowed":                    {loosen, 9 * day, day, remains{longest: time.Minute}, ActionTighten, day},
		"unlimited, and Vault needs less than the floor": {floored, 0, time.Hour, remains{}, ActionTighten, day},
		"never below the floor":                          {floored, 9 * day, time.Hour, remains{longest: time.Minute}, ActionTighten, day},
		"at the floor already":                           {floored, day, time.Hour, remains{longest: time.Minute}, ActionNone, day},
		"between the floor and what Vault needs": {
			floored, 20 * time.Hour, time.Hour, remains{longest: time.Minute}, ActionNone, 20 * time.Hour,
		},
		"not loosened beyond the floor": {
			settings.PolicySync{AllowLoosen: true, Floor: day}, time.Hour, 2 * time.Hour, remains{}, ActionLoosen, day,
		},
		"a key in the way, and the floor above its life": {floored, 9 * day, time.Hour, remains{longest: 3 * time.Hour}, ActionTighten, day},
		"a key in the way beyond the floor":              {floored, 9 * day, time.Hour, remains{longest: 3 * day}, ActionRatchet, 3*day + margin},
		"unlimited is not loosened to":                   {loosen, 0, day, remains{}, ActionTighten, day},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			action, value, reason := decide(test.settings, test.now, test.wanted, test.keys)
			if action != test.action || value != test.value || reason == "" {
				t.Errorf("got %s to %s because %q, want %s to %s", action, value, reason, test.action, test.value)
			}
			if action.Changes() && (value == 0 || value > test.now && test.now > 0 && action != ActionLoosen) {
				t.Errorf("%s from %s to %s", action, test.now, value)
			}
			if action.Changes() && value <= test.keys.longest {
				t.Errorf("the cloud would refuse %s: a key lives %s", value, test.keys.longest)
			}
		})
	}
}

func TestAKeyIsOnlyEverShortened(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		expires, promised time.Time
		wanted            time.Duration
		want              time.Time
	}{
		"to just below what is wanted":      {now.Add(9 * day), time.Time{}, day, now.Add(day - margin)},
		"not below what Vault promised":     {now.Add(9 * day), now.Add(3 * day), day, now.Add(3 * day)},
		"not if it ends sooner":             {now.Add(time.Hour), time.Time{}, day, time.Time{}},
		"not if Vault promised all of it":   {now.Add(9 * day), now.Add(9 * day), day, time.Time{}},
		"not if Vault promised more":        {now.Add(9 * day), now.Add(10 * day), day, time.Time{}},
		"one without a date gets one":       {time.Time{}, now.Add(3 * day), day, now.Add(3 * day)},
		"not to a date that is almost here": {now.Add(9 * day), time.Time{}, 2 * margin, time.Time{}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if got := shortened(now, test.expires, test.promised, test.wanted); !got.Equal(test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestWhatIsWantedIsGivenOrFollowsFromVault(t *testing.T) {
	cases := map[string]struct {
		given, longest, want time.Duration
	}{
		"given":                 {day, time.Hour, day},
		"from Vault":            {0, 2 * time.Hour, 2 * time.Hour},
		"from Vault, rounded":   {0, 2*time.Hour + time.Millisecond, 2*time.Hour + time.Second},
		"from Vault, bounded":   {0, 2 * lifetime.MaxKeyLifetime, lifetime.MaxKeyLifetime},
		"unknown":               {0, 0, 0},
		"unknown, yet negative": {0, -time.Hour, 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := wanted(settings.PolicySync{Wanted: test.given}, fleet.Account{LongestKey: test.longest})
			if got != test.want || (err != nil) != (test.want == 0) {
				t.Errorf("got %s and error %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestDurationsAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		240 * time.Hour: "240h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 30 * time.Second: "30s", time.Hour + time.Second: "1h1s",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
