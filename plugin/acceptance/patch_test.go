// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/hashicorp/vault/api"
)

// tryPatch sends a JSON merge patch, as `vault patch` does.
func (m *mount) tryPatch(path string, fields map[string]any) (*api.Secret, error) {
	return m.server.Client.Logical().JSONMergePatch(m.t.Context(), m.path+"/"+path, fields)
}

func (m *mount) patch(path string, fields map[string]any) *api.Secret {
	m.t.Helper()
	secret, err := m.tryPatch(path, fields)
	if err != nil {
		m.t.Fatal(err)
	}
	return secret
}

// TestPatch changes some fields of each entry that can be written.
func TestPatch(t *testing.T) {
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	m.configure("ttl=10m", "max_ttl=1h")
	m.write("static-roles/db", "user_name=db", "rotation_period=8h", "rotation_grace_period=20m")
	m.read("static-creds/db")

	// Each has its effect and no other: what is not named below stays as it was.
	for _, test := range []struct {
		name, path string
		patch      map[string]any
		effect     map[string]any
	}{
		{
			"an account's fields", "config/default",
			map[string]any{"max_ttl": "3h", "expiry_grace": "30s", "max_retries": 1},
			map[string]any{"max_ttl": 10800, "expiry_grace": 30, "max_retries": 1},
		},
		{
			"an account's fields to their defaults", "config/default",
			map[string]any{"max_ttl": nil, "expiry_grace": nil, "max_retries": nil, "max_requests_per_second": nil},
			map[string]any{"max_ttl": 0, "expiry_grace": 60, "max_retries": 3, "max_requests_per_second": 5},
		},
		{"nothing of an account", "config/default", map[string]any{}, nil},
		{
			"a role's fields", "roles/app",
			map[string]any{"max_ttl": "2h", "max_active_keys": 3},
			map[string]any{"max_ttl": 7200, "max_active_keys": 3, "effective_max_ttl": 7200},
		},
		{
			"a role's fields to their defaults", "roles/app",
			map[string]any{"ttl": nil, "max_active_keys": nil},
			map[string]any{"ttl": 0, "max_active_keys": 0},
		},
		{
			"a static role's grace", "static-roles/db",
			map[string]any{"rotation_grace_period": "30m"},
			map[string]any{"rotation_grace_period": 1800},
		},
		{
			"a static role's grace to its default, a quarter of the period up to an hour", "static-roles/db",
			map[string]any{"rotation_grace_period": nil},
			map[string]any{"rotation_grace_period": 3600},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := m.read(test.path)
			maps.Copy(want, test.effect)
			m.patch(test.path, test.patch)
			m.mustRead(t, test.path, want)
		})
	}
	t.Run("an account goes on with the secret that no patch named", func(t *testing.T) {
		l := m.lease("")
		if err := l.call(); err != nil {
			t.Error(err)
		}
		l.revoke()
	})
	t.Run("a static role moves from a period to a schedule and back, and keeps its key", func(t *testing.T) {
		before := m.read("static-roles/db")
		m.patch("static-roles/db", map[string]any{"rotation_period": nil, "rotation_schedule": "0 3 * * *", "rotation_window": "2h"})
		role := m.read("static-roles/db")
		if number(t, role["rotation_period"]) != 0 || role["rotation_schedule"] != "0 3 * * *" || number(t, role["rotation_window"]) != 7200 {
			t.Errorf("%v", role)
		}
		m.patch("static-roles/db", map[string]any{"rotation_period": "8h", "rotation_schedule": nil, "rotation_window": nil})
		m.mustRead(t, "static-roles/db", before)
		if err := m.staticKeyWorks(); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is missing is a 404, and is not made", func(t *testing.T) {
		for path, fields := range map[string]map[string]any{
			"config/nope": {"max_ttl": "1h"}, "roles/nope": {"ttl": "5m"}, "static-roles/nope": {"rotation_grace_period": "5m"},
		} {
			_, err := m.tryPatch(path, fields)
			var refused *api.ResponseError
			if !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %v", path, err)
			}
			if _, err := m.tryRead(path); err == nil {
				t.Errorf("%s is there", path)
			}
		}
	})
	t.Run("what a write refuses a patch refuses, and changes nothing", func(t *testing.T) {
		for _, test := range []struct {
			path  string
			patch map[string]any
			says  string
		}{
			{"config/default", map[string]any{"provider": nil}, "cannot be changed"},
			{"config/default", map[string]any{"secret_key": nil}, "access_key and secret_key are both needed"},
			{"roles/app", map[string]any{"user_names": nil}, "allow_root_identity"},
			{"roles/app", map[string]any{"ttl": "4h"}, "longer than max_ttl"},
			{"static-roles/db", map[string]any{"user_name": "app"}, "cannot be changed"},
			{"static-roles/db", map[string]any{"rotation_period": nil}, "either rotation_period or rotation_schedule"},
			{"static-roles/db", map[string]any{"rotation_window": "2h"}, "rotation_window goes with rotation_schedule"},
		} {
			before := m.read(test.path)
			_, err := m.tryPatch(test.path, test.patch)
			m.mustRefuse(err, test.says)
			m.mustRead(t, test.path, before)
		}
	})
}

// mustRead compares an entry. Numbers are compared as they are written: they come as JSON.
func (m *mount) mustRead(t *testing.T, path string, want map[string]any) {
	t.Helper()
	got := m.read(path)
	if !maps.EqualFunc(got, want, func(x, y any) bool { return fmt.Sprint(x) == fmt.Sprint(y) }) {
		t.Errorf("%s is\n%v, want\n%v", path, got, want)
	}
}
