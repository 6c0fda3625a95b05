// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const (
	testAccount = "123456789012"
	testUser    = "deploy"
)

// world is a simulated cloud with one account, one EIM user, and a client with the
// account's root key. OUTSCALE's API description judges all that passes between.
type world struct {
	cloud   *cloudsim.Cloud
	account *cloudsim.Account
	config  Config
	client  *Client
}

// newWorld returns a world without sockets.
func newWorld(t *testing.T, options ...cloudsim.Option) *world {
	t.Helper()
	w := &world{cloud: cloudsim.New(options...)}
	w.account = w.cloud.AddAccount(testAccount)
	w.account.AddUser(testUser)
	root := w.account.RootKey()
	w.config = Config{
		AccessKey: root.AccessKey, SecretKey: provider.Secret(root.SecretKey), Region: "eu-west-2",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6,
		Base: contract.New(t).Wrap(w.cloud.Transport()),
	}
	w.client = newClient(t, w.config)
	return w
}

func newClient(t *testing.T, c Config) *Client {
	t.Helper()
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// as returns a client that signs with another key.
func (w *world) as(t *testing.T, key cloudsim.Credentials, change ...func(*Config)) *Client {
	t.Helper()
	config := w.config
	config.AccessKey, config.SecretKey = key.AccessKey, provider.Secret(key.SecretKey)
	for _, c := range change {
		c(&config)
	}
	return newClient(t, config)
}

// bubble runs a test on a clock of its own. The API's description is loaded
// before: that takes a process, which a bubble cannot wait for.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	contract.New(t)
	synctest.Test(t, test)
}

// onBoth runs a test without sockets and over real HTTP.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("in memory", func(t *testing.T) { test(t, newWorld(t)) })
	t.Run("over HTTP", func(t *testing.T) {
		w := newWorld(t)
		network := &http.Transport{}
		t.Cleanup(network.CloseIdleConnections)
		w.config.Endpoint, w.config.Base = w.cloud.Start(t), contract.New(t).Wrap(network)
		w.client = newClient(t, w.config)
		test(t, w)
	})
}

// key makes a key out of band and returns what refers to it.
func (w *world) key(spec cloudsim.KeySpec) provider.KeyRef {
	made := w.account.AddKey(spec)
	return provider.KeyRef{AccountID: testAccount, User: spec.User, ID: made.AccessKey, Expires: spec.Expires}
}

func (w *world) userID(name string) string {
	user, _ := w.account.User(name)
	return user.ID
}

func (w *world) mustHave(t *testing.T, id string) cloudsim.Key {
	t.Helper()
	key, ok := w.account.Key(id)
	if !ok {
		t.Fatalf("access key %s is gone", id)
	}
	return key
}

func (w *world) mustLack(t *testing.T, id string) {
	t.Helper()
	if _, ok := w.account.Key(id); ok {
		t.Fatalf("access key %s is still there", id)
	}
}

// ops returns the calls that the cloud received, in order.
func (w *world) ops() []string {
	var ops []string
	for _, call := range w.cloud.Calls() {
		ops = append(ops, call.Op)
	}
	return ops
}

func (w *world) mustHaveSeen(t *testing.T, want ...string) {
	t.Helper()
	if got := w.ops(); !slices.Equal(got, want) {
		t.Errorf("the cloud received %q, want %q", got, want)
	}
}

// wireUpdate is the body of an UpdateAccessKey as it was sent.
type wireUpdate struct {
	AccessKeyId, State, ExpirationDate, Tag, UserName *string
	ClearExpirationDate, ClearTag                     *bool
}

// updates returns the updates sent so far, each of which must carry a date.
func (w *world) updates(t *testing.T) []wireUpdate {
	t.Helper()
	var updates []wireUpdate
	for _, call := range w.cloud.Calls() {
		if call.Op != "UpdateAccessKey" {
			continue
		}
		var u wireUpdate
		if err := json.Unmarshal(call.Body, &u); err != nil {
			t.Fatalf("an UpdateAccessKey has the body %s: %v", call.Body, err)
		}
		if u.ExpirationDate == nil || !strings.HasSuffix(*u.ExpirationDate, "Z") || u.ClearExpirationDate != nil {
			t.Errorf("an UpdateAccessKey without its date was sent: %s", call.Body)
		}
		updates = append(updates, u)
	}
	return updates
}

func mustBeKind(t *testing.T, err error, want provider.Kind) {
	t.Helper()
	if err == nil || provider.KindOf(err) != want {
		t.Errorf("got error %v of kind %q, want kind %q", err, provider.KindOf(err), want)
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// later returns a whole second in UTC, as dates on keys are.
func later(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }

func readable(body string) io.ReadCloser { return io.NopCloser(strings.NewReader(body)) }

// pass lets time go by; in a synctest bubble that takes none.
func pass(d time.Duration) { <-time.After(d) }
