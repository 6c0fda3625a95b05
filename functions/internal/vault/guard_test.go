// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestVaultsRedirectIsNeverFollowed(t *testing.T) {
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Store(true)
		fmt.Fprint(w, `{"auth":{"client_token":"x"}}`)
	}))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newServer(t)
			s.answer["auth/approle/login"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+"/v1/auth/approle/login", status)
			}
			_, err := open(t.Context())
			var unreachable *VaultUnreachableError
			if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "redirect") || !strings.Contains(err.Error(), "never followed") {
				t.Errorf("%v", err)
			}
			if reached.Load() {
				t.Error("the login went to another server")
			}
		})
	}
}

func TestAnEndlessAnswerOfVaultIsCutOff(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadRequest} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			s := newServer(t)
			session, err := open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan int64, 1)
			s.answer["keys/config"] = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				var sum int64
				chunk := strings.Repeat(" ", 1<<20)
				for {
					n, err := io.WriteString(w, chunk)
					if sum += int64(n); err != nil {
						written <- sum
						return
					}
				}
			}
			_, err = session.Accounts(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), "longer than") {
				t.Errorf("%v", err)
			}
			if sum := <-written; sum > maxAnswer+(16<<20) { // what stands in the sockets' buffers beside
				t.Errorf("%d bytes were taken", sum)
			}
		})
	}
}

func TestVaultIsVerified(t *testing.T) {
	start := func(t *testing.T, config *tls.Config) (ca string) {
		t.Helper()
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"auth":{"client_token":"token"}}`)
		}))
		server.TLS, server.Config.ErrorLog = config, log.New(io.Discard, "", 0) // failed handshakes are wanted
		server.StartTLS()
		t.Cleanup(server.Close)
		t.Setenv("VAULT_ADDR", server.URL)
		t.Setenv("VAULT_MAX_RETRIES", "0")
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	}
	t.Run("the own CA of VAULT_CACERT_BYTES is believed", func(t *testing.T) {
		t.Setenv("VAULT_CACERT_BYTES", start(t, nil))
		if _, err := open(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("an unknown CA is not", func(t *testing.T) {
		start(t, nil)
		if _, err := open(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%v", err)
		}
	})
	t.Run("nor is a server that knows nothing newer than TLS 1.1", func(t *testing.T) {
		ca := start(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		t.Setenv("VAULT_CACERT_BYTES", ca)
		if _, err := open(t.Context()); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%v", err)
		}
	})
	t.Run("the variable with which Vault's own client turns verification off changes nothing", func(t *testing.T) {
		start(t, nil)
		t.Setenv("VAULT_SKIP_VERIFY", "true")
		if _, err := open(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%v", err)
		}
	})
}
