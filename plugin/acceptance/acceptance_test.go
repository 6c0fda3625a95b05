// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package acceptance runs the plugin's binary on a real Vault or OpenBao server,
// against the simulated cloud over loopback HTTP. Everything is asked and judged
// through Vault's own API.
package acceptance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	pluginName = "cloudkeys"
	accountID  = "123456789012"
	region     = "cloudgouv-eu-west-1"

	// logLevel has the server log all that it can: the log is searched for secrets.
	logLevel = "trace"
)

// shared is the server of all tests but those that kill theirs.
var shared *devserver.Server

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	// Parallel tests wait, for ticks and the ends of leases: no use in one a processor,
	// which is the default. go test's own -parallel is read later and wins.
	if err := flag.Set("test.parallel", "32"); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "cloudkeys-acceptance")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	if shared, err = startServer(ctx, dir, logLevel); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.Stop(ctx)) }()
	return m.Run(), nil
}

// startServer starts a server on raft storage, with the plugin registered by its
// checksum.
func startServer(ctx context.Context, dir, level string) (*devserver.Server, error) {
	o, err := serverOptions(dir)
	if err != nil {
		return nil, err
	}
	o.LogLevel = level
	s, err := devserver.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return s, registerPlugin(ctx, s)
}

func serverOptions(dir string) (devserver.Options, error) {
	bin, plugin := os.Getenv("VAULT_BIN"), os.Getenv("CLOUDKEYS_PLUGIN")
	if bin == "" || plugin == "" {
		return devserver.Options{}, errors.New("VAULT_BIN and CLOUDKEYS_PLUGIN name no binaries: run make test-acceptance, which builds both")
	}
	return devserver.Options{Bin: bin, PluginDir: filepath.Dir(plugin), Dir: dir, LogLevel: logLevel}, nil
}

func registerPlugin(ctx context.Context, s *devserver.Server) error {
	plugin := os.Getenv("CLOUDKEYS_PLUGIN")
	_, err := devserver.RegisterPlugin(ctx, s.Client, filepath.Dir(plugin), filepath.Base(plugin), pluginName)
	return err
}

// mount is the engine mounted for one test, on a cloud of its own.
type mount struct {
	t       *testing.T
	server  *devserver.Server
	path    string
	sim     *cloudsim.Cloud
	account *cloudsim.Account
	root    cloudsim.Credentials
	url     string
}

// newMount mounts the engine on the shared server.
func newMount(t *testing.T) *mount {
	t.Helper()
	return newMountOn(t, shared)
}

func newMountOn(t *testing.T, server *devserver.Server, options ...cloudsim.Option) *mount {
	t.Helper()
	return mountPlugin(t, server, pluginName, "", options...)
}

// mountPlugin mounts any registered plugin; the suffix tells the mounts of one test from
// each other.
func mountPlugin(t *testing.T, server *devserver.Server, plugin, suffix string, options ...cloudsim.Option) *mount {
	t.Helper()
	sim := cloudsim.New(append(options, cloudsim.WithRegion(region))...)
	account := sim.AddAccount(accountID)
	account.AddUser("app", "api:ReadVms")
	m := &mount{
		t: t, server: server, sim: sim, account: account, root: account.RootKey(), url: sim.Start(t),
		path: "outscale-" + strings.ToLower(strings.Map(letters, t.Name()+suffix)),
	}
	if err := devserver.Mount(t.Context(), server.Client, m.path, plugin, api.MountConfigInput{}); err != nil {
		t.Fatal(err)
	}
	return m
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// configure writes the account and a role for the user "app".
func (m *mount) configure(role ...string) {
	m.t.Helper()
	m.write("config/default", m.accountFields()...)
	m.write("roles/app", append([]string{"user_names=app"}, role...)...)
}

func (m *mount) accountFields() []string {
	return []string{
		"provider=outscale", "region=" + region, "endpoint=" + m.url, "max_requests_per_second=500",
		"access_key=" + m.root.AccessKey, "secret_key=" + m.root.SecretKey,
	}
}

// setPolicy sets the account's access policy in the cloud, and gives the engine a root
// key that the policy allows.
func (m *mount) setPolicy(seconds int64) {
	m.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: seconds})
	m.root = m.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(time.Hour)})
}

func (m *mount) write(path string, fields ...string) *api.Secret {
	m.t.Helper()
	secret, err := m.tryWrite(path, fields...)
	if err != nil {
		m.t.Fatal(err)
	}
	return secret
}

func (m *mount) tryWrite(path string, fields ...string) (*api.Secret, error) {
	data := map[string]any{}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		data[name] = value
	}
	return m.server.Client.Logical().WriteWithContext(m.t.Context(), m.path+"/"+path, data)
}

func (m *mount) read(path string) map[string]any {
	m.t.Helper()
	data, err := m.tryRead(path)
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

func (m *mount) tryRead(path string) (map[string]any, error) {
	secret, err := m.server.Client.Logical().ReadWithContext(m.t.Context(), m.path+"/"+path)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fmt.Errorf("%s: nothing there", path)
	}
	return secret.Data, nil
}

// mustRefuse expects HTTP 400 whose text holds all the parts.
func (m *mount) mustRefuse(err error, parts ...string) {
	m.t.Helper()
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		m.t.Fatalf("got %v, want a refusal", err)
	}
	if answer.StatusCode != http.StatusBadRequest {
		m.t.Errorf("HTTP %d, which Vault's clients retry: %v", answer.StatusCode, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			m.t.Errorf("%q does not say %q", err, part)
		}
	}
}

// until waits for a condition of the cloud or the server, and fails the test where it
// does not come true in time.
func until(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	untilEvery(t, 100*time.Millisecond, limit, what, condition)
}

// untilEvery looks so often: more rarely where a look is many requests.
func untilEvery(t *testing.T, pause, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s it is still not so that %s", limit, what)
		}
	}
}
