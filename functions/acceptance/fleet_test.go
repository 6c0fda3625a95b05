// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	fleetInstance = "FLEETAAAAAAAAAAA"
	fleetToken    = "token-of-the-fleet"
)

// fleet is many accounts of one simulated cloud, and a Vault that has the few answers which
// the function asks for: a real one has a test of its own, and would take minutes to
// configure 2,000 accounts.
type fleet struct {
	t        testing.TB
	sim      *cloudsim.Cloud
	endpoint string
	vault    string
	members  []*member
	byName   map[string]*member

	mu      sync.Mutex
	logins  int
	revoked int
	leases  map[string]int // by account
}

// member is one account of a fleet.
type member struct {
	name    string
	account *cloudsim.Account
	own     cloudsim.Credentials // what the function is leased
	leased  string
	orphan  string // empty: none
	foreign string
}

// newFleet has a key to remove in every account.
func newFleet(t testing.TB, accounts int) *fleet {
	t.Helper()
	return newFleetWith(t, accounts, 1)
}

// newFleetWith has one in one of so many accounts.
func newFleetWith(t testing.TB, accounts, orphans int) *fleet {
	t.Helper()
	f := &fleet{t: t, sim: cloudsim.New(cloudsim.WithRegion(cloudRegion)), byName: map[string]*member{}, leases: map[string]int{}}
	f.endpoint = f.sim.Start(t)
	for i := range accounts {
		m := f.newMember(i, i%orphans == 0)
		f.members, f.byName[m.name] = append(f.members, m), m
	}
	server := httptest.NewServer(f.handler())
	t.Cleanup(server.Close)
	f.vault = server.URL
	return f
}

// newMember has keys that must stay, and may have one that nothing holds any more.
func (f *fleet) newMember(i int, orphan bool) *member {
	a := f.sim.AddAccount(fmt.Sprintf("%012d", 100_000_000_000+i))
	a.AddUser("functions", "api:ReadUsers", "api:ReadAccounts", "api:ReadAccessKeys", "api:UpdateAccessKey", "api:DeleteAccessKey",
		"api:ReadApiAccessPolicy")
	a.AddUser("app")
	now := time.Now()
	label := func() string { return keylabel.New(fleetInstance, keylabel.KindLease).String() }
	m := &member{name: fmt.Sprintf("account-%05d", i), account: a, own: a.AddKey(cloudsim.KeySpec{User: "functions", Tag: label()})}
	m.leased = a.AddKey(cloudsim.KeySpec{User: "app", Tag: label(), Created: now.Add(-2 * time.Hour), Expires: now.Add(time.Hour)}).AccessKey
	if orphan {
		m.orphan = a.AddKey(cloudsim.KeySpec{
			User: "app", Tag: label(), Created: now.Add(-3 * time.Hour),
			Expires: now.Add(48 * time.Hour),
		}).AccessKey
	}
	for range 2 {
		m.foreign = a.AddKey(cloudsim.KeySpec{User: "app", Created: now.AddDate(0, 0, -10)}).AccessKey
	}
	return m
}

// environment is what the function needs to find the fleet.
func (f *fleet) environment() map[string]string {
	return map[string]string{
		"VAULT_ADDR": f.vault, "VAULT_MAX_RETRIES": "0", "VAULT_AUTH_METHOD": "approle", "VAULT_ROLE_ID": "fleet",
		"VAULT_SECRET_ID": "secret-of-the-fleet", "MODE": "enforce", "QUARANTINE": "0s", "MAX_PERCENT": "50", "WORKERS": "2",
		"AWS_LAMBDA_FUNCTION_TIMEOUT": "600", // the template's
		"AWS_REGION":                  awsRegion, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
	}
}

// handler answers as Vault with the plugin does.
func (f *fleet) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/auth/approle/login", func(w http.ResponseWriter, _ *http.Request) {
		f.count(&f.logins)
		answerJSON(w, map[string]any{"auth": map[string]any{"client_token": fleetToken, "lease_duration": 900}})
	})
	mux.HandleFunc("PUT /v1/auth/token/revoke-self", func(w http.ResponseWriter, _ *http.Request) {
		f.count(&f.revoked)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/cloudkeys/info", func(w http.ResponseWriter, _ *http.Request) {
		answerData(w, map[string]any{"instance_id": fleetInstance})
	})
	mux.HandleFunc("GET /v1/cloudkeys/config", f.listConfigs)
	mux.HandleFunc("GET /v1/cloudkeys/config/{name}", func(w http.ResponseWriter, r *http.Request) {
		m, known := f.byName[r.PathValue("name")]
		if !known {
			answerNothing(w)
			return
		}
		answerData(w, map[string]any{
			"provider": "outscale", "region": cloudRegion, "endpoint": f.endpoint, "account_id": m.account.ID(),
			"access_key": m.account.RootKey().AccessKey, "max_requests_per_second": 5000, "request_timeout": 30, "max_retries": 0,
		})
	})
	mux.HandleFunc("GET /v1/cloudkeys/creds/{role}", func(w http.ResponseWriter, r *http.Request) {
		m := f.byName[strings.TrimPrefix(r.PathValue("role"), "functions-")]
		f.mu.Lock()
		f.leases[m.name]++
		f.mu.Unlock()
		answerData(w, map[string]any{"account": m.name, "access_key": m.own.AccessKey, "secret_key": m.own.SecretKey})
	})
	mux.HandleFunc("GET /v1/cloudkeys/keys", func(w http.ResponseWriter, r *http.Request) {
		m := f.byName[r.URL.Query().Get("account")]
		keys := map[string]string{"": m.leased, "app": m.leased, "functions": m.own.AccessKey} // the first of all where no user is named
		key, has := keys[r.URL.Query().Get("user")]
		if !has {
			answerNothing(w)
			return
		}
		answerData(w, map[string]any{"keys": []string{key}, "key_info": map[string]any{key: map[string]any{"kind": "lease", "role": "app"}}})
	})
	// who is leased stands in the list
	mux.HandleFunc("GET /v1/cloudkeys/keys/{id}", func(w http.ResponseWriter, _ *http.Request) { answerNothing(w) })
	return mux
}

func (f *fleet) listConfigs(w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	names := []string{}
	for _, m := range f.members {
		if m.name > r.URL.Query().Get("after") && (limit == 0 || len(names) < limit) {
			names = append(names, m.name)
		}
	}
	answerData(w, map[string]any{"keys": names})
}

func (f *fleet) count(n *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n++
}

func answerJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // whoever asked finds out
}

// answerNothing is how Vault tells that nothing is there.
func answerNothing(w http.ResponseWriter) {
	w.WriteHeader(http.StatusNotFound)
	answerJSON(w, map[string]any{"errors": []string{}})
}

func answerData(w http.ResponseWriter, data map[string]any) {
	answerJSON(w, map[string]any{"data": data})
}

// swept tells whether an account is as a sweep leaves it, and fails where a key is gone that
// must stay.
func (f *fleet) swept(m *member) bool {
	f.t.Helper()
	orphan := false
	var left []string
	for _, key := range m.account.Keys() {
		orphan = orphan || key.ID == m.orphan
		left = append(left, key.ID)
	}
	for _, id := range []string{m.leased, m.own.AccessKey, m.foreign, m.account.RootKey().AccessKey} {
		if !slices.Contains(left, id) {
			f.t.Errorf("%s: a key that must stay is gone", m.name)
		}
	}
	return !orphan
}

// mustBeSwept compares which accounts are as a sweep leaves them.
func (f *fleet) mustBeSwept(want func(m *member) bool) {
	f.t.Helper()
	wrong := 0
	for _, m := range f.members {
		if f.swept(m) != want(m) {
			wrong++
			if wrong < 5 {
				f.t.Errorf("%s: swept is %v", m.name, !want(m))
			}
		}
	}
	if wrong > 0 {
		f.t.Errorf("%d of %d accounts are not as they should be", wrong, len(f.members))
	}
}

// mustHaveLeased compares how often each account was opened: to plan, and to apply a plan.
func (f *fleet) mustHaveLeased() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		want := 1
		if m.orphan != "" {
			want = 2
		}
		if f.leases[m.name] != want {
			f.t.Errorf("%s was opened %d times, want %d", m.name, f.leases[m.name], want)
			return
		}
	}
	f.mustHaveGivenBackLocked()
}

// mustHaveGivenBack compares logins with the tokens that were revoked after them.
func (f *fleet) mustHaveGivenBack() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustHaveGivenBackLocked()
}

func (f *fleet) mustHaveGivenBackLocked() {
	f.t.Helper()
	if f.logins != f.revoked {
		f.t.Errorf("%d logins, and %d tokens given back", f.logins, f.revoked)
	}
}

func every(*member) bool { return true }

func none(*member) bool { return false }
