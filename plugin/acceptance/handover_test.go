// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestFirstKeyByLogin gives an account the login that an owner has, and nothing else.
func TestFirstKeyByLogin(t *testing.T) {
	t.Parallel()
	const login, password = "owner@example.com", "correct horse battery staple"
	m := newMount(t)
	m.account.SetLogin(login, password)
	before := len(m.account.Keys())

	fields := []string{"provider=outscale", "region=" + region, "endpoint=" + m.url, "login=" + login}
	_, err := m.tryWrite("config/default", append(fields, "password=wrong")...)
	m.mustRefuse(err)
	if n := len(m.account.Keys()); n != before {
		t.Errorf("a wrong password made %d keys", n-before)
	}

	m.write("config/default", append(fields, "password="+password)...)
	config := m.read("config/default")
	for _, field := range []string{"login", "password", "secret_key"} {
		if value, there := config[field]; there {
			t.Errorf("the configuration shows %s: %v", field, value)
		}
	}
	own, there := m.account.Key(config["access_key"].(string))
	if !there || !strings.HasPrefix(own.Tag, "cloudkeys-") {
		t.Errorf("the engine's key is %+v", own)
	}
	m.write("roles/app", "user_names=app")
	m.lease("").revoke()
	log, err := m.server.Logs()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log, password) {
		t.Error("the server's log, at its trace level, shows the password")
	}
}

// TestKeepKey deletes a static role whose key somebody goes on using.
func TestKeepKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	m.configure()
	m.write("static-roles/db", "user_name=db", "rotation_period=4h")
	creds := m.read("static-creds/db")
	_, err := m.server.Client.Logical().DeleteWithDataWithContext(t.Context(), m.path+"/static-roles/db",
		map[string][]string{"keep_key": {"true"}})
	if err != nil {
		t.Fatal(err)
	}
	m.write("tidy")
	until(t, time.Minute, "the tidy is over", func() bool { return m.read("tidy-status")["state"] != "running" })
	key := &lease{m: m, AccessKey: creds["access_key"].(string), SecretKey: creds["secret_key"].(string)}
	if err := key.call(); err != nil {
		t.Errorf("the key that was handed over does not work after a tidy: %v", err)
	}
}

// TestCheckProvesPermissions takes the engine's user a right that its roles need.
func TestCheckProvesPermissions(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.configure()
	if findings := m.findings(); slices.ContainsFunc(findings, func(f string) bool { return strings.HasPrefix(f, "error") }) {
		t.Fatalf("unhealthy from the start: %q", findings)
	}
	calls := len(m.account.Keys())
	m.account.AddUser("engine", "api:ReadAccessKeys", "api:ReadAccounts", "api:ReadApiAccessPolicy", "api:ReadUsers",
		"api:UpdateAccessKey", "api:DeleteAccessKey")
	m.root = m.account.AddKey(cloudsim.KeySpec{User: "engine"})
	m.write("config/default", m.accountFields()...)
	if findings := m.findings(); !slices.ContainsFunc(findings, func(f string) bool {
		return strings.HasPrefix(f, "error") && strings.Contains(f, "CreateAccessKey")
	}) {
		t.Errorf("nothing names the missing right: %q", findings)
	}
	if n := len(m.account.Keys()); n != calls+1 {
		t.Errorf("the check left %d keys, want %d", n, calls+1)
	}
}

func (m *mount) findings() []string {
	m.t.Helper()
	var findings []string
	for _, finding := range m.read("check/default")["findings"].([]any) {
		findings = append(findings, finding.(string))
	}
	return findings
}
