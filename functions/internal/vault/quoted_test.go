// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
)

// net/http quotes what it cannot read as HTTP, and errors end up in reports and logs.
func TestAnAnswerThatIsNoHTTPIsNotRepeatedInTheError(t *testing.T) {
	for name, broken := range map[string]string{
		"without a head":               leased,
		"in the place of a header":     "HTTP/1.1 200 OK\r\n" + leased + "\r\n\r\n",
		"in the place of a length":     "HTTP/1.1 200 OK\r\nContent-Length: " + leased + "\r\n\r\n",
		"in the place of an encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + leased + "\r\n\r\n",
		"in the place of a chunk":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + leased + "\r\n",
		"in the place of a trailer":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + leased + "\r\n\r\n",
		"with less than was announced": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + leased,
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.answer["keys/creds/functions-a"] = func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprint(conn, broken)
			}
			_, err := mustOpen(t).Lease(t.Context(), &fleet.Account{Name: "a"}, time.Minute)
			if err == nil || strings.Contains(err.Error(), "secret_key") {
				t.Errorf("it says %q", err)
			}
		})
	}
}

func TestTheErrorOfARequestThatWasNotSentIsWhole(t *testing.T) {
	newServer(t)
	t.Setenv("VAULT_ADDR", "vault.example.com:8200")
	if _, err := open(t.Context()); err == nil || !strings.Contains(err.Error(), `unsupported protocol scheme "vault.example.com"`) {
		t.Error(err)
	}
}
