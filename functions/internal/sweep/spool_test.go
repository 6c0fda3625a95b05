// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// crowd is a cloud of so many users with ten keys each, which exist only while they are
// listed. The methods that it lacks are never called.
type crowd struct {
	fleet.Cloud
	users  int
	listed atomic.Int64
	live   atomic.Uint64 // the most heap in use after a collection
}

func (c *crowd) WhoAmI(context.Context) (provider.Whoami, error) {
	return provider.Whoami{AccountID: testAccount, Key: provider.Key{ID: "OWN"}, Identity: provider.Identity{Kind: provider.IdentityRoot}}, nil
}

func (c *crowd) AccessPolicy(context.Context) (provider.AccessPolicy, error) {
	return provider.AccessPolicy{}, nil
}

func (c *crowd) ExpiresKeys() bool { return true }

func (c *crowd) ListUsers(context.Context) iter.Seq2[provider.User, error] {
	return func(yield func(provider.User, error) bool) {
		for i := range c.users {
			if !yield(provider.User{Name: userName(i)}, nil) {
				return
			}
		}
	}
}

func (c *crowd) ListKeys(_ context.Context, user string) ([]provider.Key, error) {
	if user == "" {
		return nil, nil
	}
	if c.listed.Add(1)%int64(max(1, c.users/8)) == 0 {
		c.measure()
	}
	keys := make([]provider.Key, 10)
	for i := range keys {
		keys[i] = provider.Key{
			ID: fmt.Sprintf("AKIA%s%06d", user[5:], i), User: user, Active: true,
			Created: time.Now().Add(-time.Duration(i*30) * dayLong), Expires: time.Now().Add(-dayLong),
		}
	}
	return keys, nil
}

func (c *crowd) measure() {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	for {
		before := c.live.Load()
		if stats.HeapAlloc <= before || c.live.CompareAndSwap(before, stats.HeapAlloc) {
			return
		}
	}
}

// sweepCrowd plans for so many keys and returns the most live heap seen on the way.
func sweepCrowd(tb testing.TB, keys int) uint64 {
	tb.Helper()
	cloud := &crowd{users: keys / 10}
	result, err := Run(context.Background(), Job{
		Settings: settings.Sweep{
			Run: settings.Run{Mode: settings.Report, Workers: 4}, MinAge: time.Hour, MaxAge: 90 * dayLong, Grace: time.Hour, Quarantine: dayLong,
			Foreign: settings.Enforce, MaxKeys: 1, MaxPercent: 1,
		},
		Accounts: []fleet.Account{{Name: "default", AccountID: testAccount}},
		Connect:  func(context.Context, fleet.Account) (fleet.Cloud, func(), error) { return cloud, func() {}, nil },
		Dir:      tb.TempDir(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	seen := 0
	for _, err := range result.Findings() {
		if err != nil {
			tb.Fatal(err)
		}
		seen++
	}
	if total := result.Total(); seen != keys || total.Seen != keys || total.Planned == 0 || total.Protected == 0 {
		tb.Fatalf("got %d findings and %+v, want %d", seen, total, keys)
	}
	if err := result.Close(); err != nil {
		tb.Fatal(err)
	}
	return cloud.live.Load()
}

func TestMemoryDoesNotGrowWithTheKeys(t *testing.T) {
	few, many := sweepCrowd(t, 2_000), sweepCrowd(t, 20_000)
	const slack = 1 << 20
	if many > few+slack {
		t.Errorf("2,000 keys took %d KiB and 20,000 took %d KiB", few>>10, many>>10)
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(float64(sweepCrowd(b, keys))/(1<<20), "live-MiB")
			}
		})
	}
}

func TestASpoolGivesBackWhatItWasGiven(t *testing.T) {
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	want := []Finding{
		{
			Account: "default", AccessKey: "AK", User: "u", Active: true, Created: time.Unix(1, 0).UTC(), Class: ClassOwn, Outcome: OutcomeGone,
			Detail: "é",
		},
		{},
		{User: strings.Repeat("u", 100_000)},
	}
	for _, f := range want {
		if err := s.add(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []Finding
	for f, err := range s.read() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}
