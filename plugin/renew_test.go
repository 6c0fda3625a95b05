// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const day = 24 * time.Hour

func TestRenew(t *testing.T) {
	tests := map[string]func(t *testing.T, v *testVault){
		"a lease is renewed for hours and its key follows, then it ends and the key is gone": func(t *testing.T, v *testVault) {
			v.configure("ttl=15m", "max_ttl=8h")
			l := v.lease("app")
			for issued := time.Now(); time.Since(issued) < 7*time.Hour; {
				v.mustFit(l, time.Minute)
				v.advance(10 * time.Minute)
				if err := v.renew(l, 0); err != nil {
					t.Fatalf("after %s: %v", time.Since(issued), err)
				}
			}
			v.mustFit(l, time.Minute)
			v.advance(time.Hour)
			v.mustHaveLive(0)
			if n := len(v.keys()); n != 1 {
				t.Errorf("%d keys in the cloud, want the root key alone", n)
			}
		},
		"one renewal with a tiny increment does not shorten the next default renewal": func(t *testing.T, v *testVault) {
			v.configure("ttl=15m")
			l := v.lease("app")
			before := v.mustFit(l, time.Minute).Expires
			v.advance(time.Minute)
			if err := v.renew(l, time.Second); err != nil {
				t.Fatal(err)
			}
			if key, _ := v.key(l.AccessKey()); key.Expires.Before(before) {
				t.Errorf("the date moved back to %s", key.Expires)
			}
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			if left := time.Until(l.Expires); left != 15*time.Minute {
				t.Errorf("%s left, want 15m", left)
			}
			v.mustFit(l, time.Minute)
		},
		"renewals stop at the policy's bound, counted from the issue": func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.rootKeyWithDate(10 * time.Minute)
			v.configure("ttl=10m")
			l := v.lease("app")
			issued := time.Now()
			v.advance(9 * time.Minute)
			if err := v.renew(l, time.Hour); err != nil {
				t.Fatal(err)
			}
			v.mustFit(l, time.Minute)
			if got := l.Expires.Sub(issued); got > 835*time.Second {
				t.Errorf("the lease may last %s", got)
			}
		},
		"a renewal past the maximum is refused before any cloud call": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			l := v.lease("app")
			v.advance(9 * time.Minute)
			v.write("roles/app", "ttl=1m", "max_ttl=5m")
			v.sim.ResetCalls()
			if err := v.renew(l, 0); err == nil {
				t.Error("renewed")
			} else {
				mustHold(t, err.Error(), "maximum life")
			}
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d cloud calls", n)
			}
		},
		"a key that has vanished fails the renewal with what to do": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.settleNew()
			v.deleteKey(l.AccessKey())
			err := v.renew(l, 0)
			if err == nil {
				t.Fatal("renewed")
			}
			mustHold(t, err.Error(), l.AccessKey(), "no longer exists", "revoke this lease and ask for a new one")
		},
		"a policy lowered in the cloud is noticed when it refuses the date": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=24h")
			l := v.lease("app")
			v.deleteKey(v.account.RootKey().AccessKey)
			v.rootKeyWithDate(10 * time.Minute)
			v.write("config/default", v.accountFields()...)
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			if err := v.renew(l, time.Hour); err != nil {
				t.Fatal(err)
			}
			if left := time.Until(l.Expires); left > 835*time.Second {
				t.Errorf("renewed for %s", left)
			}
			v.mustFit(l, time.Minute)
		},
		"it is noticed as well where the user of the key has another name by now": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=24h")
			l := v.lease("app")
			v.deleteKey(v.account.RootKey().AccessKey)
			v.rootKeyWithDate(10 * time.Minute)
			v.write("config/default", v.accountFields()...)
			v.renameUser("app", "ops")
			v.account.AddUser("app") // who has none of its keys
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			if err := v.renew(l, time.Hour); err != nil {
				t.Fatal(err)
			}
			v.mustFit(l, time.Minute)
		},
		"a lease outlives its role and keeps the role's TTL": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			l := v.lease("app")
			if resp, err := v.try("delete", "roles/app"); failure(resp, err) != nil {
				t.Fatal(failure(resp, err))
			}
			v.advance(5 * time.Minute)
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			if left := time.Until(l.Expires); left != 10*time.Minute {
				t.Errorf("%s left", left)
			}
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"a renewal crashed between ledger and cloud does not let a later one move the date back": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			old := *l
			if err := v.renew(l, time.Hour); err != nil { // Vault dies before it stores this
				t.Fatal(err)
			}
			far, _ := v.key(l.AccessKey())
			if err := v.renew(&old, 0); err != nil {
				t.Fatal(err)
			}
			if key, _ := v.key(l.AccessKey()); key.Expires.Before(far.Expires) {
				t.Errorf("moved back from %s to %s", far.Expires, key.Expires)
			}
		},
		"a renewal while the cloud is slow never lets the lease end after the key": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			defer v.order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 14 * time.Second})()
			for _, increment := range []time.Duration{0, time.Hour} {
				if err := v.renew(l, increment); err != nil {
					t.Fatal(err)
				}
				v.mustFit(l, time.Minute+14*time.Second)
			}
		},
		"a renewal costs one cloud call": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.sim.ResetCalls()
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			if n := len(v.sim.Calls()); n != 1 {
				t.Errorf("%d calls", n)
			}
		},
	}
	inBubble(t, tests)
	inHuawei(t, without(t, tests,
		"renewals stop at the policy's bound, counted from the issue",
		"a policy lowered in the cloud is noticed when it refuses the date",
		"it is noticed as well where the user of the key has another name by now",
	))
}

func TestPlanRenewal(t *testing.T) {
	sys := &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: day}
	issued := time.Now().Add(-10 * time.Minute)
	life := lifetime.Life{Issued: issued, Started: issued.Add(time.Second), KeyExpiry: issued.Add(16 * time.Minute)}
	plenty := lifetime.Bounds{Mount: day, Grace: time.Minute}

	plan := func(t *testing.T, b lifetime.Bounds, increment time.Duration) lifetime.RenewalPlan {
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
		if latest := issued.Add(b.Policy - lifetime.ClockMargin); p.Expiry.After(latest) {
			t.Errorf("the key's date %s is beyond %s", p.Expiry, latest)
		}
		if end := life.Started.Add(p.MaxTTL); end.After(p.Expiry.Add(-b.Grace).Add(time.Second)) {
			t.Errorf("Vault may let the lease run to %s, and the key ends at %s", end, p.Expiry)
		}
	})
	t.Run("a slow cloud lowers the maximum for this renewal, since Vault counts the increment from the reply", func(t *testing.T) {
		p := plan(t, plenty, time.Hour)
		reply := time.Now().Add(20 * time.Second)
		ttl, maxTTL, err := p.AtReply(reply)
		if err != nil {
			t.Fatal(err)
		}
		if end := life.Started.Add(maxTTL); end.After(p.Expiry.Add(lifetime.Slack-plenty.Grace)) || ttl > time.Hour-19*time.Second {
			t.Errorf("TTL %s, maximum until %s, key until %s", ttl, end, p.Expiry)
		}
	})
}
