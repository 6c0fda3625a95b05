// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// TestMetrics scrapes the engine as Prometheus does: with a token that may do nothing else.
func TestMetrics(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m")
	held := m.lease("")
	defer held.revoke()

	status, contentType, body := m.scrape(m.tokenFor(`path "` + m.path + `/metrics" { capabilities = ["read"] }`))
	if status != http.StatusOK || !strings.HasPrefix(contentType, "text/plain; version=0.0.4") {
		t.Fatalf("answered %d as %q: %s", status, contentType, body)
	}
	for _, line := range []string{
		`cloudkeys_leases{role="app"} 1`,
		`cloudkeys_operation_duration_seconds_count{operation="issue",result="ok"} 1`,
		`cloudkeys_stuck_cleanups{account="default"} 0`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("there is no %s in:\n%s", line, body)
		}
	}
	if strings.Contains(body, m.root.SecretKey) {
		t.Error("it holds a secret")
	}
	if status, _, _ := m.scrape(m.tokenFor(`path "` + m.path + `/info" { capabilities = ["read"] }`)); status != http.StatusForbidden {
		t.Errorf("a token without the right is answered %d", status)
	}
}

// tokenFor makes a token with one policy.
func (m *mount) tokenFor(policy string) string {
	m.t.Helper()
	name := "metrics-" + keylabel.NewID()
	if err := m.server.Client.Sys().PutPolicyWithContext(m.t.Context(), name, policy); err != nil {
		m.t.Fatal(err)
	}
	made, err := m.server.Client.Auth().Token().CreateWithContext(m.t.Context(),
		&api.TokenCreateRequest{Policies: []string{name}, NoDefaultPolicy: true})
	if err != nil {
		m.t.Fatal(err)
	}
	return made.Auth.ClientToken
}

func (m *mount) scrape(token string) (status int, contentType, body string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.server.Client.Address()+"/v1/"+m.path+"/metrics", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}
