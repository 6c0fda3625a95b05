// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

// policySchedulesVariable chooses the schedules: empty, a sample; "all"; or the text of one,
// as a failure prints it.
const policySchedulesVariable = "CLOUDKEYS_SCHEDULES"

const sampledSyncs = 7 // one in so many

// sabotaged is Vault with faults before it.
type sabotaged struct {
	*vault
	*faulttest.Saboteur
}

func (s sabotaged) Keys(ctx context.Context, account, user string) (keys []fleet.LedgerKey, err error) {
	err = s.Do(ctx, "ledger", func() (err error) { keys, err = s.vault.Keys(ctx, account, user); return err })
	return keys, err
}

func (s sabotaged) Key(ctx context.Context, id string) (key *fleet.LedgerKey, err error) {
	err = s.Do(ctx, "ledger key", func() (err error) { key, err = s.vault.Key(ctx, id); return err })
	return key, err
}

func (s sabotaged) Refresh(ctx context.Context, account string) error {
	return s.Do(ctx, "refresh", func() error { return s.vault.Refresh(ctx, account) })
}

func (s sabotaged) MaxLease(ctx context.Context) (lease time.Duration, err error) {
	err = s.Do(ctx, "max-lease", func() (err error) { lease, err = s.vault.MaxLease(ctx); return err })
	return lease, err
}

func (s sabotaged) TuneMaxLease(ctx context.Context, lease time.Duration) error {
	return s.Do(ctx, "tune", func() error {
		s.max = lease
		return s.vault.TuneMaxLease(ctx, lease)
	})
}

// syncScene is an account whose policy is to be tightened once a key of the engine is brought
// forward, with a key whose lease lasts long enough to be left alone.
type syncScene struct {
	*world
	saboteur       *faulttest.Saboteur
	free, promised string
}

func newSyncScene(t *testing.T) *syncScene {
	t.Helper()
	s := &syncScene{world: &world{cloud: cloudsim.New(), vault: &vault{max: 30 * day}}, saboteur: &faulttest.Saboteur{HangUp: func() {}}}
	s.account = s.cloud.AddAccount(testAccount)
	own := s.account.AddKey(cloudsim.KeySpec{Expires: ahead(12 * time.Hour)})
	s.account.DeleteKey(s.account.RootKey().AccessKey) // it never expires
	s.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: int64(9 * day / time.Second), RequireTrustedEnv: true})
	label := keylabel.New(testInstance, keylabel.KindLease).String()
	s.free = s.account.AddKey(cloudsim.KeySpec{User: "deploy", Tag: label, Expires: ahead(5 * day)}).AccessKey
	s.promised = s.account.AddKey(cloudsim.KeySpec{
		User: "ci", Tag: keylabel.New(testInstance, keylabel.KindLease).String(),
		Expires: ahead(20 * time.Hour),
	}).AccessKey
	s.vault.entries = []fleet.LedgerKey{
		{AccessKey: s.free, Kind: "lease", User: "deploy", Expires: ahead(time.Hour)},
		{AccessKey: s.promised, Kind: "lease", User: "ci", Expires: ahead(20 * time.Hour)},
	}
	s.saboteur.Cloud = contract.New(t).Wrap(s.cloud.Transport())
	sabotaged := sabotaged{s.vault, s.saboteur}
	s.job = Job{
		Settings: settings.PolicySync{
			Run: settings.Run{Mode: settings.Enforce, Reserve: time.Second}, Wanted: day, Ratchet: true, Shorten: true, TuneMaxLease: true,
		},
		Accounts: []fleet.Account{{
			Name: "default", Config: provider.Config{Provider: "outscale"}, AccountID: testAccount, Instance: testInstance,
			ExpiryGrace: time.Minute - lifetime.ClockMargin,
		}},
		Ledger: sabotaged, Vault: sabotaged,
		Connect: opening(provider.Config{
			Provider: clouds.Outscale, AccessKey: own.AccessKey, SecretKey: provider.Secret(own.SecretKey), Region: "eu-west-2",
			UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6, Base: s.saboteur,
		}),
	}
	return s
}

// sync is one process of the function.
func (s *syncScene) sync(t *testing.T, point, fault string) error {
	t.Helper()
	s.saboteur.Arm(point, fault)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	s.saboteur.HangUp = cancel
	_, err := Run(ctx, s.job)
	s.mustBeSafe(t)
	return err
}

// mustBeSafe expects no key cut below its lease, no policy but the former and tighter ones, what
// the sync does not decide as it was, and no promise of Vault's that the policy forbids.
func (s *syncScene) mustBeSafe(t *testing.T) {
	t.Helper()
	for _, entry := range s.vault.entries {
		if key, there := s.account.Key(entry.AccessKey); !there || key.State != cloudsim.Active || key.Expires.Before(entry.Expires) {
			t.Errorf("access key %s lives until %s, and its lease until %s", entry.AccessKey, key.Expires, entry.Expires)
		}
	}
	policy := s.account.Policy()
	if life := time.Duration(policy.MaxAccessKeyExpirationSeconds) * time.Second; life < day || life > 9*day {
		t.Errorf("the policy is %s", life)
	}
	if !policy.RequireTrustedEnv {
		t.Error("trusted sessions were switched off")
	}
	if s.vault.max < day-time.Minute {
		t.Errorf("the mount's longest lease is %s", s.vault.max)
	}
}

func playSync(t *testing.T, point, fault string) (trail []string, hits int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSyncScene(t)
		_ = s.sync(t, point, fault)
		if trail, hits = s.saboteur.Trail(), s.saboteur.Injected(); point != "" && hits != 1 {
			t.Error("the fault never hits: the calls before it differ from run to run")
		}
		s.vault.refreshed = nil
		if err := s.sync(t, "", ""); err != nil {
			t.Errorf("the next run: %v", err)
		}
		s.mustHavePolicy(t, day)
		if s.vault.max != day-time.Minute || len(s.vault.refreshed) != 1 {
			t.Errorf("the mount's longest lease is %s, and the engine was told %d times", s.vault.max, len(s.vault.refreshed))
		}
	})
	return trail, hits
}

// TestPolicySchedules has every fault hit every call of an enforcing run, to the cloud and
// to Vault, the end of the process included. Whatever happens, no lease is cut, nothing is
// loosened, and the run after it ends what was begun.
func TestPolicySchedules(t *testing.T) {
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	faulttest.Schedules{
		Variable: policySchedulesVariable, Sampled: sampledSyncs, Package: "./functions/internal/policysync",
		Play: playSync,
	}.Run(t)
}
