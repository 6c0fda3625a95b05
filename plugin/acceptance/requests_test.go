// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// revokeNow waits for the revocation, so that its error is seen.
func revokeNow(leaseID string) *api.RevokeOptions {
	return &api.RevokeOptions{LeaseID: leaseID, Sync: true}
}

func number(t *testing.T, value any) int64 {
	t.Helper()
	n, err := value.(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestBadInput sees, as a client of Vault does, the sentence that each mistake gets.
func TestBadInput(t *testing.T) {
	m := newMount(t)
	refuse := func(name, path string, fields []string, parts ...string) {
		t.Run(name, func(t *testing.T) {
			_, err := m.tryWrite(path, fields...)
			m.mustRefuse(err, parts...)
		})
	}
	account := func(change ...string) []string { return append(m.accountFields(), change...) }

	refuse("an unknown provider", "config/default", account("provider=aws"), `unknown provider "aws"`)
	refuse("a malformed endpoint", "config/default", account("endpoint=nonsense"), `endpoint "nonsense"`, "https://")
	refuse("a key that the cloud does not know", "config/default", account("access_key=AAAAAAAAAAAAAAAAAAAA"),
		"does not know the access key", "4120")
	refuse("a wrong secret", "config/default", account("secret_key="+strings.Repeat("x", 40)), "refuses the access key")
	refuse("an unknown account", "roles/app", []string{"user_names=app"}, `account "default" is not configured`)

	m.configure("ttl=10m")
	refuse("an unknown role", "creds/nope", nil, `role "nope" does not exist`)
	refuse("an unknown account of a role", "roles/other", []string{"account=nope", "user_names=app"}, `account "nope" is not configured`)

	m.write("roles/ghost", "user_names=ghost")
	refuse("a user that does not exist", "creds/ghost", nil, `user "ghost" does not exist`)

	for range 7 {
		m.account.AddKey(cloudsim.KeySpec{User: "app"})
	}
	for range 3 {
		m.lease("")
	}
	refuse("a full quota, with the counts", "creds/app", nil, "3 of 10 issued by this mount", "7 others")
}

func TestLedgerAndInfo(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m")
	l := m.lease("")
	t.Run("a leased key is found in the ledger with who has it", func(t *testing.T) {
		entry := m.read("keys/" + l.AccessKey)
		if entry["role"] != "app" || entry["user_name"] != "app" || entry["display_name"] != "root" || entry["request_id"] == "" {
			t.Errorf("%v", entry)
		}
	})
	t.Run("info names the versions and the instance in the key's label", func(t *testing.T) {
		info := m.read("info")
		if !strings.Contains(l.key().Tag, info["instance_id"].(string)) || info["vault_sdk"] == "" {
			t.Errorf("%v, label %s", info, l.key().Tag)
		}
	})
	t.Run("the account shows no secret", func(t *testing.T) {
		for field, value := range m.read("config/default") {
			if value == m.root.SecretKey {
				t.Errorf("%s is the secret", field)
			}
		}
	})
	t.Run("unmounting revokes every lease", func(t *testing.T) {
		if err := m.server.Client.Sys().Unmount(m.path); err != nil {
			t.Fatal(err)
		}
		if _, there := m.account.Key(l.AccessKey); there {
			t.Error("the key is still in the cloud")
		}
	})
}

// TestLogsHideSecrets searches the server's log, at trace level, for every secret that
// the simulated cloud ever made.
func TestLogsHideSecrets(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m")
	m.lease("").revoke()
	m.lease("")
	defer m.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.RubbishAnswer})()
	if _, err := m.tryLease(""); err == nil {
		t.Fatal("leased")
	}
	logs, err := m.server.Logs()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs, m.path) {
		t.Fatal("the log does not even name the mount: it proves nothing")
	}
	for _, secret := range m.sim.Secrets() {
		if strings.Contains(logs, secret) || strings.Contains(logs, secret[:20]) {
			t.Error("a secret key shows in the server's log")
		}
	}
}
