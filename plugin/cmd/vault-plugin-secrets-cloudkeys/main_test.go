// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// An answer whose Content-Length ends before the secret.
const (
	secret = "TTqAHPbhWorg9ozx8Dv9MUyzYnOKDppxzHt12345"
	short  = "HTTP/1.1 201 Created\r\nContent-Length: 15\r\n\r\n" + `{"credential":{"access":"P83EVBZJMXCYTMUIAAAA","secret":"` +
		secret + `"}}`
)

// asks makes a test be the process that gets the short answer: "loud", or "silent" as the plugin.
const asks = "CLOUDKEYS_TEST_ASKS"

func TestTheRestOfAnAnswerIsNotLogged(t *testing.T) {
	if how := os.Getenv(asks); how != "" {
		if how == "silent" {
			silenceNetHTTP()
		}
		getShortAnswer(t)
		return
	}
	for how, logged := range map[string]bool{"loud": true, "silent": false} {
		child := exec.Command(os.Args[0], "-test.run=^TestTheRestOfAnAnswerIsNotLogged$")
		child.Env = append(os.Environ(), asks+"="+how)
		output, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if strings.Contains(string(output), secret) != logged {
			t.Errorf("%s: %s", how, output)
		}
	}
}

// getShortAnswer returns when net/http has read the connection to its end.
func getShortAnswer(t *testing.T) {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
			_, _ = io.WriteString(server, short) // the client's end says what came of it
		}
	}()
	closed := make(chan struct{})
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return &closing{Conn: client, closed: closed}, nil
	}}
	resp, err := transport.RoundTrip(httpRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	select {
	case <-closed: // net/http has found more than it expected, after it has logged it
	case <-time.After(10 * time.Second):
		t.Fatal("the connection stays")
	}
}

func httpRequest(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cloud.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// closing tells when a connection is closed.
type closing struct {
	net.Conn
	closed chan struct{}
}

func (c *closing) Close() error {
	close(c.closed)
	return c.Conn.Close()
}

func TestABinaryThatIsNotOfAReleaseKnowsItsCommit(t *testing.T) {
	for name, test := range map[string]struct {
		settings []debug.BuildSetting
		want     string
	}{
		"of a clean tree": {[]debug.BuildSetting{{Key: "vcs.revision", Value: "0123"}, {Key: "vcs.modified", Value: "false"}}, "0123"},
		"of a tree with changes": {
			[]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "0123"}},
			"0123-dirty",
		},
		"without git": {[]debug.BuildSetting{{Key: "GOOS", Value: "linux"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := builtFrom(test.settings); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
