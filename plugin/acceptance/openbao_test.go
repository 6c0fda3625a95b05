// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// onOpenBao tells whether the server under test is OpenBao, which can do some things that Vault Community cannot.
func onOpenBao(t *testing.T) bool {
	t.Helper()
	said, err := exec.Command(os.Getenv("VAULT_BIN"), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(string(said), "OpenBao ")
}

// TestPluginDeclaredInTheConfiguration starts a server with the lines that install.md gives for OpenBao's configuration. Vault passes
// over them.
func TestPluginDeclaredInTheConfiguration(t *testing.T) {
	t.Parallel()
	options, err := serverOptions(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	auditLog := filepath.Join(t.TempDir(), "audit.log")
	options.Lines = declaration(t, auditLog)
	server, err := devserver.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	const name, version = "vault-plugin-secrets-cloudkeys", "v0.1.0"
	registered, err := server.Client.Sys().GetPluginWithContext(t.Context(),
		&api.GetPluginInput{Name: name, Type: api.PluginTypeSecrets, Version: version})
	if !onOpenBao(t) {
		if err == nil {
			t.Errorf("Vault has registered %+v: install.md says that it does not", registered)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m := mountPlugin(t, server, name, "")
	m.configure()
	l := m.lease("")
	l.revoke()
	entries, err := os.ReadFile(auditLog)
	if err != nil || !strings.Contains(string(entries), l.ID) || strings.Contains(string(entries), l.SecretKey) {
		t.Errorf("the audit log has %d bytes, without the lease or with its secret (%v)", len(entries), err)
	}
}

// declaration is what install.md gives for the configuration, with this plugin's sum and this test's audit log in it. The server has its
// plugin_directory already.
func declaration(t *testing.T, auditLog string) string {
	t.Helper()
	pages, err := markdown.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(os.Getenv("CLOUDKEYS_PLUGIN"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(binary)
	text := ""
	for _, page := range pages {
		for _, block := range page.Noted("declaration") {
			text += block.Text
		}
	}
	for setting, value := range map[string]string{"sha256sum": hex.EncodeToString(sum[:]), "file_path": auditLog} {
		line := regexp.MustCompile(`(?m)^( *` + setting + ` *= *)"[^"]*"`)
		if !line.MatchString(text) {
			t.Fatalf("no block of the pages that is noted as a declaration sets %s", setting)
		}
		text = line.ReplaceAllString(text, `${1}"`+value+`"`)
	}
	return regexp.MustCompile(`(?m)^plugin_directory .*$`).ReplaceAllString(text, "")
}

// inNamespace is the server with a client of a namespace of OpenBao's.
func inNamespace(server *devserver.Server, name string) *devserver.Server {
	on := *server
	on.Client = server.Client.WithNamespace(name)
	return &on
}

// TestNamespaces does all that the engine does inside a namespace, beside a mount outside on the same cloud account. Vault Community
// has no namespaces.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	_, err := shared.Client.Logical().WriteWithContext(t.Context(), "sys/namespaces/team", map[string]any{})
	if !onOpenBao(t) {
		if err == nil {
			t.Error("Vault has made a namespace: verified.md says that it does not")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	outside := newMount(t)
	outside.configure("ttl=1h")
	kept := outside.lease("")
	m := mountPlugin(t, inNamespace(shared, "team"), pluginName, "-inside")
	m.sim, m.account, m.root, m.url = outside.sim, outside.account, outside.root, outside.url // the same cloud account
	m.account.AddUser("db", "api:ReadVms")
	m.configure("ttl=10m", "max_ttl=1h")

	l := m.lease("")
	l.renew(1200)
	l.mustFit(time.Minute)
	m.write("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=0")
	first := m.read("static-creds/db")["access_key"]
	m.write("rotate-role/db")
	if now := m.read("static-creds/db")["access_key"]; now == first {
		t.Error("the static role has its first key after a rotation")
	}
	m.write("rotate-root/default")
	for _, mount := range []*mount{m, outside} {
		if status := mount.tidy(); status["state"] != "done" {
			t.Errorf("tidy-status %v", status)
		}
	}
	for _, l := range []*lease{l, kept} {
		if err := l.call(); err != nil {
			t.Errorf("a leased key does not work after the tidy inside and outside: %v", err)
		}
		l.revoke()
	}
	short := m.lease("30s")
	until(t, 90*time.Second, "the key goes with its lease", func() bool {
		_, there := m.account.Key(short.AccessKey)
		return !there
	})
}

// TestSealedNamespace seals a namespace of OpenBao's with live leases in it: nobody ends them before it is unsealed. Vault Community
// has no namespaces, which TestNamespaces asserts.
func TestSealedNamespace(t *testing.T) {
	t.Parallel()
	if !onOpenBao(t) {
		return
	}
	answer, err := shared.Client.Logical().WriteWithContext(t.Context(), "sys/namespaces/sealed", map[string]any{
		"seal": `seal "shamir" { shares = 1 threshold = 1 }`,
	})
	if err != nil {
		t.Fatal(err)
	}
	unseal := func() {
		key := map[string]any{"key": answer.Data["key_shares"].([]any)[0]}
		if _, err := shared.Client.Logical().WriteWithContext(t.Context(), "sys/namespaces/sealed/unseal", key); err != nil {
			t.Fatal(err)
		}
	}
	unseal() // a new one is sealed
	m := mountPlugin(t, inNamespace(shared, "sealed"), pluginName, "")
	domain := m.sim.AddDomain("acme")
	domain.AddUser("app")
	domain.AddUser("engine", cloudsim.SecurityAdministrator)
	m.configure()
	root := domain.AddKey(cloudsim.IAMKeySpec{User: "engine"})
	m.write("config/huawei", "provider=huawei", "region=ap-southeast-1", "endpoint="+m.sim.StartHuawei(t), "max_requests_per_second=500",
		"max_ttl=1h", "access_key="+root.AccessKey, "secret_key="+root.SecretKey)
	m.write("roles/huawei", "account=huawei", "user_names=app")
	outscale := m.lease("30s")
	huawei, err := m.tryLeaseOf("huawei", "30s")
	if err != nil {
		t.Fatal(err)
	}
	ends := time.Now().Add(30 * time.Second)
	if _, err := shared.Client.Logical().WriteWithContext(t.Context(), "sys/namespaces/sealed/seal", nil); err != nil {
		t.Fatal(err)
	}
	until(t, 3*time.Minute, "the cloud refuses the OUTSCALE key by its date", func() bool { return outscale.call() != nil })
	if _, there := domain.Key(huawei.AccessKey); !there || time.Now().Before(ends) {
		t.Error("the Huawei key is gone: install.md says that it lives on")
	}
	unseal()
	until(t, 2*time.Minute, "both keys are gone once the namespace is unsealed", func() bool {
		_, first := m.account.Key(outscale.AccessKey)
		_, second := domain.Key(huawei.AccessKey)
		return !first && !second
	})
}

// TestDeletedNamespace deletes a namespace of OpenBao's with live keys in it. What becomes of leases is a matter of timing in
// the server (mostly none is revoked), so that a leased key must have its expiration date; keys without a lease live on.
func TestDeletedNamespace(t *testing.T) {
	t.Parallel()
	if !onOpenBao(t) {
		return
	}
	namespaces := shared.Client.Logical()
	if _, err := namespaces.WriteWithContext(t.Context(), "sys/namespaces/deleted", map[string]any{}); err != nil {
		t.Fatal(err)
	}
	m := mountPlugin(t, inNamespace(shared, "deleted"), pluginName, "")
	m.account.AddUser("db", "api:ReadVms")
	m.configure("ttl=1h", "max_ttl=1h")
	m.write("static-roles/db", "user_name=db", "rotation_period=4h")
	m.write("rotate-root/default")
	leased := m.lease("")
	static := m.read("static-creds/db")["access_key"].(string)
	own := m.read("config/default")["access_key"].(string)
	if _, err := namespaces.DeleteWithContext(t.Context(), "sys/namespaces/deleted"); err != nil {
		t.Fatal(err)
	}
	until(t, 2*time.Minute, "the namespace is gone", func() bool {
		list, err := namespaces.ReadWithContext(t.Context(), "sys/namespaces/deleted")
		return err == nil && list == nil
	})
	if key, there := m.account.Key(leased.AccessKey); there && (key.Expires.IsZero() || key.Expires.After(time.Now().Add(2*time.Hour))) {
		t.Errorf("the leased key has no expiration date: reliability.md says that it does: %+v", key)
	}
	for _, id := range []string{static, own} {
		if key, there := m.account.Key(id); !there || !key.Live(time.Now()) {
			t.Errorf("access key %s does not work any more: reliability.md says that it does: %+v", id, key)
		}
	}
}

// TestAMountMovedToAnotherNamespace moves one with OpenBao, which moves its storage and leaves the plugin's process on what it had:
// until a reload nothing is leased, rotated or written. Vault Community has no namespaces.
func TestAMountMovedToAnotherNamespace(t *testing.T) {
	t.Parallel()
	if !onOpenBao(t) {
		return
	}
	server := newServer(t) // OpenBao's reload of one mount ends the process of all
	for _, name := range []string{"here", "there"} {
		if _, err := server.Client.Logical().WriteWithContext(t.Context(), "sys/namespaces/"+name, map[string]any{}); err != nil {
			t.Fatal(err)
		}
	}
	m := mountPlugin(t, inNamespace(server, "here"), pluginName, "")
	m.configure("ttl=1h")
	m.write("rotate-root/default")
	leased := m.lease("")
	if err := server.Client.Sys().RemountWithContext(t.Context(), "here/"+m.path, "there/"+m.path); err != nil {
		t.Fatal(err)
	}
	m.server = inNamespace(server, "there")
	if _, there := m.account.Key(leased.AccessKey); there {
		t.Error("a lease has outlived the move: install.md says that it does not")
	}
	before := len(m.account.Keys())
	_, err := m.tryLease("")
	m.mustRefuse(err, "bao plugin reload")
	for _, path := range []string{"rotate-root/default", "roles/app", "tidy"} {
		_, err := m.tryWrite(path)
		m.mustRefuse(err, "bao plugin reload")
	}
	_, err = m.tryWrite("config/default", m.accountFields()...)
	m.mustRefuse(err, "bao plugin reload")
	if now := len(m.account.Keys()); now != before {
		t.Errorf("%d keys before the refusals, %d after", before, now)
	}
	if _, err := m.server.Client.Sys().ReloadPluginWithContext(t.Context(), &api.ReloadPluginInput{Mounts: []string{m.path}}); err != nil {
		t.Fatal(err)
	}
	l := m.lease("")
	m.write("rotate-root/default")
	if err := l.call(); err != nil {
		t.Error(err)
	}
	l.revoke()
}
