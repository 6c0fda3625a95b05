// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const (
	testAccount  = "123456789012"
	testInstance = "INSTANCEAAAAAAAA"
)

// vault is what the sync sees of Vault.
type vault struct {
	entries   []fleet.LedgerKey
	err       error
	refreshed []string
	max       time.Duration
	tuned     time.Duration
}

func (v *vault) Keys(_ context.Context, _, user string) ([]fleet.LedgerKey, error) {
	var found []fleet.LedgerKey
	for _, entry := range v.entries {
		if entry.User == user {
			found = append(found, entry)
		}
	}
	return found, v.err
}

func (v *vault) Key(_ context.Context, id string) (*fleet.LedgerKey, error) {
	for _, entry := range v.entries {
		if entry.AccessKey == id {
			return &entry, v.err
		}
	}
	return nil, v.err
}

func (v *vault) Empty(context.Context, string) (bool, error) { return len(v.entries) == 0, v.err }

func (v *vault) Refresh(_ context.Context, account string) error {
	v.refreshed = append(v.refreshed, account)
	return nil
}

func (v *vault) MaxLease(context.Context) (time.Duration, error) { return v.max, nil }

func (v *vault) TuneMaxLease(_ context.Context, lease time.Duration) error {
	v.tuned = lease
	return nil
}

type world struct {
	cloud   *cloudsim.Cloud
	account *cloudsim.Account
	vault   *vault
	job     Job
	own     string
}

// newWorld has an account whose only key signs and lives half an hour.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cloud: cloudsim.New(), vault: &vault{max: 30 * day}}
	w.account = w.cloud.AddAccount(testAccount)
	own := w.account.AddKey(cloudsim.KeySpec{Expires: ahead(30 * time.Minute), Trusted: true})
	w.account.DeleteKey(w.account.RootKey().AccessKey) // it never expires
	w.own = own.AccessKey
	network := &http.Transport{}
	t.Cleanup(network.CloseIdleConnections)
	w.job = newJob(w, nil)
	w.connect(t, own, contract.New(t).Wrap(network))
	return w
}

func newJob(w *world, connect fleet.Connect) Job {
	return Job{
		Settings: settings.PolicySync{Run: settings.Run{Mode: settings.Enforce, Reserve: time.Second}, Wanted: day, Ratchet: true},
		Accounts: []fleet.Account{{
			Name: "default", Config: provider.Config{Provider: "outscale"}, AccountID: testAccount, Instance: testInstance,
			ExpiryGrace: time.Minute - lifetime.ClockMargin,
		}},
		Connect: connect,
		Ledger:  w.vault, Vault: w.vault,
	}
}

// connect has the job sign with a key.
func (w *world) connect(t *testing.T, own cloudsim.Credentials, base http.RoundTripper) {
	t.Helper()
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Outscale, AccessKey: own.AccessKey, SecretKey: provider.Secret(own.SecretKey), Region: "eu-west-2",
		Endpoint:  w.cloud.Start(t),
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6, Base: base,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.job.Connect = func(context.Context, fleet.Account) (fleet.Cloud, func(), error) { return client, func() {}, nil }
}

// opening opens a client of its own whenever the job connects.
func opening(config provider.Config) fleet.Connect {
	return func(context.Context, fleet.Account) (fleet.Cloud, func(), error) {
		client, err := clouds.Open(config)
		if err != nil {
			return nil, nil, err
		}
		return client, client.Close, nil
	}
}

func ahead(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }

func (w *world) policy(lifetime time.Duration) {
	w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: int64(lifetime / time.Second)})
}

func (w *world) mustRun(t *testing.T) AccountResult {
	t.Helper()
	result, err := Run(t.Context(), w.job)
	if err != nil {
		t.Fatal(err)
	}
	return result.Accounts[0]
}

func (w *world) mustHavePolicy(t *testing.T, want time.Duration) {
	t.Helper()
	if got := time.Duration(w.account.Policy().MaxAccessKeyExpirationSeconds) * time.Second; got != want {
		t.Errorf("the policy is %s, want %s", got, want)
	}
}

func blocking(r AccountResult) []string {
	var ids []string
	for _, b := range r.Blockers {
		ids = append(ids, b.AccessKey)
	}
	return ids
}

func TestASyncDoesNotRepeatTheMistakesOfOthers(t *testing.T) {
	t.Run("policy blockers incl. INACTIVE and root keys", func(t *testing.T) {
		w := newWorld(t)
		want := []string{
			w.account.AddKey(cloudsim.KeySpec{}).AccessKey, // of root, without expiration date
			w.account.AddKey(cloudsim.KeySpec{User: "a", Inactive: true}).AccessKey,
			w.account.AddKey(cloudsim.KeySpec{User: "a", Expires: ahead(3 * day)}).AccessKey,
			w.account.AddKey(cloudsim.KeySpec{User: "b", Inactive: true, Expires: ahead(3 * day)}).AccessKey,
		}
		w.account.AddKey(cloudsim.KeySpec{User: "b", Expires: ahead(time.Hour)})
		w.account.AddKey(cloudsim.KeySpec{User: "b", Expires: ahead(-time.Hour)}) // its life is over
		r := w.mustRun(t)
		if r.Action != ActionBlocked || !slices.Equal(blocking(r), want) || r.BlockerCount != 4 ||
			w.cloud.CountCalls("UpdateApiAccessPolicy") != 0 {
			t.Errorf("got %+v, want %q", r, want)
		}
		for _, b := range r.Blockers {
			if b.Reason == "" || b.Advice == "" {
				t.Errorf("got %+v", b)
			}
		}
	})

	t.Run("RequireTrustedEnv preserved", func(t *testing.T) {
		for _, trusted := range []bool{false, true} {
			w := newWorld(t)
			w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 9 * 86400, RequireTrustedEnv: trusted})
			if r := w.mustRun(t); r.Action != ActionTighten || r.After != day || r.Drift() {
				t.Errorf("got %+v", r)
			}
			if want := (cloudsim.Policy{MaxAccessKeyExpirationSeconds: 86400, RequireTrustedEnv: trusted}); w.account.Policy() != want {
				t.Errorf("got %+v, want %+v", w.account.Policy(), want)
			}
		}
	})
}

// API 1.43 brought a third field, which a client of 1.42 would have dropped; the next version will
// bring a fourth.
func TestEveryFieldOfThePolicyOutlivesEverySync(t *testing.T) {
	for want, test := range map[Action]struct {
		mode   string
		now    time.Duration
		change func(w *world)
	}{
		ActionTighten: {settings.Enforce, 9 * day, func(*world) {}},
		ActionRatchet: {settings.Enforce, 9 * day, func(w *world) { w.account.AddKey(cloudsim.KeySpec{User: "ci", Expires: ahead(3 * day)}) }},
		ActionLoosen:  {settings.Enforce, time.Hour, func(w *world) { w.job.Settings.AllowLoosen = true }},
		ActionNone:    {settings.Enforce, day, func(*world) {}},
		ActionBlocked: {settings.Enforce, 9 * day, func(w *world) {
			w.job.Settings.Ratchet, w.job.Settings.Shorten = false, true
			w.account.AddKey(cloudsim.KeySpec{User: "ci", Expires: ahead(3 * day)})
			w.account.AddKey(cloudsim.KeySpec{User: "ci", Tag: keylabel.New(testInstance, keylabel.KindLease).String(), Expires: ahead(9 * day)})
		}},
		ActionReport: {settings.Report, 9 * day, func(w *world) { w.job.Settings.Wanted, w.job.Ledger, w.job.Vault = 0, nil, nil }},
	} {
		t.Run(string(want), func(t *testing.T) {
			w := newWorld(t)
			policy := cloudsim.Policy{
				MaxAccessKeyExpirationSeconds: int64(test.now / time.Second), RequireTrustedEnv: true,
				RequireTrustedEnvSecureMode: true,
			}
			w.account.SetPolicy(policy)
			w.account.SetPolicyField("Fourth", `"as it was"`)
			own := w.account.AddKey(cloudsim.KeySpec{Expires: ahead(30 * time.Minute), Trusted: true})
			network := &http.Transport{}
			t.Cleanup(network.CloseIdleConnections)
			w.connect(t, own, network) // the description of today knows no such field
			w.job.Settings.Mode = test.mode
			test.change(w)
			r := w.mustRun(t)
			if r.Action != want || w.cloud.CountCalls("UpdateApiAccessPolicy") != map[bool]int{true: 1}[want.Changes()] {
				t.Errorf("got %+v, and %d updates", r, w.cloud.CountCalls("UpdateApiAccessPolicy"))
			}
			if want.Changes() {
				policy.MaxAccessKeyExpirationSeconds = int64(r.After / time.Second)
			}
			if w.account.Policy() != policy || w.account.PolicyField("Fourth") != `"as it was"` {
				t.Errorf("the cloud has %+v and %s, want %+v", w.account.Policy(), w.account.PolicyField("Fourth"), policy)
			}
		})
	}
}

func TestAPolicyIsTightenedAndTheEngineToldSo(t *testing.T) {
	w := newWorld(t)
	if r := w.mustRun(t); r.Action != ActionTighten || r.Before != 0 || r.After != day {
		t.Errorf("got %+v", r)
	}
	w.mustHavePolicy(t, day)
	if !slices.Equal(w.vault.refreshed, []string{"default"}) || w.cloud.CountCalls("ReadApiAccessPolicy") != 3 {
		t.Errorf("refreshed %q, %d reads", w.vault.refreshed, w.cloud.CountCalls("ReadApiAccessPolicy"))
	}
	if r := w.mustRun(t); r.Action != ActionNone || w.cloud.CountCalls("UpdateApiAccessPolicy") != 1 {
		t.Errorf("got %+v", r)
	}
}

func TestDriftIsAPolicyInForceThatIsTooWide(t *testing.T) {
	for name, test := range map[string]struct {
		mode  string
		now   time.Duration
		drift bool
	}{
		"a report of a policy that is too wide": {settings.Report, 9 * day, true},
		"a report of none at all":               {settings.Report, 0, true},
		"a policy that was set right":           {settings.Enforce, 9 * day, false},
		"a stricter one":                        {settings.Enforce, time.Hour, false},
		"a report of a stricter one":            {settings.Report, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.job.Settings.Mode = test.mode
			w.policy(test.now)
			if r := w.mustRun(t); r.Drift() != test.drift || r.Undone() != test.drift {
				t.Errorf("got %+v", r)
			}
		})
	}
	t.Run("nothing is left undone where keys are in the way, and the alarm does not stay on for them", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Mode = settings.Report
		w.policy(9 * day)
		w.account.AddKey(cloudsim.KeySpec{User: "ci"})
		if r := w.mustRun(t); r.Action != ActionBlocked || !r.Drift() || r.Undone() {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("a ratchet is undone until an armed run has moved it", func(t *testing.T) {
		w := newWorld(t)
		w.policy(9 * day)
		w.account.AddKey(cloudsim.KeySpec{User: "ci", Expires: ahead(3 * day)})
		w.job.Settings.Mode = settings.Report
		before := w.mustRun(t)
		w.job.Settings.Mode = settings.Enforce
		if r := w.mustRun(t); !before.Undone() || r.Undone() || !r.Drift() {
			t.Errorf("got %+v, and before %+v", r, before)
		}
	})
}

// Without Vault, or roles, nothing tells what is wanted: a report says so, and is none the less one.
func TestAReportNeedsNotKnowWhatIsWanted(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Mode, w.job.Settings.Wanted, w.job.Ledger, w.job.Vault = settings.Report, 0, nil, nil
	w.policy(9 * day)
	r := w.mustRun(t)
	if r.Action != ActionReport || r.Before != 9*day || !strings.Contains(r.Reason, "WANTED_MAX") || r.Problem != "" {
		t.Errorf("got %+v", r)
	}
	w.job.Settings.Mode = settings.Enforce
	if _, err := Run(t.Context(), w.job); err == nil {
		t.Error("a policy that nobody asked for was enforced")
	}
}

func TestAReportWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Mode, w.job.Settings.Shorten, w.job.Settings.TuneMaxLease = settings.Report, true, true
	w.account.AddKey(cloudsim.KeySpec{User: "deploy", Tag: keylabel.New(testInstance, keylabel.KindLease).String(), Expires: ahead(9 * day)})
	result, err := Run(t.Context(), w.job)
	r := result.Accounts[0]
	if err != nil || r.Action != ActionTighten || r.After != day || r.Shortened != 1 || result.Tuned != day-time.Minute {
		t.Errorf("got %+v and error %v", result, err)
	}
	for _, call := range w.cloud.Calls() {
		if !strings.HasPrefix(call.Op, "Read") {
			t.Errorf("called %s", call.Op)
		}
	}
	if len(w.vault.refreshed) != 0 || w.vault.tuned != 0 {
		t.Errorf("got %+v", w.vault)
	}
}

func TestTheRatchetLowersAsFarAsTheKeysAllow(t *testing.T) {
	w := newWorld(t)
	w.policy(9 * day)
	id := w.account.AddKey(cloudsim.KeySpec{User: "ci", Expires: ahead(3 * day)}).AccessKey
	r := w.mustRun(t)
	if r.Action != ActionRatchet || r.After <= 3*day || r.After > 3*day+margin || !slices.Equal(blocking(r), []string{id}) || !r.Drift() {
		t.Errorf("got %+v", r)
	}
	w.mustHavePolicy(t, r.After)
	w.account.DeleteKey(id)
	if r = w.mustRun(t); r.Action != ActionTighten || r.After != day {
		t.Errorf("got %+v", r)
	}
}

func TestAStricterPolicyIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.policy(time.Hour)
	if r := w.mustRun(t); r.Action != ActionNone || r.Drift() {
		t.Errorf("got %+v", r)
	}
	w.mustHavePolicy(t, time.Hour)
	w.job.Settings.AllowLoosen = true
	if r := w.mustRun(t); r.Action != ActionLoosen {
		t.Errorf("got %+v", r)
	}
	w.mustHavePolicy(t, day)
}

func TestOurOwnKeysAreShortenedAndNoOthers(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Shorten = true
	add := func(kind keylabel.Kind, instance string) string {
		return w.account.AddKey(cloudsim.KeySpec{User: "deploy", Tag: keylabel.New(instance, kind).String(), Expires: ahead(9 * day)}).AccessKey
	}
	free, promised, root, other := add(keylabel.KindLease, testInstance), add(keylabel.KindLease, testInstance),
		add(keylabel.KindRoot, testInstance), add(keylabel.KindLease, "OTHERAAAAAAAAAAA")
	w.vault.entries = []fleet.LedgerKey{
		{AccessKey: free, Kind: "lease", User: "deploy", Expires: ahead(time.Hour)},
		{AccessKey: promised, Kind: "lease", User: "deploy", Expires: ahead(3 * day)},
	}
	r := w.mustRun(t)
	if r.Shortened != 2 || r.BlockerCount != 3 || !slices.Equal(blocking(r), []string{promised, root, other}) {
		t.Errorf("got %+v", r)
	}
	for id, want := range map[string]time.Duration{free: day - margin, promised: 3 * day, root: 9 * day, other: 9 * day} {
		key, _ := w.account.Key(id)
		if left := time.Until(key.Expires); left > want || left < want-10*time.Second || key.State != cloudsim.Active {
			t.Errorf("key %s lives %s more, want %s", id, left, want)
		}
	}

	w.vault.err = errors.New("sealed")
	if _, err := Run(t.Context(), w.job); err == nil || !strings.Contains(err.Error(), "cut below its lease") {
		t.Errorf("got %v", err)
	}
}

func TestKeysThatCannotBeSeenAreAResult(t *testing.T) {
	w := newWorld(t)
	w.cloud.Order(cloudsim.Fault{Op: "UpdateApiAccessPolicy", Kind: cloudsim.Refuse, Status: 400, Code: "4118"})
	if r := w.mustRun(t); r.Action != ActionBlocked || !strings.Contains(r.Reason, "keys that were not seen") || r.After != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAPolicyThatReadsOtherwiseAfterwardsIsAnError(t *testing.T) {
	w := newWorld(t)
	w.cloud.OnAnswer(func(call cloudsim.Call) {
		if call.Op == "UpdateApiAccessPolicy" {
			w.policy(5 * day)
		}
	})
	result, err := Run(t.Context(), w.job)
	if err == nil || !strings.Contains(err.Error(), "somebody else") || result.Accounts[0].Problem == "" || len(w.vault.refreshed) != 0 {
		t.Errorf("got %+v and error %v", result, err)
	}
}

func TestTheMountIsTunedOnlyWhereAskedAndOnlyDown(t *testing.T) {
	cases := map[string]struct {
		asked     bool
		max, want time.Duration
	}{
		"down":                  {true, 30 * day, day - time.Minute},
		"not up":                {true, time.Hour, 0},
		"not if nobody asks":    {false, 30 * day, 0},
		"not if it fits by now": {true, day - time.Minute, 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.job.Settings.TuneMaxLease, w.vault.max = test.asked, test.max
			result, err := Run(t.Context(), w.job)
			if err != nil || result.Tuned != test.want || w.vault.tuned != test.want {
				t.Errorf("got %s and %s, error %v", result.Tuned, w.vault.tuned, err)
			}
		})
	}
}

// permanent is a cloud that ends no key by itself, as Huawei's.
type permanent struct{ fleet.Cloud }

func (permanent) ExpiresKeys() bool { return false }

func TestACloudWithoutPolicyIsOnlyReported(t *testing.T) {
	w := newWorld(t)
	good := w.job.Connect
	w.job.Connect = func(ctx context.Context, a fleet.Account) (fleet.Cloud, func(), error) {
		cloud, release, err := good(ctx, a)
		return permanent{cloud}, release, err
	}
	if r := w.mustRun(t); r.Action != ActionReport || r.Drift() || len(w.cloud.Calls()) != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAnotherAccountsPolicyIsNotTouched(t *testing.T) {
	w := newWorld(t)
	w.job.Accounts[0].AccountID = "210987654321"
	_, err := Run(t.Context(), w.job)
	var failed *fleet.FailedError
	if !errors.As(err, &failed) || !slices.Equal(failed.Accounts, []string{"default"}) {
		t.Errorf("got %v", err)
	}
	w.mustHavePolicy(t, 0)
	if strings.Contains(err.Error(), w.own) {
		t.Errorf("%v shows a key", err)
	}
}
