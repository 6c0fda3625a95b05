// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const testUser = "deploy"

// world is a simulated cloud with one account, one user without rights, and a client with
// the account's root key. What the vendor documents judges all that passes between.
type world struct {
	cloud  *cloudsim.Cloud
	domain *cloudsim.Domain
	config Config
	client *Client
}

// newWorld returns a world without sockets.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{cloud: cloudsim.New()}
	w.domain = w.cloud.AddDomain("acme")
	w.domain.AddUser(testUser)
	root := w.domain.RootKey()
	w.config = Config{
		AccessKey: root.AccessKey, SecretKey: provider.Secret(root.SecretKey), Region: "ap-southeast-1",
		UserAgent: "cloudkeys-test", Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 1e6, Base: contract.NewHuawei(t).Wrap(w.cloud.Transport()),
	}
	for _, c := range change {
		c(&w.config)
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

func (w *world) userID(name string) string {
	user, _ := w.domain.User(name)
	return user.ID
}

func (w *world) spec() provider.KeySpec {
	return provider.KeySpec{User: testUser, Label: label(keylabel.KindLease), Expires: later(time.Hour)}
}

func label(kind keylabel.Kind) string { return keylabel.New(keylabel.NewID(), kind).String() }

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
	w.cloud.ResetCalls()
}

// exchange is one answer that a test's server gives.
type exchange struct {
	status int
	header map[string]string
	body   string
}

// seen is a request as it came over the wire.
type seen struct {
	target string // method, path and query
	header http.Header
	body   string
}

// server gives the answers in their order, the last one for ever, and keeps the requests.
type server struct {
	mu       sync.Mutex
	answers  []exchange
	requests []seen
}

// serve returns a client of a server over real HTTP. The account is configured, so that
// no call is made to find it out.
func serve(t *testing.T, answers ...exchange) (*Client, *server) {
	t.Helper()
	s := &server{answers: answers}
	listening := httptest.NewServer(s)
	t.Cleanup(listening.Close)
	return newClient(t, Config{
		AccessKey: wireAccess, SecretKey: wireSecret, Region: "ap-southeast-1", Endpoint: listening.URL, DomainID: wireDomain,
		UserAgent: "cloudkeys-test", Timeout: 5 * time.Second, PerSecond: 100,
	}), s
}

const (
	wireAccess = "AKAKAKAKAKAKAKAKAKAK"
	wireSecret = "SKSKSKSK1234567890abcdefghijklmnopqrstuv"
	wireDomain = "d78cbac186b744899480f25bd022f468"
	wireUserID = "07609fb9358010e21f7bc003751c7c32"
	wireOther  = "5d3c9e22c1a94dca8a5a2d7c47d00b31"
)

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.mu.Lock()
	answer := s.answers[min(len(s.requests), len(s.answers)-1)]
	s.requests = append(s.requests, seen{r.Method + " " + r.URL.RequestURI(), r.Header, string(body)})
	s.mu.Unlock()
	for name, value := range answer.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write([]byte(answer.body)) // a client that has gone is its own affair
}

// sent returns the one request that a call has made.
func (s *server) sent(t *testing.T) seen {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) != 1 {
		t.Fatalf("%d requests were sent: %+v", len(s.requests), s.requests)
	}
	return s.requests[0]
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
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

// mustHide searches an error, however shown, for any part of a secret.
func mustHide(t *testing.T, err error, secrets ...string) {
	t.Helper()
	encoded, jsonErr := json.Marshal(err)
	mustDo(t, jsonErr)
	view := fmt.Sprintf("%v %+v %#v %s %q", err, err, err, encoded, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		view += fmt.Sprintf(" %+v", e)
	}
	for _, secret := range secrets {
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(view, secret[i:i+8]) {
				t.Errorf("an error shows a part of a secret: %s", view)
				return
			}
		}
	}
}

// later returns a whole second in UTC, as dates on keys are.
func later(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }

func readable(body string) io.ReadCloser { return io.NopCloser(strings.NewReader(body)) }

// justMade has the client know a user's id without asking, as it does of users that it makes.
func (c *Client) justMade(name, id string) {
	c.names.put(name, id)
	c.recent.Add(id)
}
