// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"testing"
	"time"
)

func TestRotationAndRestart(t *testing.T) {
	t.Parallel()
	server, err := startServer(t.Context(), t.TempDir(), logLevel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Kill() })
	m := newMountOn(t, server)
	m.setPolicy(86400)
	m.configure("ttl=1h")
	m.account.AddUser("db", "api:ReadVms")
	m.write("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=90s")
	first := m.read("static-creds/db")
	l := m.lease("")

	rotated := m.write("rotate-root/default").Data
	m.write("rotate-role/db")
	second := m.read("static-creds/db")

	t.Run("the engine goes on with its new key", func(t *testing.T) {
		if rotated["previous_access_key"] != m.root.AccessKey || rotated["access_key"] == m.root.AccessKey {
			t.Errorf("%v", rotated)
		}
		m.lease("").revoke()
	})
	t.Run("a static role's old key works during its grace", func(t *testing.T) {
		if first["access_key"] == second["access_key"] {
			t.Fatal("not rotated")
		}
		for _, creds := range []map[string]any{first, second} {
			key := &lease{m: m, AccessKey: creds["access_key"].(string), SecretKey: creds["secret_key"].(string)}
			if err := key.call(); err != nil {
				t.Errorf("%s does not work: %v", key.AccessKey, err)
			}
		}
	})
	t.Run("it has the fields that Vault Secrets Operator and Agent read", func(t *testing.T) {
		for _, field := range []string{"ttl", "last_vault_rotation", "rotation_period", "rotation_schedule"} {
			if _, there := second[field]; !there {
				t.Errorf("no %s in %v", field, second)
			}
		}
		if ttl := number(t, second["ttl"]); ttl > 4*3600 || ttl < 4*3600-60 {
			t.Errorf("ttl %d", ttl)
		}
	})
	t.Run("an old Terraform state that is applied again keeps the engine alive", func(t *testing.T) {
		answer := m.write("config/default", m.accountFields()...)
		if answer == nil || len(answer.Warnings) == 0 {
			t.Error("no warning")
		}
		m.lease("").revoke()
	})
	t.Run("a restart keeps leases, schedule and ledger", func(t *testing.T) {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if creds := m.read("static-creds/db"); creds["access_key"] != second["access_key"] ||
			creds["last_vault_rotation"] != second["last_vault_rotation"] {
			t.Errorf("%v", creds)
		}
		if entry := m.read("keys/" + l.AccessKey); entry["role"] != "app" {
			t.Errorf("%v", entry)
		}
		l.renew(0)
		l.mustFit(time.Minute)
	})
	t.Run("the replaced key is deleted once no request can use it", func(t *testing.T) {
		until(t, 5*time.Minute, "the engine's first key is gone", func() bool {
			_, there := m.account.Key(m.root.AccessKey)
			return !there
		})
		m.lease("").revoke()
	})
	t.Run("so is the static role's old key after its grace", func(t *testing.T) {
		until(t, 5*time.Minute, "the static role has one key", func() bool { return m.hasOneKey("db", second["access_key"]) == nil })
		if err := m.staticKeyWorks(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a leaked key is found and killed", func(t *testing.T) {
		_, err := m.server.Client.Logical().DeleteWithContext(t.Context(), m.path+"/keys/"+l.AccessKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.call(); err == nil {
			t.Error("it still works")
		}
		l.revoke()
	})
}
