// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestVaultPoliciesPermitWhatTheySayAndNothingElse makes every kind of request with a token of
// each policy of docs/examples/policies, without Vault's default policy.
func TestVaultPoliciesPermitWhatTheySayAndNothingElse(t *testing.T) {
	const application, operator, functions, metrics = "application", "operator", "functions", "metrics"
	m := newMount(t)
	for _, user := range []string{"db", "functions"} {
		m.account.AddUser(user, "api:ReadVms")
	}
	m.configure()
	m.write("config/spare", m.accountFields()...)
	for _, role := range []string{"deploy", "spare"} {
		m.write("roles/"+role, "user_names=app", "ttl=10m")
	}
	m.write("roles/functions-default", "user_names=functions", "ttl=10m")
	m.write("static-roles/db", "user_name=db", "rotation_period=4h")

	requests := []struct {
		method, path string
		fields       map[string]any
		permitted    []string
	}{
		{http.MethodGet, "creds/deploy", nil, []string{application}},
		{http.MethodGet, "creds/app", nil, nil},
		{http.MethodGet, "creds/functions-default", nil, []string{functions}},
		{http.MethodGet, "static-creds/db", nil, nil},
		{"LIST", "config", nil, []string{operator, functions}},
		{http.MethodGet, "config/default", nil, []string{operator, functions}},
		{http.MethodPut, "config/default", map[string]any{"ttl": "11m"}, []string{operator}},
		{http.MethodPatch, "config/default", map[string]any{"ttl": "12m"}, []string{operator}},
		{http.MethodDelete, "config/spare", nil, []string{operator}},
		{"LIST", "roles", nil, []string{operator}},
		{http.MethodGet, "roles/deploy", nil, []string{operator}},
		{http.MethodPut, "roles/deploy", map[string]any{"ttl": "11m"}, []string{operator}},
		{http.MethodPut, "roles/new", map[string]any{"user_names": "app"}, []string{operator}},
		{http.MethodDelete, "roles/spare", nil, []string{operator}},
		{"LIST", "static-roles", nil, []string{operator}},
		{http.MethodGet, "static-roles/db", nil, []string{operator}},
		{http.MethodPut, "static-roles/db", map[string]any{"rotation_period": "5h"}, []string{operator}},
		{http.MethodDelete, "static-roles/none", nil, []string{operator}},
		{"LIST", "keys", nil, []string{operator, functions}},
		{http.MethodGet, "keys/AAAAAAAAAAAAAAAAAAAA", nil, []string{operator, functions}},
		{http.MethodDelete, "keys/AAAAAAAAAAAAAAAAAAAA", nil, []string{operator}},
		{http.MethodPut, "rotate-root/default", nil, []string{operator}},
		{http.MethodPut, "rotate-role/db", nil, []string{operator}},
		{http.MethodGet, "policy/default", nil, []string{operator, functions}},
		{http.MethodPut, "policy/default", nil, []string{operator, functions}},
		{http.MethodGet, "check/default", nil, []string{operator}},
		{http.MethodPut, "tidy", nil, []string{operator}},
		{http.MethodGet, "tidy-status", nil, []string{operator}},
		{http.MethodGet, "info", nil, []string{operator, functions}},
		{http.MethodGet, "metrics", nil, []string{operator, metrics}},
		{http.MethodGet, "/sys/mounts/" + m.path + "/tune", nil, []string{functions}},
		{http.MethodPut, "/sys/mounts/" + m.path + "/tune", map[string]any{"max_lease_ttl": "24h"}, nil},
		{http.MethodPut, "/sys/leases/revoke-prefix/" + m.path + "/creds/none", nil, []string{operator}},
		{http.MethodPut, "/sys/leases/revoke-prefix/secret", nil, nil},
		{http.MethodPut, "/sys/policies/acl/" + m.path, map[string]any{"policy": "path \"*\" { capabilities = [\"read\"] }"}, nil},
		{http.MethodPut, "/auth/token/create", nil, nil},
		{http.MethodPut, "/auth/token/revoke-self", nil, []string{functions}}, // last: it ends the token
	}
	for _, policy := range []string{application, operator, functions, metrics} {
		t.Run("vault-"+policy+".hcl", func(t *testing.T) {
			client := m.clientOf(policy)
			for _, r := range requests {
				path, ofServer := strings.CutPrefix(r.path, "/")
				if !ofServer {
					path = m.path + "/" + r.path
				}
				status := statusOf(t, client, r.method, path, r.fields)
				if want := slices.Contains(r.permitted, policy); want != (status != http.StatusForbidden) {
					t.Errorf("%s %s: HTTP %d, permitted should be %v", r.method, path, status, want)
				}
				if status >= http.StatusInternalServerError || status == http.StatusMethodNotAllowed {
					t.Errorf("%s %s: HTTP %d, which says nothing of the policy", r.method, path, status)
				}
			}
		})
	}
}

// clientOf is a client with a token of one policy file, whose paths are made those of the mount.
func (m *mount) clientOf(policy string) *api.Client {
	m.t.Helper()
	text, err := os.ReadFile("../../docs/examples/policies/vault-" + policy + ".hcl")
	if err != nil {
		m.t.Fatal(err)
	}
	client, err := m.server.Client.Clone()
	if err != nil {
		m.t.Fatal(err)
	}
	client.SetToken(m.tokenFor(strings.ReplaceAll(string(text), "outscale/", m.path+"/")))
	return client
}

// statusOf is the HTTP status that a request is answered with.
func statusOf(t *testing.T, client *api.Client, method, path string, fields map[string]any) int {
	t.Helper()
	var err error
	switch logical := client.Logical(); method {
	case "LIST":
		_, err = logical.ListWithContext(t.Context(), path)
	case http.MethodGet:
		// Raw: metrics are no JSON.
		var answer *api.Response
		answer, err = logical.ReadRawWithContext(t.Context(), path)
		if answer != nil {
			answer.Body.Close()
		}
	case http.MethodPut:
		_, err = logical.WriteWithContext(t.Context(), path, fields)
	case http.MethodPatch:
		_, err = logical.JSONMergePatch(t.Context(), path, fields)
	case http.MethodDelete:
		_, err = logical.DeleteWithContext(t.Context(), path)
	default:
		t.Fatalf("no method %q", method)
	}
	var refused *api.ResponseError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refused):
		return refused.StatusCode
	}
	t.Fatalf("%s %s: %v", method, path, err)
	return 0
}
