// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

const day = 24 * time.Hour

func TestMaxLease(t *testing.T) {
	tests := map[string]struct {
		bounds bounds
		want   time.Duration
		by     limit
	}{
		"the mount decides where nothing else is set": {
			bounds{Mount: 768 * time.Hour, Grace: time.Minute}, 768 * time.Hour, limitMount,
		},
		"a policy of 0 is no bound": {
			bounds{Mount: day, Account: 2 * day, Policy: 0, Grace: time.Minute}, day, limitMount,
		},
		"a policy of 120 s leaves 55 s": {
			bounds{Mount: day, Policy: 120 * time.Second, Grace: time.Minute}, 55 * time.Second, limitPolicy,
		},
		"a policy of 900 s leaves 835 s": {
			bounds{Mount: day, Policy: 900 * time.Second, Grace: time.Minute}, 835 * time.Second, limitPolicy,
		},
		"a policy of a year leaves the mount's 32 days": {
			bounds{Mount: 768 * time.Hour, Policy: 31536000 * time.Second, Grace: time.Minute}, 768 * time.Hour, limitMount,
		},
		"a smaller grace leaves more of the policy": {
			bounds{Mount: day, Policy: 900 * time.Second, Grace: 10 * time.Second}, 885 * time.Second, limitPolicy,
		},
		"the account decides where it is lower than the mount": {
			bounds{Mount: day, Account: time.Hour, Grace: time.Minute}, time.Hour, limitAccount,
		},
		"the role decides where it is lower than the account": {
			bounds{Mount: day, Account: time.Hour, Role: time.Minute, Grace: time.Minute}, time.Minute, limitRole,
		},
		"a role cannot exceed the account": {
			bounds{Mount: day, Account: time.Hour, Role: 2 * time.Hour, Grace: time.Minute}, time.Hour, limitAccount,
		},
		"among equals the policy is named, which nobody can move from Vault": {
			bounds{Mount: 835 * time.Second, Role: 835 * time.Second, Policy: 900 * time.Second, Grace: time.Minute}, 835 * time.Second, limitPolicy,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, by := test.bounds.maxLease(); got != test.want || by != test.by {
				t.Errorf("got %s by %s, want %s by %s", got, by, test.want, test.by)
			}
		})
	}
}

func TestUsableBounds(t *testing.T) {
	tests := map[string]struct {
		bounds bounds
		usable bool
	}{
		"a policy of 95 s leaves just enough":    {bounds{Mount: day, Policy: 95 * time.Second, Grace: time.Minute}, true},
		"a policy of 94 s does not":              {bounds{Mount: day, Policy: 94 * time.Second, Grace: time.Minute}, false},
		"a policy shorter than the grace is not": {bounds{Mount: day, Policy: 10 * time.Second, Grace: time.Minute}, false},
		"a role of 20 s is not":                  {bounds{Mount: day, Role: 20 * time.Second, Grace: time.Minute}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.bounds.checkUsable(); (err == nil) != test.usable {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("the refusal shows the arithmetic", func(t *testing.T) {
		err := bounds{Mount: day, Policy: 90 * time.Second, Grace: time.Minute}.checkUsable()
		mustHold(t, err.Error(), "1m30s", "1m0s", "5s", "25s", "30s", "MaxAccessKeyExpirationSeconds")
	})
}

func TestPlanIssue(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 300e6, time.UTC)
	plenty := bounds{Mount: day, Grace: time.Minute}

	t.Run("the key outlives the lease by the grace, in whole seconds", func(t *testing.T) {
		p, err := planIssue(now, plenty, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if want := now.Truncate(time.Second).Add(time.Hour + time.Minute + time.Second); !p.Expiry.Equal(want) {
			t.Errorf("got %s, want %s", p.Expiry, want)
		}
	})
	t.Run("a TTL shorter than the least maximum is honoured", func(t *testing.T) {
		p, err := planIssue(now, plenty, 5*time.Second)
		if err != nil || p.Lease != 5*time.Second {
			t.Errorf("got %s, %v", p.Lease, err)
		}
	})
	t.Run("what the cloud took is taken off the lease", func(t *testing.T) {
		p, _ := planIssue(now, plenty, time.Hour)
		ttl, maxTTL, err := p.atReply(now.Add(20 * time.Second))
		if err != nil || ttl != time.Hour-20*time.Second || maxTTL != day-20*time.Second {
			t.Errorf("got %s of %s, %v", ttl, maxTTL, err)
		}
	})
	t.Run("a quick answer gives the whole TTL", func(t *testing.T) {
		p, _ := planIssue(now, plenty, time.Hour)
		if ttl, _, err := p.atReply(now.Add(30 * time.Millisecond)); err != nil || ttl != time.Hour {
			t.Errorf("got %s, %v", ttl, err)
		}
	})
	t.Run("so it does wherever in a second it begins", func(t *testing.T) {
		for fraction := range 1000 {
			began := now.Truncate(time.Second).Add(time.Duration(fraction) * time.Millisecond)
			p, _ := planIssue(began, plenty, time.Hour)
			if ttl, _, err := p.atReply(began.Add(400 * time.Millisecond)); err != nil || ttl != time.Hour {
				t.Fatalf("begun at %s: got %s, %v", began, ttl, err)
			}
		}
	})
	t.Run("a lease that is over before the reply is an error", func(t *testing.T) {
		p, _ := planIssue(now, plenty, 5*time.Second)
		if ttl, _, err := p.atReply(now.Add(6 * time.Second)); err == nil {
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
		b := bounds{Mount: time.Hour + pick(day), Grace: minExpiryGrace + pick(5*time.Minute)}
		if random.IntN(2) == 0 {
			b.Role = pick(day)
		}
		if random.IntN(2) == 0 {
			b.Policy = pick(day).Truncate(time.Second)
		}
		issued := time.Unix(1.8e9, random.Int64N(1e9))
		p, err := planIssue(issued, b, time.Second+pick(day))
		if err != nil {
			continue
		}
		reply := issued.Add(pick(issueBudget))
		ttl, maxTTL, err := p.atReply(reply)
		if err != nil {
			continue
		}
		longest, _ := b.maxLease()
		end := reply.Add(ttl)
		switch {
		case end.After(p.Expiry.Add(slack - b.Grace)):
			t.Fatalf("the lease ends within the grace: %+v %+v", b, p)
		case p.Expiry.After(end.Add(b.Grace + 2*time.Second).Add(reply.Sub(issued))):
			t.Fatalf("the key lives too long: %+v %+v", b, p)
		case b.Policy > 0 && p.Expiry.After(issued.Add(b.Policy-clockMargin)):
			t.Fatalf("the key exceeds the policy: %+v %+v", b, p)
		case reply.Add(maxTTL).After(issued.Add(longest)):
			t.Fatalf("the maximum exceeds the bounds: %+v %+v", b, p)
		case p.Expiry.Nanosecond() != 0:
			t.Fatalf("the date is not in whole seconds: %s", p.Expiry)
		}
	}
}

func TestPlanRenewal(t *testing.T) {
	sys := &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: day}
	issued := time.Now().Add(-10 * time.Minute)
	life := leaseLife{Issued: issued, Started: issued.Add(time.Second), KeyExpiry: issued.Add(16 * time.Minute)}
	plenty := bounds{Mount: day, Grace: time.Minute}

	plan := func(t *testing.T, b bounds, increment time.Duration) renewalPlan {
		t.Helper()
		p, err := planRenewal(sys, time.Now(), life, b, increment, 15*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	near := func(got, want time.Duration) bool { return (got - want).Abs() <= 2*time.Second }

	t.Run("without an increment the role's TTL counts from now", func(t *testing.T) {
		p := plan(t, plenty, 0)
		if p.TTL != 15*time.Minute || !near(time.Until(p.Expiry), 16*time.Minute) {
			t.Errorf("got %s, key for %s", p.TTL, time.Until(p.Expiry))
		}
	})
	t.Run("a tiny increment does not move the date back", func(t *testing.T) {
		if p := plan(t, plenty, time.Second); !p.Expiry.Equal(life.KeyExpiry) {
			t.Errorf("got %s, was %s", p.Expiry, life.KeyExpiry)
		}
	})
	t.Run("an increment beyond the maximum is cut to it, counted from the issue", func(t *testing.T) {
		b := plenty
		b.Role = 20 * time.Minute
		if p := plan(t, b, time.Hour); !near(p.TTL, 10*time.Minute) {
			t.Errorf("got %s", p.TTL)
		}
	})
	t.Run("past the maximum it is refused", func(t *testing.T) {
		b := plenty
		b.Role = 9 * time.Minute
		if _, err := planRenewal(sys, time.Now(), life, b, 0, 15*time.Minute); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("a policy lowered below what has passed is refused and not taken for no maximum", func(t *testing.T) {
		b := plenty
		b.Policy = 65 * time.Second
		if _, err := planRenewal(sys, time.Now(), life, b, 0, 15*time.Minute); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("a lowered policy lowers the date and the maximum", func(t *testing.T) {
		b := plenty
		b.Policy = 20 * time.Minute
		p := plan(t, b, time.Hour)
		if latest := issued.Add(b.Policy - clockMargin); p.Expiry.After(latest) {
			t.Errorf("the key's date %s is beyond %s", p.Expiry, latest)
		}
		if end := life.Started.Add(p.MaxTTL); end.After(p.Expiry.Add(-b.Grace).Add(time.Second)) {
			t.Errorf("Vault may let the lease run to %s, and the key ends at %s", end, p.Expiry)
		}
	})
	t.Run("a slow cloud lowers the maximum for this renewal, since Vault counts the increment from the reply", func(t *testing.T) {
		p := plan(t, plenty, time.Hour)
		reply := time.Now().Add(20 * time.Second)
		ttl, maxTTL, err := p.atReply(reply)
		if err != nil {
			t.Fatal(err)
		}
		if end := life.Started.Add(maxTTL); end.After(p.Expiry.Add(slack-p.grace)) || ttl > time.Hour-19*time.Second {
			t.Errorf("TTL %s, maximum until %s, key until %s", ttl, end, p.Expiry)
		}
	})
}
