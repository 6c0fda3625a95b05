// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// Vault's own numbers (vault/expiration.go, vault/rollback.go).
const (
	revokeAttempts = 6
	revokeTimeout  = 90 * time.Second
	retryBase      = 10 * time.Second
	rollbackPeriod = time.Minute
)

// testLease is a lease as Vault's expiration manager keeps it.
type testLease struct {
	Data      map[string]any // what the client got
	Secret    *logical.Secret
	IssueTime time.Time
	Expires   time.Time

	attempts    int
	retryAt     time.Time
	Irrevocable bool
}

// AccessKey is the id of the leased key.
func (l *testLease) AccessKey() string { return l.Data["access_key"].(string) }

// isSession tells temporary keys, which end by themselves.
func (l *testLease) isSession() bool {
	token, _ := l.Data["security_token"].(string)
	return token != ""
}

// lease reads creds/<role> and registers the lease as Vault does.
func (v *testVault) lease(role string, fields ...string) *testLease {
	v.t.Helper()
	l, err := v.tryLease(v.t.Context(), role, fields...)
	if err != nil {
		v.t.Fatalf("creds/%s: %v", role, err)
	}
	return l
}

func (v *testVault) tryLease(ctx context.Context, role string, fields ...string) (*testLease, error) {
	v.t.Helper()
	resp, err := v.request(ctx, logical.ReadOperation, "creds/"+role, fields...)
	if err := failure(resp, err); err != nil {
		return nil, err
	}
	return v.register(resp)
}

// register stores the lease of an answer.
func (v *testVault) register(resp *logical.Response) (*testLease, error) {
	v.t.Helper()
	ttl, _, err := framework.CalculateTTL(v.system, 0, resp.Secret.TTL, 0, resp.Secret.MaxTTL, 0, time.Time{})
	if err != nil {
		return nil, err
	}
	resp.Secret.TTL = ttl
	l := &testLease{Data: resp.Data, IssueTime: time.Now()}
	l.Secret = v.stored(resp.Secret)
	l.Expires = l.IssueTime.Add(ttl)
	v.leases = append(v.leases, l)
	return l, nil
}

// stored is a secret as it comes back from storage: JSON, without the fields that
// Vault does not keep.
func (v *testVault) stored(secret *logical.Secret) *logical.Secret {
	v.t.Helper()
	return roundTrip(v.t, secret)
}

// renew renews as the expiration manager does, the client's increment before the
// engine's TTL.
func (v *testVault) renew(l *testLease, increment time.Duration) error {
	v.t.Helper()
	return v.renewIn(v.t.Context(), l, increment)
}

func (v *testVault) renewIn(ctx context.Context, l *testLease, increment time.Duration) error {
	v.t.Helper()
	if !time.Now().Before(l.Expires) {
		return errors.New("lease expired")
	}
	secret := *v.stored(l.Secret)
	secret.IssueTime, secret.Increment = l.IssueTime, increment
	resp, err := v.engine.HandleRequest(ctx, &logical.Request{
		Operation: logical.RenewOperation, Path: "creds/app", Storage: v.storage, Secret: &secret, Data: l.Data,
	})
	if err := failure(resp, err); err != nil {
		return err
	}
	ttl, _, err := framework.CalculateTTL(v.system, increment, resp.Secret.TTL, 0, resp.Secret.MaxTTL, 0, l.IssueTime)
	if err != nil {
		return err
	}
	resp.Secret.TTL = ttl
	l.Secret = v.stored(resp.Secret)
	l.Expires = time.Now().Add(ttl)
	return nil
}

// revoke revokes as the expiration manager does; a success forgets the lease.
func (v *testVault) revoke(l *testLease) error {
	v.t.Helper()
	return v.revokeIn(v.t.Context(), l)
}

func (v *testVault) revokeIn(ctx context.Context, l *testLease) error {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	resp, err := v.engine.HandleRequest(ctx, &logical.Request{
		Operation: logical.RevokeOperation, Path: "creds/app", Storage: v.storage, Secret: v.stored(l.Secret), Data: l.Data,
	})
	if err := failure(resp, err); err != nil {
		return err
	}
	v.leases = slices.DeleteFunc(v.leases, func(other *testLease) bool { return other == l })
	return nil
}

// mustRevoke revokes and fails the test where that fails.
func (v *testVault) mustRevoke(l *testLease) {
	v.t.Helper()
	if err := v.revoke(l); err != nil {
		v.t.Fatalf("revoke: %v", err)
	}
}

// tick is one round of Vault's rollback manager.
func (v *testVault) tick() error {
	v.t.Helper()
	return v.tickIn(v.t.Context())
}

func (v *testVault) tickIn(ctx context.Context) error {
	v.t.Helper()
	resp, err := v.engine.HandleRequest(ctx, &logical.Request{Operation: logical.RollbackOperation, Storage: v.storage})
	return failure(resp, err)
}

// advance lets time pass: leases that end are revoked, with Vault's six attempts, and
// the rollback manager ticks every minute. After each step the invariant holds.
func (v *testVault) advance(d time.Duration) {
	v.t.Helper()
	end := time.Now().Add(d)
	nextTick := time.Now().Add(rollbackPeriod)
	for time.Now().Before(end) {
		next := end
		if nextTick.Before(next) {
			next = nextTick
		}
		for _, l := range v.leases {
			if due := l.due(); !l.Irrevocable && due.Before(next) {
				next = due
			}
		}
		<-time.After(time.Until(next))
		for _, l := range slices.Clone(v.leases) {
			if !l.Irrevocable && !time.Now().Before(l.due()) {
				v.expire(l)
			}
		}
		if !time.Now().Before(nextTick) {
			if err := v.tick(); err != nil {
				v.t.Logf("tick: %v", err)
			}
			nextTick = time.Now().Add(rollbackPeriod)
		}
		v.invariant()
	}
}

// due is when the lease is revoked, or tried again.
func (l *testLease) due() time.Time {
	if l.retryAt.After(l.Expires) {
		return l.retryAt
	}
	return l.Expires
}

func (v *testVault) expire(l *testLease) {
	v.t.Helper()
	err := v.revoke(l)
	if err == nil {
		return
	}
	v.t.Logf("revoke, attempt %d: %v", l.attempts+1, err)
	l.retryAt = time.Now().Add(retryBase << l.attempts)
	if l.attempts++; l.attempts == revokeAttempts {
		l.Irrevocable = true
	}
}

// mustFit holds a lease against its key: the lease ends no later than the key, and the
// key no later than lease and grace, give or take a second.
func (v *testVault) mustFit(l *testLease, grace time.Duration) cloudsim.Key {
	v.t.Helper()
	key, ok := v.key(l.AccessKey())
	if !ok {
		v.t.Fatalf("access key %s is not in the cloud", l.AccessKey())
	}
	if key.Expires.Before(l.Expires) {
		v.t.Errorf("the lease ends %s after its key (%s)", l.Expires.Sub(key.Expires), key.Expires)
	}
	if latest := l.Expires.Add(grace + 2*time.Second); key.Expires.After(latest) {
		v.t.Errorf("the key outlives its lease by %s, with a grace of %s", key.Expires.Sub(l.Expires), grace)
	}
	return key
}
