// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package integrations uses leased keys as their owners do: Vault Agent fetches and renews them, and the clouds' own tools and SDKs
// sign with them. Real binaries run against a real server, the real plugin and the simulated clouds; configuration is that of
// docs/examples, unchanged.
package integrations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	repository = "../.."
	pluginName = "vault-plugin-secrets-cloudkeys"
)

// desk is a user's home directory on a machine with a Vault of its own, whose engine leases keys of the user "deploy" of both
// clouds at the paths that the pages name.
type desk struct {
	t       *testing.T
	server  *devserver.Server
	bin     string // the server's binary, which is also the agent
	home    string
	sim     *cloudsim.Cloud
	account *cloudsim.Account
	domain  *cloudsim.Domain
	url     string // of both simulated clouds, without a path
}

// newDesk gives the roles these fields.
func newDesk(t *testing.T, role map[string]any) *desk {
	t.Helper()
	d := emptyDesk(t)
	d.outscale(role)
	d.huawei(role)
	return d
}

// emptyDesk has the plugin registered and not mounted.
func emptyDesk(t *testing.T) *desk {
	t.Helper()
	bin, plugin := needed(t, "VAULT_BIN"), needed(t, "CLOUDKEYS_PLUGIN")
	server, err := devserver.Start(t.Context(), devserver.Options{Bin: bin, PluginDir: filepath.Dir(plugin), Dir: t.TempDir(), Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if _, err := devserver.RegisterPlugin(t.Context(), server.Client, filepath.Dir(plugin), filepath.Base(plugin), pluginName); err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, server: server, bin: bin, home: t.TempDir(), sim: cloudsim.New()}
	d.url = d.sim.StartHuawei(t)
	d.account = d.sim.AddAccount("123456789012")
	d.account.AddUser("deploy", "api:*", "iam:*")
	d.domain = d.sim.AddDomain("acme")
	d.domain.AddUser("deploy", cloudsim.SecurityAdministrator)
	return d
}

func needed(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Fatalf("%s is not set: run make test-integrations, which builds what is needed and sets it", variable)
	}
	return value
}

func (d *desk) outscale(role map[string]any) {
	d.t.Helper()
	d.mount("outscale")
	root := d.account.RootKey()
	d.write("outscale/config/default", map[string]any{
		"provider": "outscale", "region": "eu-west-2", "endpoint": d.url + "/api/v1", "max_requests_per_second": 500,
		"access_key": root.AccessKey, "secret_key": root.SecretKey,
	})
	d.write("outscale/roles/deploy", role, map[string]any{"user_names": "deploy"})
}

func (d *desk) huawei(role map[string]any) {
	d.t.Helper()
	d.domain.AddUser("vault", cloudsim.SecurityAdministrator)
	root := d.domain.AddKey(cloudsim.IAMKeySpec{User: "vault"})
	d.mount("huawei")
	d.write("huawei/config/default", map[string]any{
		"provider": "huawei", "region": "ap-southeast-1", "endpoint": d.url, "max_requests_per_second": 500, "max_ttl": "1h",
		"access_key": root.AccessKey, "secret_key": root.SecretKey,
	})
	d.write("huawei/roles/deploy", role, map[string]any{"user_names": "deploy"})
}

func (d *desk) mount(path string) {
	d.t.Helper()
	if err := devserver.Mount(d.t.Context(), d.server.Client, path, pluginName, api.MountConfigInput{}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) write(path string, fields ...map[string]any) {
	d.t.Helper()
	data := map[string]any{}
	for _, each := range fields {
		for name, value := range each {
			data[name] = value
		}
	}
	if _, err := d.server.Client.Logical().WriteWithContext(d.t.Context(), path, data); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) read(path string) *api.Secret {
	d.t.Helper()
	secret, err := d.server.Client.Logical().ReadWithContext(d.t.Context(), path)
	if err != nil {
		d.t.Fatal(err)
	}
	if secret == nil {
		d.t.Fatalf("there is nothing at %s", path)
	}
	return secret
}

// example copies files of docs/examples into the home directory.
func (d *desk) example(directory string) {
	d.t.Helper()
	if err := os.CopyFS(d.home, os.DirFS(filepath.Join(repository, "docs/examples", directory))); err != nil {
		d.t.Fatal(err)
	}
}

// page runs the commands of a page that it tells to run on a server which is set up.
func (d *desk) page(name string) {
	d.t.Helper()
	pages, err := markdown.Pages(repository)
	if err != nil {
		d.t.Fatal(err)
	}
	script := "set -eu\n"
	for _, page := range pages {
		if page.Name == name {
			for _, block := range page.Noted("run dev") {
				script += block.Text
			}
		}
	}
	// The pages call the server's binary vault, which it may not be.
	d.mustRun([]string{"sh", "-c", `vault() { "$SERVER_BIN" "$@"; }` + "\n" + script}, "SERVER_BIN="+d.bin,
		"VAULT_TOKEN="+d.server.Token(), "BAO_TOKEN="+d.server.Token())
}

// writeFile writes a file in the home directory, as its owner would.
func (d *desk) writeFile(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.home, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		d.t.Fatal(err)
	}
}

// file is a file in the home directory; empty: there is none.
func (d *desk) file(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.home, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	return string(text)
}

// command is a command in the home directory, with nothing of the caller's environment that steers it. It is told to end with the test.
func (d *desk) command(args []string, env ...string) *exec.Cmd {
	command := exec.CommandContext(d.t.Context(), args[0], args[1:]...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	command.Dir = d.home
	command.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "VAULT_ADDR=" + d.server.Addr(), "BAO_ADDR=" + d.server.Addr(),
	}, env...)
	return command
}

// run returns what a command prints on standard output, or an error with what it prints on standard error.
func (d *desk) run(args []string, env ...string) (string, error) {
	out, err := d.command(args, env...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", args[0], err, exit.Stderr)
	}
	return string(out), err
}

func (d *desk) mustRun(args []string, env ...string) string {
	d.t.Helper()
	out, err := d.run(args, env...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// mustDecode reads the JSON that a command printed.
func mustDecode[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

// until waits for a condition, and fails the test where it does not come true in time.
func (d *desk) until(limit time.Duration, what string, condition func() bool) {
	d.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatalf("after %s it is still not so that %s", limit, what)
		}
	}
}
