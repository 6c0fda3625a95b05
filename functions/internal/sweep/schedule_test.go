// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

const (
	// sweepSchedulesVariable chooses the schedules: empty, a sample; "all"; or the text of one,
	// as a failure prints it.
	sweepSchedulesVariable = "CLOUDKEYS_SCHEDULES"

	sampledSweeps = 13 // one in so many
)

// sabotaged is Vault's ledger and the archive with faults before them.
type sabotaged struct {
	*memory
	*faulttest.Saboteur
}

func (s sabotaged) Keys(ctx context.Context, account, user string) (keys []fleet.LedgerKey, err error) {
	err = s.Do(ctx, "ledger", func() (err error) { keys, err = s.memory.Keys(ctx, account, user); return err })
	return keys, err
}

func (s sabotaged) Key(ctx context.Context, id string) (key *fleet.LedgerKey, err error) {
	err = s.Do(ctx, "ledger key", func() (err error) { key, err = s.memory.Key(ctx, id); return err })
	return key, err
}

func (s sabotaged) Load(ctx context.Context, account string) (state State, err error) {
	err = s.Do(ctx, "load", func() (err error) { state, err = s.memory.Load(ctx, account); return err })
	return state, err
}

func (s sabotaged) Save(ctx context.Context, account string, state State) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // as the archive's client does
	defer cancel()
	return s.Do(ctx, "save", func() error { return s.memory.Save(ctx, account, state) })
}

// sweepScene is an account with keys that must go, and keys that must stay.
type sweepScene struct {
	*world
	saboteur     *faulttest.Saboteur
	own          string // the key that signs
	doomed, kept []string
}

// inOutscale makes the account one of OUTSCALE.
func (s *sweepScene) inOutscale(t *testing.T) {
	s.saboteur.Cloud = contract.New(t).Wrap(s.cloud.Transport())
	s.build(t, s.saboteur, "")
	root := s.account.RootKey()
	s.own = root.AccessKey
	s.job.Connect = opening(provider.Config{
		Provider: clouds.Outscale, AccessKey: root.AccessKey, SecretKey: provider.Secret(root.SecretKey), Region: "eu-west-2",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6, Base: s.saboteur,
	})
}

// inHuawei makes the account one of Huawei Cloud.
func (s *sweepScene) inHuawei(t *testing.T) {
	s.saboteur.Cloud, s.saboteur.Huawei = s.cloud.Transport(), true
	s.build(t, s.saboteur, "")
	s.domain = s.cloud.AddDomain("acme")
	s.domain.AddUser("functions", cloudsim.SecurityAdministrator)
	key := s.domain.AddKey(cloudsim.IAMKeySpec{User: "functions"})
	s.own = key.AccessKey
	s.job.Accounts[0].Provider, s.job.Accounts[0].AccountID = clouds.Huawei, s.domain.ID()
	s.job.Connect = opening(provider.Config{
		Provider: clouds.Huawei, AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "ap-southeast-1",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6, Base: s.saboteur,
	})
}

func newSweepScene(t *testing.T, in func(s *sweepScene, t *testing.T)) *sweepScene {
	t.Helper()
	s := &sweepScene{world: &world{cloud: cloudsim.New()}, saboteur: &faulttest.Saboteur{HangUp: func() {}}}
	s.saboteur.Arm("", "")
	in(s, t)
	s.job.Settings.Workers, s.job.Settings.MaxKeys = 1, 4 // the whole plan: one more would be refused
	s.job.Ledger, s.job.Store = sabotaged{s.ledger, s.saboteur}, sabotaged{s.ledger, s.saboteur}
	ourLabel := ours(keylabel.KindLease)
	s.kept = []string{
		s.own,
		s.lease("leaseholder"), s.lease("deploy"),
		s.add(cloudsim.KeySpec{User: "deploy"}), // somebody else's
		s.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindRoot), Expires: ahead(30 * dayLong)}),
		s.add(cloudsim.KeySpec{User: "ci", Tag: keylabel.New("OTHERAAAAAAAAAAA", keylabel.KindLease).String(), Expires: ahead(30 * dayLong)}),
		s.add(cloudsim.KeySpec{User: "ci", Tag: ourLabel, Created: time.Now(), Expires: ahead(30 * dayLong)}),
	}
	s.ledger.entries = append(s.ledger.entries, fleet.LedgerKey{AccessKey: s.kept[4], Kind: "root", User: "deploy"},
		fleet.LedgerKey{AccessKey: s.kept[6], Kind: "lease", User: "ci"})
	s.doomed = []string{
		s.add(cloudsim.KeySpec{User: "deploy", Tag: ourLabel, Expires: ahead(30 * dayLong)}),                  // an orphan
		s.add(cloudsim.KeySpec{User: "ci", Tag: ourLabel, Expires: ahead(30 * dayLong), Inactive: true}),      // one in quarantine
		s.add(cloudsim.KeySpec{User: "gone", Tag: ours(keylabel.KindStatic), Expires: ahead(-3 * time.Hour)}), // an expired one
		s.add(cloudsim.KeySpec{User: "gone", Tag: ours(keylabel.KindLease), Expires: ahead(90 * dayLong)}),
	}
	return s
}

// sweep is one process of the function.
func (s *sweepScene) sweep(t *testing.T, point, fault string) {
	t.Helper()
	s.saboteur.Arm(point, fault)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	s.saboteur.HangUp = cancel
	result, _ := Run(ctx, s.job)
	defer func() { _ = result.Close() }()
	if !s.saboteur.Dead() && result.Total().Planned > s.job.Settings.MaxKeys {
		for f, err := range result.Findings() {
			if err == nil && (f.Outcome == OutcomeDeleted || f.Outcome == OutcomeDeactivated) {
				t.Errorf("%s was changed although the plan of %d keys passes the cap", f.AccessKey, result.Total().Planned)
			}
		}
	}
	s.mustHaveKept(t)
}

// mustHaveKept expects every key that must stay to be as it was.
func (s *sweepScene) mustHaveKept(t *testing.T) {
	t.Helper()
	for _, id := range s.kept {
		if is := s.state(id); !strings.EqualFold(is, cloudsim.Active) {
			t.Errorf("access key %s must stay, and is %s", id, is)
		}
	}
}

// playSweep has a fault hit the first run, and expects the next ones to end what it began.
func playSweep(t *testing.T, in func(s *sweepScene, t *testing.T), point, fault string) (trail []string, hits int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSweepScene(t, in)
		s.sweep(t, point, fault)
		if trail, hits = s.saboteur.Trail(), s.saboteur.Injected(); point != "" && hits != 1 {
			t.Error("the fault never hits: the calls before it differ from run to run")
		}
		for range 3 { // the quarantine is a week
			s.sweep(t, "", "")
			<-time.After(4 * dayLong)
		}
		s.sweep(t, "", "")
		for _, id := range s.doomed {
			s.mustBe(t, id, "deleted")
		}
	})
	return trail, hits
}

// TestSweepSchedules has every fault hit every call of an enforcing run: to the cloud, to
// Vault and to the archive, the end of the process included. Whatever happens, no key is touched
// that must stay, and the runs after it do what is left to do.
func TestSweepSchedules(t *testing.T) { sweepSchedules(t, (*sweepScene).inOutscale) }

// TestSweepSchedulesOnHuaweiCloud is the same where keys never expire.
func TestSweepSchedulesOnHuaweiCloud(t *testing.T) { sweepSchedules(t, (*sweepScene).inHuawei) }

func sweepSchedules(t *testing.T, in func(s *sweepScene, t *testing.T)) {
	t.Helper()
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	faulttest.Schedules{
		Variable: sweepSchedulesVariable, Sampled: sampledSweeps, Package: "./functions/internal/sweep",
		Play: func(t *testing.T, point, fault string) ([]string, int) { return playSweep(t, in, point, fault) },
	}.Run(t)
}
