// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package lifetime

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestMaxLease(t *testing.T) {
	tests := map[string]struct {
		bounds Bounds
		want   time.Duration
		by     Limit
	}{
		"the mount decides where nothing else is set": {
			Bounds{Mount: 768 * time.Hour, Grace: time.Minute}, 768 * time.Hour, LimitMount,
		},
		"a policy of 0 is no bound": {
			Bounds{Mount: day, Account: 2 * day, Policy: 0, Grace: time.Minute}, day, LimitMount,
		},
		"a policy of 120 s leaves 55 s": {
			Bounds{Mount: day, Policy: 120 * time.Second, Grace: time.Minute}, 55 * time.Second, LimitPolicy,
		},
		"a policy of 900 s leaves 835 s": {
			Bounds{Mount: day, Policy: 900 * time.Second, Grace: time.Minute}, 835 * time.Second, LimitPolicy,
		},
		"a policy of a year leaves the mount's 32 days": {
			Bounds{Mount: 768 * time.Hour, Policy: 31536000 * time.Second, Grace: time.Minute}, 768 * time.Hour, LimitMount,
		},
		"a smaller grace leaves more of the policy": {
			Bounds{Mount: day, Policy: 900 * time.Second, Grace: 10 * time.Second}, 885 * time.Second, LimitPolicy,
		},
		"the account decides where it is lower than the mount": {
			Bounds{Mount: day, Account: time.Hour, Grace: time.Minute}, time.Hour, LimitAccount,
		},
		"the role decides where it is lower than the account": {
			Bounds{Mount: day, Account: time.Hour, Role: time.Minute, Grace: time.Minute}, time.Minute, LimitRole,
		},
		"a role cannot exceed the account": {
			Bounds{Mount: day, Account: time.Hour, Role: 2 * time.Hour, Grace: time.Minute}, time.Hour, LimitAccount,
		},
		"among equals the policy is named, which nobody can move from Vault": {
			Bounds{Mount: 835 * time.Second, Role: 835 * time.Second, Policy: 900 * time.Second, Grace: time.Minute}, 835 * time.Second, LimitPolicy,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, by := test.bounds.MaxLease(); got != test.want || by != test.by {
				t.Errorf("got %s by %s, want %s by %s", got, by, test.want, test.by)
			}
		})
	}
}

func TestUsableBounds(t *testing.T) {
	tests := map[string]struct {
		bounds Bounds
		usable bool
	}{
		"a policy of 95 s leaves just enough":    {Bounds{Mount: day, Policy: 95 * time.Second, Grace: time.Minute}, true},
		"a policy of 94 s does not":              {Bounds{Mount: day, Policy: 94 * time.Second, Grace: time.Minute}, false},
		"a policy shorter than the grace is not": {Bounds{Mount: day, Policy: 10 * time.Second, Grace: time.Minute}, false},
		"a role of 20 s is not":                  {Bounds{Mount: day, Role: 20 * time.Second, Grace: time.Minute}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.bounds.CheckUsable(); (err == nil) != test.usable {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("the refusal shows the arithmetic", func(t *testing.T) {
		err := Bounds{Mount: day, Policy: 90 * time.Second, Grace: time.Minute}.CheckUsable()
		for _, part := range []string{"1m30s", "1m0s", "5s", "25s", "30s", "MaxAccessKeyExpirationSeconds"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is missing in %q", part, err)
			}
		}
	})
}

func TestPlanIssue(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 300e6, time.UTC)
	plenty := Bounds{Mount: day, Grace: time.Minute}

	t.Run("the key outlives the lease by the grace, in whole seconds", func(t *testing.T) {
		p, err := PlanIssue(now, plenty, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if want := now.Truncate(time.Second).Add(time.Hour + time.Minute + time.Second); !p.Expiry.Equal(want) {
			t.Errorf("got %s, want %s", p.Expiry, want)
		}
	})
	t.Run("a TTL shorter than the least maximum is honoured", func(t *testing.T) {
		p, err := PlanIssue(now, plenty, 5*time.Second)
		if err != nil || p.Lease != 5*time.Second {
			t.Errorf("got %s, %v", p.Lease, err)
		}
	})
	t.Run("what the cloud took is taken off the lease", func(t *testing.T) {
		p, _ := PlanIssue(now, plenty, time.Hour)
		ttl, maxTTL, err := p.AtReply(now.Add(20 * time.Second))
		if err != nil || ttl != time.Hour-20*time.Second || maxTTL != day-20*time.Second {
			t.Errorf("got %s of %s, %v", ttl, maxTTL, err)
		}
	})
	t.Run("a quick answer gives the whole TTL", func(t *testing.T) {
		p, _ := PlanIssue(now, plenty, time.Hour)
		if ttl, _, err := p.AtReply(now.Add(30 * time.Millisecond)); err != nil || ttl != time.Hour {
			t.Errorf("got %s, %v", ttl, err)
		}
	})
	t.Run("so it does wherever in a second it begins", func(t *testing.T) {
		for fraction := range 1000 {
			began := now.Truncate(time.Second).Add(time.Duration(fraction) * time.Millisecond)
			p, _ := PlanIssue(began, plenty, time.Hour)
			if ttl, _, err := p.AtReply(began.Add(400 * time.Millisecond)); err != nil || ttl != time.Hour {
				t.Fatalf("begun at %s: got %s, %v", began, ttl, err)
			}
		}
	})
	t.Run("a lease that is over before the reply is an error", func(t *testing.T) {
		p, _ := PlanIssue(now, plenty, 5*time.Second)
		if ttl, _, err := p.AtReply(now.Add(6 * time.Second)); err == nil {
			t.Errorf("got %s", ttl)
		}
	})
}

// TestIssueProperties holds every plan against the promises of the design, over random
// bounds and delays.
func TestIssueProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(limit time.Duration) time.Duration { return time.Duration(random.Int64N(int64(limit))) }
	for range 20000 {
		b := Bounds{Mount: time.Hour + pick(day), Grace: MinExpiryGrace + pick(5*time.Minute)}
		if random.IntN(2) == 0 {
			b.Role = pick(day)
		}
		if random.IntN(2) == 0 {
			b.Policy = pick(day).Truncate(time.Second)
		}
		issued := time.Unix(1.8e9, random.Int64N(1e9))
		p, err := PlanIssue(issued, b, time.Second+pick(day))
		if err != nil {
			continue
		}
		reply := issued.Add(pick(45 * time.Second))
		ttl, maxTTL, err := p.AtReply(reply)
		if err != nil {
			continue
		}
		longest, _ := b.MaxLease()
		end := reply.Add(ttl)
		switch {
		case end.After(p.Expiry.Add(Slack - b.Grace)):
			t.Fatalf("the lease ends within the grace: %+v %+v", b, p)
		case p.Expiry.After(end.Add(b.Grace + 2*time.Second).Add(reply.Sub(issued))):
			t.Fatalf("the key lives too long: %+v %+v", b, p)
		case b.Policy > 0 && p.Expiry.After(issued.Add(b.Policy-ClockMargin)):
			t.Fatalf("the key exceeds the policy: %+v %+v", b, p)
		case reply.Add(maxTTL).After(issued.Add(longest)):
			t.Fatalf("the maximum exceeds the bounds: %+v %+v", b, p)
		case p.Expiry.Nanosecond() != 0:
			t.Fatalf("the date is not in whole seconds: %s", p.Expiry)
		}
	}
}
