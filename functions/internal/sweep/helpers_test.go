// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const (
	testAccount  = "123456789012"
	testInstance = "INSTANCEAAAAAAAA"
	dayLong      = 24 * time.Hour
)

// memory is a Ledger, a Store and their failures.
type memory struct {
	mu      sync.Mutex
	entries []fleet.LedgerKey
	err     error
	asked   int
	states  map[string]State
	onAsk   func()
}

func (m *memory) Keys(_ context.Context, _, user string) ([]fleet.LedgerKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.onAsk != nil {
		m.onAsk()
	}
	var found []fleet.LedgerKey
	for _, entry := range m.entries {
		if entry.User == user {
			found = append(found, entry)
		}
	}
	return found, m.err
}

func (m *memory) Key(_ context.Context, id string) (*fleet.LedgerKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.onAsk != nil {
		m.onAsk()
	}
	for _, entry := range m.entries {
		if entry.AccessKey == id {
			return &entry, m.err
		}
	}
	return nil, m.err
}

func (m *memory) Empty(context.Context, string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries) == 0, m.err
}

func (m *memory) Load(_ context.Context, account string) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[account], nil
}

func (m *memory) Save(_ context.Context, account string, state State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[account] = state
	return nil
}

// world is a simulated cloud reached over real HTTP through the real client, with a ledger
// beside it. OUTSCALE's API description judges all calls.
type world struct {
	cloud   *cloudsim.Cloud
	account *cloudsim.Account
	domain  *cloudsim.Domain // of Huawei Cloud; nil: the account is in OUTSCALE
	ledger  *memory
	job     Job
}

func newWorld(t *testing.T, options ...cloudsim.Option) *world {
	t.Helper()
	w := &world{cloud: cloudsim.New(options...)}
	network := &http.Transport{}
	t.Cleanup(network.CloseIdleConnections)
	w.build(t, contract.New(t).Wrap(network), w.cloud.Start(t))
	return w
}

// bubble runs a test without sockets and on a clock of its own, so that what takes long
// takes exactly as long as it says. The API's description is loaded before: that takes a
// process, which a bubble cannot wait for.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	contract.New(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{cloud: cloudsim.New()}
		w.build(t, contract.New(t).Wrap(w.cloud.Transport()), "")
		test(t, w)
	})
}

func (w *world) build(t *testing.T, network http.RoundTripper, endpoint string) {
	t.Helper()
	w.ledger = &memory{states: map[string]State{}}
	w.account = w.cloud.AddAccount(testAccount)
	root := w.account.RootKey()
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Outscale, AccessKey: root.AccessKey, SecretKey: provider.Secret(root.SecretKey), Region: "eu-west-2", Endpoint: endpoint,
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6, Base: network,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.job = Job{
		Settings: settings.Sweep{
			Run: settings.Run{Mode: settings.Enforce, Workers: 4, Reserve: time.Second}, MinAge: time.Hour, Grace: time.Hour,
			MaxExemption: 365 * dayLong, Quarantine: 7 * dayLong, MaxAge: 90 * dayLong,
			Foreign: settings.Report, MaxKeys: 100, MaxPercent: 100,
		},
		Accounts: []fleet.Account{
			{Name: "default", Config: provider.Config{Provider: "outscale"}, AccountID: testAccount, Instance: testInstance},
		},
		Connect: func(context.Context, fleet.Account) (fleet.Cloud, func(), error) { return client, func() {}, nil },
		Ledger:  w.ledger, Store: w.ledger, Dir: t.TempDir(),
	}
}

// ours is the label of a key that the engine made.
func ours(kind keylabel.Kind) string { return keylabel.New(testInstance, kind).String() }

// add makes a key that is old enough to be judged.
func (w *world) add(spec cloudsim.KeySpec) string {
	if spec.Created.IsZero() {
		spec.Created = time.Now().Add(-2 * dayLong)
	}
	if w.domain == nil {
		return w.account.AddKey(spec).AccessKey
	}
	description := spec.Tag
	if !spec.Expires.IsZero() {
		description += "/until/" + spec.Expires.Format(time.RFC3339)
	}
	return w.domain.AddKey(cloudsim.IAMKeySpec{
		User: spec.User, Description: description, Created: spec.Created,
		Inactive: spec.Inactive,
	}).AccessKey
}

// state is what a key is in the cloud, and "deleted" where it is not there.
func (w *world) state(id string) string {
	if w.domain != nil {
		if key, there := w.domain.Key(id); there {
			return key.State
		}
	} else if key, there := w.account.Key(id); there {
		return key.State
	}
	return "deleted"
}

// orphan makes a key of the engine that the ledger does not know. Another is in the
// ledger, which would be doubted if it were empty.
func (w *world) orphan(user string, expires time.Time) string {
	if len(w.ledger.entries) == 0 {
		w.lease("leaseholder")
	}
	return w.add(cloudsim.KeySpec{User: user, Tag: ours(keylabel.KindLease), Expires: expires})
}

func (w *world) lease(user string) string {
	id := w.add(cloudsim.KeySpec{User: user, Tag: ours(keylabel.KindLease), Expires: ahead(dayLong)})
	w.ledger.entries = append(w.ledger.entries, fleet.LedgerKey{AccessKey: id, Kind: "lease", User: user, Role: "deploy"})
	return id
}

func ahead(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }

// run runs the job and returns its findings by access key.
func (w *world) run(t *testing.T) (Result, map[string]Finding, error) {
	t.Helper()
	return w.runIn(t, t.Context())
}

func (w *world) runIn(t *testing.T, ctx context.Context) (Result, map[string]Finding, error) {
	t.Helper()
	result, err := Run(ctx, w.job)
	t.Cleanup(func() { _ = result.Close() })
	return result, findings(t, result), err
}

func (w *world) mustRun(t *testing.T) (Result, map[string]Finding) {
	t.Helper()
	result, found, err := w.run(t)
	if err != nil {
		t.Fatal(err)
	}
	return result, found
}

func findings(t *testing.T, result Result) map[string]Finding {
	t.Helper()
	found := map[string]Finding{}
	for f, err := range result.Findings() {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := found[f.AccessKey]; twice {
			t.Errorf("access key %s is reported twice", f.AccessKey)
		}
		found[f.AccessKey] = f
	}
	return found
}

func (w *world) mustBe(t *testing.T, id, state string) {
	t.Helper()
	if is := w.state(id); is != state {
		t.Errorf("access key %s is %s, want %s", id, is, state)
	}
}

// changes are the calls that changed something.
func (w *world) changes() []cloudsim.Call {
	return slices.DeleteFunc(w.cloud.Calls(), func(call cloudsim.Call) bool { return strings.HasPrefix(call.Op, "Read") })
}

func mustBeClass(t *testing.T, f Finding, class Class, action Action) {
	t.Helper()
	if f.Class != class || f.Action != action || f.Reason == "" {
		t.Errorf("got %s, %s because %q; want %s, %s", f.Class, f.Action, f.Reason, class, action)
	}
}

func mustSay(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want %q in it", err, part)
		}
	}
}

// wireDate is the ExpirationDate of a call.
func wireDate(t *testing.T, call cloudsim.Call) time.Time {
	t.Helper()
	var body struct{ ExpirationDate time.Time }
	if err := json.Unmarshal(call.Body, &body); err != nil {
		t.Fatalf("%s: %v", call.Body, err)
	}
	return body.ExpirationDate
}

func userName(i int) string { return fmt.Sprintf("user-%05d", i) }

// signWith has the sweep sign with another key.
func (w *world) signWith(t *testing.T, key cloudsim.Credentials) {
	t.Helper()
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Outscale, AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "eu-west-2",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, PerSecond: 1e6, Base: w.cloud.Transport(),
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
