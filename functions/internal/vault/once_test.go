// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
)

// leased is an answer to creds/functions-a.
const leased = `{"lease_id":"l","data":{"account":"a","access_key":"K","secret_key":"S"}}`

// offersHTTP2 puts a server with TLS that prefers HTTP/2 before Vault, as a gateway does.
func offersHTTP2(t *testing.T, s http.Handler) {
	t.Helper()
	front := httptest.NewUnstartedServer(s)
	front.EnableHTTP2, front.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	front.StartTLS()
	t.Cleanup(front.Close)
	t.Setenv("VAULT_ADDR", front.URL)
	t.Setenv("VAULT_CACERT_BYTES", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})))
}

// net/http repeats a request by itself over HTTP/2 as often as its stream is reset, and over HTTP/1.1 where a connection that was in use
// before is closed in place of an answer. Vault's client repeats what fails, and HTTP 500 and above.
func TestALeaseIsAskedForOnceWhateverBecomesOfTheAnswer(t *testing.T) {
	fronts := map[string]func(t *testing.T, s http.Handler){
		"a plain listener":             func(*testing.T, http.Handler) {},
		"a server that prefers HTTP/2": offersHTTP2,
	}
	answers := map[string]http.HandlerFunc{
		"the connection ends in place of it": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"it breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"lease_id":`)
		},
		"an error of Vault":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a gateway did not hear it": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"a gateway waited too long": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGatewayTimeout) },
		"a mesh lost the connection": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	}
	for front, put := range fronts {
		for answer, give := range answers {
			t.Run(front+", "+answer, func(t *testing.T) {
				s := newServer(t)
				t.Setenv("VAULT_MAX_RETRIES", "2")
				put(t, s)
				session := mustOpen(t)
				s.says("keys/creds/functions-a", 200, leased)
				if _, err := session.Lease(t.Context(), &fleet.Account{Name: "a"}, time.Minute); err != nil { // its connection could be used again
					t.Fatal(err)
				}
				var asked atomic.Int64
				s.answer["keys/creds/functions-a"] = func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					give(w, r)
				}
				if _, err := session.Lease(t.Context(), &fleet.Account{Name: "a"}, time.Minute); err == nil {
					t.Error("a lease without an answer passes for one")
				}
				if n := asked.Load(); n != 1 {
					t.Errorf("%d keys were perhaps leased", n)
				}
			})
		}
	}
}

func TestVaultIsSpokenToInHTTP1(t *testing.T) {
	s := newServer(t)
	offersHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("%s came over %s, in which net/http repeats requests by itself", r.URL.Path, r.Proto)
		}
		s.ServeHTTP(w, r)
	}))
	s.says("keys/creds/functions-a", 200, leased)
	session := mustOpen(t)
	if _, err := session.Lease(t.Context(), &fleet.Account{Name: "a"}, time.Minute); err != nil {
		t.Error(err)
	}
	if err := session.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhatIsAskedAgain(t *testing.T) {
	lost := &url.Error{Op: "Get", URL: "https://vault", Err: io.EOF}
	refused := &url.Error{Op: "Get", URL: "https://vault", Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	proxied := &url.Error{Op: "Get", URL: "https://vault", Err: &net.OpError{Op: "proxyconnect", Err: refused.Err}}
	overSOCKS := &url.Error{
		Op: "Get", URL: "https://vault", Err: &net.OpError{Op: "socks connect", Err: errors.New("unknown error host unreachable")},
	}
	cases := map[string]struct {
		status      int
		err         error
		lease, rest bool
	}{
		"nothing after an answer":                            {200, nil, false, false},
		"nothing that is denied":                             {403, nil, false, false},
		"both where nobody listened":                         {0, refused, true, true},
		"both where no proxy listened":                       {0, proxied, true, true},
		"both where a SOCKS proxy came no further":           {0, overSOCKS, true, true},
		"both where a quota of requests is used up":          {429, nil, true, true},
		"both where a standby has not caught up":             {412, nil, true, true},
		"all but a lease after an answer that was lost":      {0, lost, false, true},
		"all but a lease after an error of Vault":            {500, nil, false, true},
		"all but a lease after what a gateway may have sent": {503, nil, false, true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			var resp *http.Response
			if test.err == nil {
				resp = &http.Response{StatusCode: test.status}
			}
			if got, err := again(leasing(t.Context()), resp, test.err); got != test.lease || err != nil {
				t.Errorf("a lease: got %t and error %v", got, err)
			}
			if got, err := again(t.Context(), resp, test.err); got != test.rest || err != nil {
				t.Errorf("all else: got %t and error %v", got, err)
			}
		})
	}
}
