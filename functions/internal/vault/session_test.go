// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// server answers as Vault does. The acceptance tests ask a real one; here are the answers
// that a real one gives only with effort.
type server struct {
	t *testing.T

	mu      sync.Mutex
	logins  int
	revoked []string
	answer  map[string]http.HandlerFunc
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, answer: map[string]http.HandlerFunc{}}
	listening := httptest.NewServer(s)
	t.Cleanup(listening.Close)
	t.Setenv("VAULT_ADDR", listening.URL)
	t.Setenv("VAULT_TOKEN", "someone-elses")
	t.Setenv("VAULT_MAX_RETRIES", "0")
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch answer := s.answer[path]; {
	case answer != nil:
		answer(w, r)
	case path == "auth/approle/login":
		s.logins++
		fmt.Fprintf(w, `{"auth":{"client_token":"token-%d"}}`, s.logins)
	case path == "auth/token/revoke-self":
		s.revoked = append(s.revoked, r.Header.Get("X-Vault-Token"))
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, `{"errors":[]}`, http.StatusNotFound)
	}
}

// says answers a path with a status and a body.
func (s *server) says(path string, status int, body string) {
	s.answer[path] = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func open(ctx context.Context) (*Session, error) {
	config, _, err := ReadConfig(environment(map[string]string{
		"VAULT_ADDR": "from the environment", "VAULT_ENGINE": "keys", "VAULT_AUTH_METHOD": "approle", "VAULT_ROLE_ID": "i",
		"VAULT_SECRET_ID": "s",
	}))
	if err != nil {
		return nil, err
	}
	return Open(ctx, config, slog.New(slog.DiscardHandler))
}

func mustOpen(t *testing.T) *Session {
	t.Helper()
	s, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryKindOfFailureHasATypeOfItsOwn(t *testing.T) {
	cases := map[string]struct {
		status int
		body   string
		want   error
	}{
		"sealed":            {503, `{"errors":["Vault is sealed"]}`, &VaultSealedError{}},
		"denied":            {403, `{"errors":["permission denied"]}`, &VaultDeniedError{}},
		"no such auth":      {404, `{"errors":["no handler for route"]}`, &VaultEmptyError{}},
		"an error of Vault": {500, `{"errors":["internal error"]}`, &VaultFailedError{}},
		"a bad request":     {400, `{"errors":["invalid role"]}`, &VaultFailedError{}},
		"no token":          {200, `{}`, &VaultEmptyError{}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			newServer(t).says("auth/approle/login", test.status, test.body)
			_, err := open(t.Context())
			if reflect.TypeOf(err) != reflect.TypeOf(test.want) || strings.Contains(err.Error(), "\n") ||
				!strings.Contains(err.Error(), "auth/approle/login") {
				t.Errorf("got %T: %v", err, err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		newServer(t)
		t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
		var unreachable *VaultUnreachableError
		if _, err := open(t.Context()); !errors.As(err, &unreachable) {
			t.Errorf("got %T: %v", err, err)
		}
	})
}

// TestWhatARunIsGivenWhileItIsCancelledIsGivenBack: Vault has made it, whether or not somebody waits for the answer.
func TestWhatARunIsGivenWhileItIsCancelledIsGivenBack(t *testing.T) {
	cut := func(cancel func(), body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			cancel()
			fmt.Fprint(w, body)
		}
	}
	t.Run("a token", func(t *testing.T) {
		s := newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.answer["auth/approle/login"] = cut(cancel, `{"auth":{"client_token":"token-1"}}`)
		session, err := open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Close(ctx); err != nil || !reflect.DeepEqual(s.revoked, []string{"token-1"}) {
			t.Errorf("%q is given back (%v)", s.revoked, err)
		}
		s.answer["auth/approle/login"] = func(http.ResponseWriter, *http.Request) { t.Error("a cancelled run logs in") }
		if _, err := open(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("and nothing that was refused is asked for again", func(t *testing.T) {
		s := newServer(t)
		t.Setenv("VAULT_MAX_RETRIES", "2")
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		s.answer["auth/approle/login"] = func(w http.ResponseWriter, _ *http.Request) {
			asked++
			cancel()
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if _, err := open(ctx); err == nil || asked != 1 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	})
	t.Run("not even after the pause before the next try", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		longer, done := awaiting(ctx, time.Minute)
		defer done()
		cancel()
		req, err := http.NewRequestWithContext(longer, http.MethodPut, "http://127.0.0.1:1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := (guard{next: http.DefaultTransport}).RoundTrip(req); !errors.Is(err, context.Canceled) { // not "connection refused"
			t.Errorf("got %v, %v", resp, err)
		}
	})
	t.Run("a key that is leased with a token of somebody else", func(t *testing.T) {
		s := newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.answer["keys/creds/functions-a"] = cut(cancel, `{"lease_id":"keys/creds/functions-a/1","lease_duration":60,"data":{"account":"a"}}`)
		given := ""
		s.answer["sys/leases/revoke"] = func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if given = string(body); err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusNoContent)
		}
		session, err := Open(ctx, Config{Engine: "keys", Auth: AuthToken, Token: "theirs", CredsRole: "functions-{account}"},
			slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Lease(ctx, &fleet.Account{Name: "a"}, time.Minute); err != nil {
			t.Error(err)
		}
		if err := session.Close(ctx); err != nil || !strings.Contains(given, "keys/creds/functions-a/1") {
			t.Errorf("%q is given back (%v)", given, err)
		}
	})
}

func TestATokenThatHasEndedIsReplacedOnce(t *testing.T) {
	s := newServer(t)
	s.answer["keys/policy/a"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") == "token-1" {
			http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"data":{}}`)
	}
	session := mustOpen(t)
	if err := session.Refresh(t.Context(), "a"); err != nil || s.logins != 2 {
		t.Errorf("got %v after %d logins", err, s.logins)
	}
	s.says("keys/policy/a", http.StatusForbidden, `{"errors":["permission denied"]}`)
	var denied *VaultDeniedError
	if err := session.Refresh(t.Context(), "a"); !errors.As(err, &denied) || s.logins != 2 {
		t.Errorf("got %v after %d logins: a second denial is believed", err, s.logins)
	}
	t.Run("both tokens are revoked, also when the run was cancelled", func(t *testing.T) {
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := session.Close(cancelled); err != nil || !reflect.DeepEqual(s.revoked, []string{"token-1", "token-2"}) {
			t.Errorf("got %v, revoked %v", err, s.revoked)
		}
	})
	t.Run("closing again does nothing", func(t *testing.T) {
		if err := session.Close(t.Context()); err != nil || len(s.revoked) != 2 {
			t.Errorf("got %v, revoked %v", err, s.revoked)
		}
	})
}

func TestManyDeniedAtOnceLogInOnce(t *testing.T) {
	s := newServer(t)
	s.answer["keys/policy/a"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") == "token-1" {
			http.Error(w, `{"errors":[]}`, http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"data":{}}`)
	}
	session := mustOpen(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := session.Refresh(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.logins != 2 {
		t.Errorf("%d logins", s.logins)
	}
}

func TestAnEngineWithoutAccountsIsNoSweepOfNothing(t *testing.T) {
	newServer(t)
	var nothing *VaultEmptyError
	if _, err := mustOpen(t).Accounts(t.Context(), nil); !errors.As(err, &nothing) {
		t.Errorf("got %v", err)
	}
}

func TestAccounts(t *testing.T) {
	s := newServer(t)
	s.says("keys/config", 200, `{"data":{"keys":["a","b"]}}`)
	s.says("keys/info", 200, `{"data":{"instance_id":"INSTANCE"}}`)
	s.says("keys/config/a", 200, `{"data":{"provider":"outscale","region":"eu-west-2","access_key":"NOW","previous_access_keys":["BEFORE"],
		"account_id":"123456789012","expiry_grace":60,"max_requests_per_second":2.5,"request_timeout":15,"max_retries":3}}`)
	s.says("keys/config/b", 200, `{"data":{"provider":""}}`)
	session := mustOpen(t)
	accounts, err := session.Accounts(t.Context(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	want := []fleet.Account{{
		Name:      "a",
		Config:    provider.Config{Provider: "outscale", Region: "eu-west-2", PerSecond: 2.5, Timeout: 15 * time.Second, MaxRetries: 3},
		AccountID: "123456789012", EngineKeys: []string{"NOW", "BEFORE"}, Mount: "keys", Instance: "INSTANCE", ExpiryGrace: time.Minute,
	}}
	if !reflect.DeepEqual(accounts, want) {
		t.Errorf("got  %+v\nwant %+v", accounts, want)
	}
	if _, err := session.Accounts(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "cloudkeys engine") {
		t.Errorf("an answer of another engine: %v", err)
	}
}

func TestTheLedgerIsReadPageByPage(t *testing.T) {
	s := newServer(t)
	const total = pageSize + 3
	s.answer["keys/keys"] = func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("account") != "a" || query.Get("user") != "deploy" || query.Get("list") != "true" {
			t.Errorf("asked with %v", query)
		}
		first := 0
		if after := query.Get("after"); after != "" {
			fmt.Sscanf(after, "K%05d", &first)
			first++
		}
		limit, _ := strconv.Atoi(query.Get("limit"))
		ids, info := []string{}, map[string]any{}
		for i := first; i < min(total, first+limit); i++ {
			id := fmt.Sprintf("K%05d", i)
			ids = append(ids, id)
			info[id] = map[string]any{"kind": "lease", "user_name": "deploy", "role": "r", "expiration": "2026-01-02T03:04:05Z"}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"keys": ids, "key_info": info}})
	}
	keys, err := mustOpen(t).Keys(t.Context(), "a", "deploy")
	if err != nil || len(keys) != total {
		t.Fatalf("got %d keys and error %v", len(keys), err)
	}
	last := keys[total-1]
	if last.AccessKey != "K01002" || last.Kind != "lease" || last.Role != "r" ||
		!last.Expires.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("got %+v", last)
	}
}

func TestAKeyIsFoundInTheLedgerByItsID(t *testing.T) {
	s := newServer(t)
	s.says("keys/keys/K1", 200, `{"data":{"kind":"static","role":"db","account":"b"}}`)
	s.says("keys/keys/K2", 404, `{"errors":[]}`)
	s.says("keys/keys/K3", 403, `{"errors":["permission denied"]}`)
	session := mustOpen(t)
	if key, err := session.Key(t.Context(), "K1"); err != nil || key == nil || key.AccessKey != "K1" || key.Kind != "static" ||
		key.Role != "db" {
		t.Errorf("got %+v and error %v", key, err)
	}
	if key, err := session.Key(t.Context(), "K2"); err != nil || key != nil {
		t.Errorf("got %+v and error %v", key, err)
	}
	if _, err := session.Key(t.Context(), "K3"); err == nil {
		t.Error("a denial passes for a key that nobody knows")
	}
}

func TestALedgerThatCannotBeReadIsAnError(t *testing.T) {
	s := newServer(t)
	s.says("keys/keys", 500, `{"errors":["storage is gone"]}`)
	if _, err := mustOpen(t).Keys(t.Context(), "a", "deploy"); err == nil {
		t.Error("it was taken for an empty one")
	}
	s.says("keys/keys", 200, `{"data":{"keys":["K"],"key_info":{"K":{"expiration":"soon"}}}}`)
	if _, err := mustOpen(t).Keys(t.Context(), "a", "deploy"); err == nil {
		t.Error("a date that cannot be read was taken for none")
	}
}

func TestAKeyOfAnotherAccountIsRefused(t *testing.T) {
	s := newServer(t)
	s.says("keys/creds/functions-a", 200, `{"lease_id":"l","data":{"account":"b","access_key":"K","secret_key":"S"}}`)
	_, err := mustOpen(t).Lease(t.Context(), &fleet.Account{Name: "a"}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), `of account "b"`) || strings.Contains(err.Error(), `"S"`) {
		t.Errorf("got %v", err)
	}
}

func TestTheLongestKeyOfAnAccountIsTheEnginesAnswer(t *testing.T) {
	s := newServer(t)
	for account, seconds := range map[string]int{"a": 665, "b": 0} {
		s.says("keys/policy/"+account, 200, fmt.Sprintf(`{"data":{"longest_key_lifetime":%d}}`, seconds))
		if longest, err := mustOpen(t).LongestKey(t.Context(), account); err != nil || longest != time.Duration(seconds)*time.Second {
			t.Errorf("got %s and error %v, want %d seconds", longest, err, seconds)
		}
	}
	s.says("keys/policy/a", 403, `{"errors":["permission denied"]}`)
	if _, err := mustOpen(t).LongestKey(t.Context(), "a"); err == nil {
		t.Error("a denial passes for no key at all")
	}
}

func TestEveryWorkerKeepsItsConnectionUntilTheEnd(t *testing.T) {
	const workers, rounds = 16, 5
	s := newServer(t)
	var opened, closed atomic.Int64
	var underWay sync.WaitGroup
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/keys") { // all of a round are under way at once
			underWay.Done()
			underWay.Wait()
		}
		s.ServeHTTP(w, r)
	}))
	front.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed.Add(1)
		}
	}
	front.Start()
	t.Cleanup(front.Close)
	t.Setenv("VAULT_ADDR", front.URL)
	session := mustOpen(t)
	for range rounds {
		underWay.Add(workers)
		var round sync.WaitGroup
		for range workers {
			round.Go(func() {
				if _, err := session.Keys(t.Context(), "default", "app"); err != nil {
					t.Error(err)
				}
			})
		}
		round.Wait()
	}
	if n := opened.Load(); n > 2*workers {
		t.Errorf("%d requests opened %d connections, want one for each of the %d workers", rounds*workers, n, workers)
	}
	if err := session.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond) // the server hears of it a little later
	defer tick.Stop()
	for limit := time.After(30 * time.Second); closed.Load() < opened.Load(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d of %d connections are open after the session", opened.Load()-closed.Load(), opened.Load())
		}
	}
}

func TestAnErrorIsOneLineAndSaysWhatMayBeWrong(t *testing.T) {
	s := newServer(t)
	s.says("keys/info", 403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
	s.says("keys/config", 200, `{"data":{"keys":["a"]}}`)
	_, err := mustOpen(t).Accounts(t.Context(), nil)
	var denied *VaultDeniedError
	if !errors.As(err, &denied) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q", err)
	}
	for _, part := range []string{"keys/info", "VAULT_ENGINE", "VAULT_NAMESPACE", "permission denied"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
}

// The token of a service account is read at each login: Kubernetes replaces it every hour.
func TestALoginWithTheTokenOfAServiceAccount(t *testing.T) {
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "token")
	var logins []map[string]string
	s.answer["auth/kubernetes/login"] = func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		logins = append(logins, body)
		_ = json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": "hvs.k8s"}}) // the client finds out
	}
	for i, jwt := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(jwt+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		session, err := Open(t.Context(), Config{
			Engine: "keys", Auth: AuthKubernetes, AuthMount: "kubernetes", AuthRole: "sweeper",
			JWTFile: file,
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := logins[i]; got["role"] != "sweeper" || got["jwt"] != jwt {
			t.Errorf("got %v", got)
		}
		if err := session.Close(t.Context()); err != nil {
			t.Log(err)
		}
	}
}
