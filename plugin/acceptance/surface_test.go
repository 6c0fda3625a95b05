// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// TestPathsDescribeThemselves reads what the server shows of the engine's paths: to people
// who ask for help, and to tools that make clients of it.
func TestPathsDescribeThemselves(t *testing.T) {
	m := newMount(t)
	help, err := m.server.Client.HelpWithContext(t.Context(), m.path+"/")
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := help.OpenAPI["paths"].(map[string]any)
	ids := map[string]string{}
	for path, described := range paths {
		for method, operation := range described.(map[string]any) {
			operation, is := operation.(map[string]any)
			if !is { // a description, or parameters
				continue
			}
			id, _ := operation["operationId"].(string)
			if id == "" || ids[id] != "" || operation["summary"] == "" || operation["responses"] == nil {
				t.Errorf("%s %s: the operation id %q, which %q has too, or no summary or answers: %v", method, path, id, ids[id], operation)
			}
			ids[id] = method + " " + path
		}
	}
	for _, id := range []string{
		"cloud-keys-generate-credentials", "cloud-keys-patch-account", "cloud-keys-patch-role",
		"cloud-keys-patch-static-role",
	} {
		if ids[id] == "" {
			t.Errorf("no operation has the id %s: %v", id, ids)
		}
	}
	for _, path := range []string{
		"config", "config/x", "rotate-root/x", "policy/x", "check/x", "roles", "roles/x", "creds/x", "static-roles", "static-roles/x",
		"static-creds/x", "rotate-role/x", "keys", "keys/x", "tidy", "tidy-status", "info",
	} {
		help, err := m.server.Client.HelpWithContext(t.Context(), m.path+"/"+path)
		if err != nil || !strings.Contains(help.Help, "DESCRIPTION") {
			t.Errorf("help of %s: %v, %v", path, help, err)
		}
	}
}

// TestCreateIsNotUpdate has policies that allow one and not the other, which only works
// where the engine tells the server whether an entry exists.
func TestCreateIsNotUpdate(t *testing.T) {
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	m.account.AddUser("db2", "api:ReadVms")
	m.configure()
	m.write("static-roles/db", "user_name=db", "rotation_period=4h")
	entries := map[string]struct {
		there, missing string
		fields         map[string]any
	}{
		"config": {"default", "other", map[string]any{
			"provider": "outscale", "region": region, "endpoint": m.url,
			"access_key": m.root.AccessKey, "secret_key": m.root.SecretKey,
		}},
		"roles":        {"app", "other", map[string]any{"user_names": "app"}},
		"static-roles": {"db", "other", map[string]any{"user_name": "db2", "rotation_period": "4h"}},
	}
	for prefix, entry := range entries {
		for _, capability := range []string{"create", "update"} {
			t.Run(prefix+" with "+capability, func(t *testing.T) {
				client := m.clientWith(capability, prefix)
				allowed, denied := entry.missing, entry.there
				if capability == "update" {
					allowed, denied = denied, allowed
				}
				_, err := client.Logical().WriteWithContext(t.Context(), m.path+"/"+prefix+"/"+denied, map[string]any{"account": "default"})
				var refused *api.ResponseError
				if !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
					t.Errorf("%s: %v, want HTTP 403", denied, err)
				}
				fields := entry.fields
				if capability == "update" {
					fields = nil
				}
				if _, err := client.Logical().WriteWithContext(t.Context(), m.path+"/"+prefix+"/"+allowed, fields); err != nil {
					t.Errorf("%s: %v", allowed, err)
				}
				if _, err := m.server.Client.Logical().DeleteWithContext(t.Context(), m.path+"/"+prefix+"/"+entry.missing); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// clientWith is a client whose token has one capability on the paths below a prefix.
func (m *mount) clientWith(capability, prefix string) *api.Client {
	m.t.Helper()
	name := fmt.Sprintf("%s-%s-%s", m.path, prefix, capability)
	policy := fmt.Sprintf(`path "%s/%s/*" { capabilities = [%q] }`, m.path, prefix, capability)
	if err := m.server.Client.Sys().PutPolicyWithContext(m.t.Context(), name, policy); err != nil {
		m.t.Fatal(err)
	}
	token, err := m.server.Client.Auth().Token().CreateWithContext(m.t.Context(), &api.TokenCreateRequest{Policies: []string{name}})
	if err != nil {
		m.t.Fatal(err)
	}
	client, err := m.server.Client.Clone()
	if err != nil {
		m.t.Fatal(err)
	}
	client.SetToken(token.Auth.ClientToken)
	return client
}

func TestListsArePaged(t *testing.T) {
	m := newMount(t)
	m.write("config/a", m.accountFields()...)
	names := []string{"a", "b", "c"}
	for _, name := range names {
		m.account.AddUser(name, "api:ReadVms")
		m.write("config/"+name, m.accountFields()...)
		m.write("roles/"+name, "account=a", "user_names=app")
		m.write("static-roles/"+name, "account=a", "user_name="+name, "rotation_period=4h")
	}
	for _, path := range []string{"config", "roles", "static-roles"} {
		for after, want := range map[string][]string{"": {"a", "b"}, "b": {"c"}, "c": nil} {
			if page, err := m.page(path, after, 2); err != nil || !slices.Equal(page, want) {
				t.Errorf("%s, two after %q: %v, want %v (%v)", path, after, page, want, err)
			}
		}
		if all, err := m.list(m.path + "/" + path); err != nil || !slices.Equal(all, names) {
			t.Errorf("%s: %v, want %v (%v)", path, all, names, err)
		}
	}
}

// TestMountsShareAProcess counts the processes that serve several mounts.
func TestMountsShareAProcess(t *testing.T) {
	server := newServer(t)
	for i := range 3 {
		m := mountPlugin(t, server, pluginName, fmt.Sprintf("-%d", i))
		m.configure("ttl=10m")
		m.lease("").revoke()
	}
	// A process that was started to look at the plugin may take a moment to end.
	until(t, 30*time.Second, "one process serves three mounts", func() bool {
		pids, err := server.PluginPIDs()
		return err == nil && len(pids) == 1
	})
}
