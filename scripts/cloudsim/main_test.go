// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// log is a writer that may be written and read at the same time.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func get(t *testing.T, method, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %v %d %s", method, url, err, response.StatusCode, raw)
	}
	return string(raw)
}

func TestTheCommandServesTheCloudUntilItIsToldToStop(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	stderr := &log{}
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"-listen", "127.0.0.1:0", "-policy", "900", "-user", "deploy=api:*",
			"-iam-user", "ci=iam:*", "-iam-group", "readers",
		}, in, stderr)
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var said announcement
	if err := json.Unmarshal(line, &said); err != nil {
		t.Fatal(err)
	}

	get(t, http.MethodPost, said.Endpoint+"/ReadRegions", "{}")
	var state cloudsim.State
	if err := json.Unmarshal([]byte(get(t, http.MethodGet, said.Admin+"/state", "")), &state); err != nil {
		t.Fatal(err)
	}
	account := state.Accounts[0]
	if account.ID != said.AccountID || account.Users[0] != "deploy" || account.Policy.MaxAccessKeyExpirationSeconds != 900 ||
		account.Keys[0].ID != said.AccessKey || said.Region != "eu-west-2" || len(said.SecretKey) != 40 {
		t.Errorf("announced %+v, got %+v", said.Endpoint, state)
	}
	domain, huawei := state.Domains[0], said.Huawei
	if domain.ID != huawei.DomainID || domain.Name != "acme" || domain.Users[0] != "ci" || domain.Keys[0].ID != huawei.AccessKey ||
		huawei.Users["ci"] == "" || huawei.Groups["readers"] == "" || len(huawei.SecretKey) != 40 {
		t.Errorf("announced %+v, got %+v", huawei, domain)
	}
	if text := stderr.String(); !strings.Contains(text, "op=ReadRegions") || strings.Contains(text, said.SecretKey) {
		t.Errorf("logged %s", text)
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestTheCommandRefusesWrongSettings(t *testing.T) {
	for name, test := range map[string]struct{ flag, value, want string }{
		"an address for everybody": {"-listen", "0.0.0.0:8400", "not a loopback address"},
		"no host at all":           {"-listen", ":8400", "not a loopback address"},
		"an account of 3 digits":   {"-account", "123", "12 digits"},
		"a user without name":      {"-user", "=api:*", "no name"},
		"a domain without name":    {"-domain", "", "-domain is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), []string{test.flag, test.value}, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
