// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const (
	testAccountID = "123456789012"
	testRegion    = "cloudgouv-eu-west-1"
	testEndpoint  = "https://api.cloudgouv-eu-west-1.outscale.com/api/v1"
)

// testVault is a mount of the engine in this process, on a simulated cloud without
// sockets, with a lease manager that follows Vault's own rules. In a synctest
// bubble, days of leases pass in milliseconds.
type testVault struct {
	t       *testing.T
	sim     *cloudsim.Cloud
	account *cloudsim.Account // in OUTSCALE
	domain  *cloudsim.Domain  // in Huawei Cloud; nil: the account is in OUTSCALE
	base    http.RoundTripper // between engine and cloud

	system   *testSystem
	storage  *testStorage
	onTime   bool                 // static roles are rotated between ticks, too
	overGRPC bool                 // talk to the engine as a server does, through a plugin process's protocol
	inPlugin func()               // over gRPC: called before each storage call, in the plugin's process
	backend  *backend             // its paths; and the engine itself, where it runs in this process
	engine   logical.Backend      // what requests are sent to
	root     cloudsim.Credentials // the engine's own key
	events   *logical.MockEventSender
	sender   logical.EventSender // events, unless a test puts another in its place
	leases   []*testLease
	logger   hclog.Logger
}

// testSystem is what the engine knows of the server. The node's part and the mount's taint may change while requests run.
type testSystem struct {
	*logical.StaticSystemView
	state   atomic.Uint32
	tainted atomic.Bool
}

func (s *testSystem) become(state consts.ReplicationState) { s.state.Store(uint32(state)) }
func (s *testSystem) taint(tainted bool)                   { s.tainted.Store(tainted) }

// ReplicationState implements logical.SystemView.
func (s *testSystem) ReplicationState() consts.ReplicationState {
	return consts.ReplicationState(s.state.Load())
}

// Tainted implements logical.SystemView.
func (s *testSystem) Tainted() bool { return s.tainted.Load() }

// newTestVault mounts the engine on an empty account with an EIM user "app".
func newTestVault(t *testing.T) *testVault {
	t.Helper()
	sim := cloudsim.New(cloudsim.WithRegion(testRegion))
	account := sim.AddAccount(testAccountID)
	account.AddUser("app")
	return newTestVaultOn(t, sim, account)
}

// newTestVaultOn mounts the engine on a cloud that exists.
func newTestVaultOn(t *testing.T, sim *cloudsim.Cloud, account *cloudsim.Account) *testVault {
	t.Helper()
	v := &testVault{
		t: t, sim: sim, account: account, base: &readsPolicies{t, contract.New(t).Wrap(sim.Transport())},
		system: &testSystem{
			StaticSystemView: &logical.StaticSystemView{DefaultLeaseTTLVal: 32 * 24 * time.Hour, MaxLeaseTTLVal: 32 * 24 * time.Hour},
		},
		storage: &testStorage{Storage: &logical.InmemStorage{}},
		events:  logical.NewMockEventSender(),
		logger:  hclog.NewNullLogger(),
	}
	v.sender = v.events
	if account != nil {
		v.root = account.RootKey()
	}
	v.restart()
	return v
}

// readsPolicies is the way to a cloud on which no access policy is written: whatever an engine does, each of its fields stays as it was.
type readsPolicies struct {
	t    *testing.T
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r *readsPolicies) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasSuffix(req.URL.Path, "UpdateApiAccessPolicy") {
		r.t.Error("the engine has written the account's access policy")
	}
	return r.next.RoundTrip(req)
}

// restart is a new process of the plugin on the same storage.
func (v *testVault) restart() {
	v.t.Helper()
	v.backend = v.newBackend()
	v.engine = v.backend
	if v.overGRPC {
		v.engine = serveOverGRPC(v.t, func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
			b := v.newBackend()
			return &tapped{b, v}, b.Setup(ctx, conf)
		})
	}
	err := v.engine.Setup(v.t.Context(), &logical.BackendConfig{
		Logger: v.logger, System: v.system, StorageView: v.storage, EventsSender: v.sender,
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

// tapped is the engine in a plugin process, with a test at its end of the storage.
type tapped struct {
	logical.Backend
	v *testVault
}

// HandleRequest implements logical.Backend.
func (b *tapped) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if tap := b.v.inPlugin; tap != nil {
		tapped := *req
		tapped.Storage = &testStorage{Storage: req.Storage, before: func(string, string) error { tap(); return nil }}
		req = &tapped
	}
	return b.Backend.HandleRequest(ctx, req)
}

// newBackend rotates static roles at the test's ticks alone, unless the test is about their time: a
// timer would run beside it, and look at what the test changes.
func (v *testVault) newBackend() *backend {
	b := newBackend(Build{}, v.openSimulated)
	if !v.onTime {
		b.static.end()
	}
	return b
}

// configure writes the account "default" with its root key, and the role "app".
func (v *testVault) configure(role ...string) {
	v.t.Helper()
	v.write("config/default", v.accountFields()...)
	v.write("roles/app", append([]string{"user_names=app"}, role...)...)
}

func (v *testVault) accountFields() []string {
	if v.domain != nil {
		return []string{
			"provider=huawei", "region=ap-southeast-1", "max_requests_per_second=1000",
			"access_key=" + v.root.AccessKey, "secret_key=" + v.root.SecretKey,
		}
	}
	return []string{
		"provider=outscale", "region=" + testRegion, "endpoint=" + testEndpoint, "max_requests_per_second=1000",
		"access_key=" + v.root.AccessKey, "secret_key=" + v.root.SecretKey,
	}
}

// rootKeyWithDate gives the engine a root key that ends, as a policy demands.
func (v *testVault) rootKeyWithDate(life time.Duration) {
	v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(life)})
}

// request sends one request, and holds a good answer against the path's schema.
func (v *testVault) request(ctx context.Context, op logical.Operation, path string, fields ...string) (*logical.Response, error) {
	v.t.Helper()
	return v.send(ctx, op, path, fieldData(fields))
}

// send is a request whose data is JSON of any type.
func (v *testVault) send(ctx context.Context, op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	v.t.Helper()
	req := &logical.Request{
		Operation: op, Path: path, Storage: v.storage, Data: data,
		ID: "request-1", ClientTokenAccessor: "accessor-1", EntityID: "entity-1", DisplayName: "token-1", MountPoint: "outscale/",
	}
	if op == logical.UpdateOperation {
		check, exists, err := v.engine.HandleExistenceCheck(ctx, req)
		if err != nil {
			return nil, err
		}
		if check && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	resp, err := v.engine.HandleRequest(ctx, req)
	if err == nil && resp != nil && !resp.IsError() {
		schema.ValidateResponse(v.t, schema.GetResponseSchema(v.t, v.backend.Route(path), req.Operation), resp, true)
	}
	return resp, err
}

func (v *testVault) try(op logical.Operation, path string, fields ...string) (*logical.Response, error) {
	v.t.Helper()
	return v.request(v.t.Context(), op, path, fields...)
}

// write updates a path and returns the warnings.
func (v *testVault) write(path string, fields ...string) []string {
	v.t.Helper()
	resp, err := v.try(logical.UpdateOperation, path, fields...)
	v.mustSucceed("write "+path, resp, err)
	if resp == nil {
		return nil
	}
	return resp.Warnings
}

// delete deletes a path and returns the warnings.
func (v *testVault) delete(path string, fields ...string) []string {
	v.t.Helper()
	resp, err := v.try(logical.DeleteOperation, path, fields...)
	v.mustSucceed("delete "+path, resp, err)
	if resp == nil {
		return nil
	}
	return resp.Warnings
}

func (v *testVault) read(path string) map[string]any {
	v.t.Helper()
	resp, err := v.try(logical.ReadOperation, path)
	v.mustSucceed("read "+path, resp, err)
	if resp == nil {
		v.t.Fatalf("read %s: nothing there", path)
	}
	return resp.Data
}

func (v *testVault) mustSucceed(what string, resp *logical.Response, err error) {
	v.t.Helper()
	if err := failure(resp, err); err != nil {
		v.t.Fatalf("%s: %v", what, err)
	}
}

// mustRefuse expects an answer of HTTP 400 whose text holds all the parts.
func (v *testVault) mustRefuse(op logical.Operation, path string, fields []string, parts ...string) {
	v.t.Helper()
	resp, err := v.try(op, path, fields...)
	if err != nil {
		v.t.Fatalf("%s %s: a Go error (HTTP 500) where the operator can fix it: %v", op, path, err)
	}
	if !resp.IsError() {
		v.t.Fatalf("%s %s was accepted", op, path)
	}
	mustHold(v.t, resp.Error().Error(), parts...)
}

// failure is the error of a request in either of its forms.
func failure(resp *logical.Response, err error) error {
	if err != nil {
		return err
	}
	if resp != nil && resp.IsError() {
		return resp.Error()
	}
	return nil
}

func mustHold(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// fieldData makes request data of "name=value" pairs, as the vault command does.
func fieldData(fields []string) map[string]any {
	data := map[string]any{}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		data[name] = value
	}
	return data
}

// invariant fails where a live key of ours, or a user made for a lease, is in the cloud
// and known to nobody: every one must be leased, or in the ledger.
func (v *testVault) invariant() {
	v.t.Helper()
	keys, labels := v.known()
	for _, key := range v.liveKeys() {
		if !keys[key.ID] && !labels[key.Tag] {
			v.t.Errorf("access key %s (%s) lives in the cloud and nobody knows it", key.ID, key.Tag)
		}
	}
	for user, label := range v.userLabels() {
		if !labels[label] {
			v.t.Errorf("user %s (%s) is in the cloud and nobody knows it", user, label)
		}
	}
}

// known are the ids of the keys, and the labels of keys and users, that leases or the
// ledger know.
func (v *testVault) known() (keys, labels map[string]bool) {
	v.t.Helper()
	keys, labels = map[string]bool{}, map[string]bool{}
	for _, e := range v.entries() {
		keys[e.AccessKey], labels[e.Label] = true, true
	}
	for _, l := range v.leases {
		label, _ := l.Secret.InternalData["label"].(string)
		keys[l.AccessKey()], labels[label] = true, true
	}
	return keys, labels
}

// entries are all that the ledger holds, as stored.
func (v *testVault) entries() (entries []*ledger.Entry) {
	v.t.Helper()
	ctx := context.WithoutCancel(v.t.Context())
	paths, err := logical.CollectKeysWithPrefix(ctx, v.storage.Storage, ledger.Prefix)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, path := range paths {
		e, err := load[ledger.Entry](ctx, v.storage.Storage, path)
		if err != nil || e == nil {
			v.t.Fatalf("%s: %v, %v", path, e, err)
		}
		entries = append(entries, e)
	}
	return entries
}

// begun are those whose key nobody has settled yet.
func (v *testVault) begun() (entries []*ledger.Entry) {
	v.t.Helper()
	return slices.DeleteFunc(v.entries(), func(e *ledger.Entry) bool { return e.State != ledger.Begun })
}

// firstKeys are those of first keys whose cloud account is not known.
func (v *testVault) firstKeys() (entries []*ledger.Entry) {
	v.t.Helper()
	return slices.DeleteFunc(v.begun(), func(e *ledger.Entry) bool { return e.AccountID != "" })
}

// entryPath is where the entry of an access key is stored.
func (v *testVault) entryPath(accessKey string) string {
	v.t.Helper()
	for _, e := range v.entries() {
		if e.AccessKey == accessKey {
			return ledger.Path(e.Account, e.Label)
		}
	}
	v.t.Fatalf("the ledger has no access key %s", accessKey)
	return ""
}

// liveKeys are the keys in the cloud that this software made and that still sign.
func (v *testVault) liveKeys() []cloudsim.Key {
	var live []cloudsim.Key
	for _, key := range v.keys() {
		if strings.HasPrefix(key.Tag, "cloudkeys-") && v.live(key) {
			live = append(live, key)
		}
	}
	return live
}

// mustHaveLive expects so many live keys of ours.
func (v *testVault) mustHaveLive(want int) {
	v.t.Helper()
	if got := len(v.liveKeys()); got != want {
		v.t.Errorf("%d of our keys live in the cloud, want %d", got, want)
	}
}

// testStorage lets a test look at, fail, or stop at each storage call.
type testStorage struct {
	logical.Storage
	before func(op, key string) error
	after  func(op, key string) error                  // a put that succeeded
	around func(op, key string, do func() error) error // every call

	mu     sync.Mutex
	writes int
}

var errInjected = errors.New("injected fault")

func (s *testStorage) call(op, key string, do func() error) error {
	if op == "put" || op == "delete" {
		s.mu.Lock()
		s.writes++
		s.mu.Unlock()
	}
	if s.before != nil {
		if err := s.before(op, key); err != nil {
			return err
		}
	}
	if s.around != nil {
		return s.around(op, key, do)
	}
	err := do()
	if err == nil && op == "put" && s.after != nil {
		return s.after(op, key)
	}
	return err
}

// List implements logical.Storage.
func (s *testStorage) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = s.call("list", prefix, func() (err error) { keys, err = s.Storage.List(ctx, prefix); return err })
	return keys, err
}

// Get implements logical.Storage.
func (s *testStorage) Get(ctx context.Context, key string) (entry *logical.StorageEntry, err error) {
	err = s.call("get", key, func() (err error) { entry, err = s.Storage.Get(ctx, key); return err })
	return entry, err
}

// Put implements logical.Storage.
func (s *testStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return s.call("put", entry.Key, func() error { return s.Storage.Put(ctx, entry) })
}

// Delete implements logical.Storage.
func (s *testStorage) Delete(ctx context.Context, key string) error {
	return s.call("delete", key, func() error { return s.Storage.Delete(ctx, key) })
}

// roundTrip is a value as it comes back from Vault's storage: JSON.
func roundTrip[T any](t *testing.T, value T) T {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	return back
}
