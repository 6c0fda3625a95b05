// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

// Package kubernetes gives keys to what runs on Kubernetes: a real API server with its storage, the two operators as processes under
// the rights that their own projects give them, a real Vault or OpenBao with the real plugin, and the simulated clouds. Manifests are
// those of docs/examples/kubernetes and commands those of docs/kubernetes.md, unchanged: a proxy takes vault.example.com to the server.
package kubernetes

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	repository       = "../.."
	examples         = "docs/examples/kubernetes/"
	pluginName       = "vault-plugin-secrets-cloudkeys"
	kubernetesPlugin = "vault-plugin-auth-kubernetes"
)

// world is a company with one cluster, one server and an account of each cloud.
type world struct {
	*cluster
	server  *devserver.Server
	sim     *cloudsim.Cloud
	account *cloudsim.Account
	domain  *cloudsim.Domain
	clouds  string   // the URL of both, without a path
	outside []string // of the environment: how to come to vault.example.com
}

// newWorld has both engines mounted and configured. Roles and logins are the test's.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cluster: newCluster(t)}
	plugins := filepath.Dir(needed(t, "CLOUDKEYS_PLUGIN"))
	server, err := devserver.Start(t.Context(), devserver.Options{
		Bin: needed(t, "VAULT_BIN"), PluginDir: plugins, Dir: w.dir, Dev: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = server
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if _, err := devserver.RegisterPlugin(t.Context(), server.Client, plugins, pluginName, pluginName); err != nil {
		t.Fatal(err)
	}
	w.addKubernetesAuth(plugins)
	w.outside = w.addRoad()
	w.sim = cloudsim.New()
	w.clouds = w.sim.StartHuawei(t)
	w.account, w.domain = w.sim.AddAccount("123456789012"), w.sim.AddDomain("acme")
	w.addEngines()
	return w
}

// run runs a part of the test. They follow each other.
func (w *world) run(name string, part func(t *testing.T)) {
	w.t.Helper()
	w.whole.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = w.whole }()
		part(t)
	})
}

// addKubernetesAuth gives a server that was built without the Kubernetes auth method the same as a plugin.
func (w *world) addKubernetesAuth(plugins string) {
	w.t.Helper()
	known, err := w.server.Client.Logical().ReadWithContext(w.t.Context(), "sys/plugins/catalog/auth/kubernetes")
	if err == nil && known != nil {
		return
	}
	sum, err := devserver.Checksum(filepath.Join(plugins, kubernetesPlugin))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("sys/plugins/catalog/auth/kubernetes", map[string]any{"sha256": sum, "command": kubernetesPlugin})
}

// addRoad lets programs reach the server at the address of the manifests, by HTTPS and with a certificate of that name.
func (w *world) addRoad() []string {
	w.t.Helper()
	target, err := url.Parse(w.server.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := w.whole.Context()
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	w.t.Cleanup(front.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		if name := r.URL.Hostname(); r.Method != http.MethodConnect || name != "vault.example.com" {
			http.Error(answer, "there is no way to "+name, http.StatusForbidden)
			return
		}
		join(ctx, answer, front.Listener.Addr().String())
	}))
	w.t.Cleanup(proxy.Close)
	w.writeFile("front.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})))
	return []string{"HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + filepath.Join(w.dir, "front.pem")}
}

// join makes of a request to connect a connection to the address, until one side ends it.
func join(ctx context.Context, answer http.ResponseWriter, address string) {
	var dialer net.Dialer
	far, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := http.NewResponseController(answer).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{far, near}, {near, far}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // a connection that was cut has ended
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func (w *world) addEngines() {
	w.t.Helper()
	w.account.AddUser("deploy", "api:*", "iam:*")
	w.account.AddUser("legacy")
	w.domain.AddUser("deploy", cloudsim.SecurityAdministrator)
	w.domain.AddUser("vault", cloudsim.SecurityAdministrator)
	for _, path := range []string{"outscale", "huawei"} {
		if err := devserver.Mount(w.t.Context(), w.server.Client, path, pluginName, api.MountConfigInput{}); err != nil {
			w.t.Fatal(err)
		}
	}
	root := w.account.RootKey()
	w.write("outscale/config/default", map[string]any{
		"provider": "outscale", "region": "eu-west-2", "endpoint": w.clouds + "/api/v1", "max_requests_per_second": 500,
		"access_key": root.AccessKey, "secret_key": root.SecretKey,
	})
	root = w.domain.AddKey(cloudsim.IAMKeySpec{User: "vault"})
	w.write("huawei/config/default", map[string]any{
		"provider": "huawei", "region": "ap-southeast-1", "endpoint": w.clouds, "max_requests_per_second": 500, "max_ttl": "1h",
		"access_key": root.AccessKey, "secret_key": root.SecretKey,
	})
}

// role lets a mount lease keys of the user deploy.
func (w *world) role(mount, ttl, maxTTL string) {
	w.t.Helper()
	w.write(mount+"/roles/deploy", map[string]any{"user_names": "deploy", "ttl": ttl, "max_ttl": maxTTL})
}

func (w *world) write(path string, data map[string]any) {
	w.t.Helper()
	if _, err := w.server.Client.Logical().WriteWithContext(w.t.Context(), path, data); err != nil {
		w.t.Fatal(err)
	}
}

// page runs the commands of a page of docs that carry the note, as an administrator of both the cluster and the server.
func (w *world) page(name, note string) {
	w.t.Helper()
	pages, err := markdown.Pages(repository)
	if err != nil {
		w.t.Fatal(err)
	}
	script := ""
	for _, page := range pages {
		if page.Name == name {
			for _, block := range page.Noted(note) {
				script += block.Text
			}
		}
	}
	if script == "" {
		w.t.Fatalf("no command of %s carries the note %q", name, note)
	}
	w.shell(script)
}

// shell runs commands in a folder that holds the repository's docs. The pages call the server's binary vault, which it may not be.
func (w *world) shell(script string) string {
	w.t.Helper()
	home := filepath.Join(w.dir, "home")
	docs, err := filepath.Abs(filepath.Join(repository, "docs"))
	if err == nil {
		err = os.MkdirAll(home, 0o700)
	}
	if err == nil {
		err = os.Symlink(docs, filepath.Join(home, "docs"))
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		w.t.Fatal(err)
	}
	command := exec.CommandContext(w.t.Context(), "sh", "-c",
		`set -eu; vault() { "$SERVER_BIN" "$@"; }; kubectl() { "$KUBECTL" "$@"; }`+"\n"+script)
	command.Dir = home
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "KUBECONFIG=" + w.kubeconfig,
		"KUBECTL=" + binary(w.t, "kubectl"), "SERVER_BIN=" + needed(w.t, "VAULT_BIN"),
		"VAULT_ADDR=" + w.server.Addr(), "BAO_ADDR=" + w.server.Addr(), "VAULT_TOKEN=" + w.server.Token(), "BAO_TOKEN=" + w.server.Token(),
	}
	out, err := command.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s\n%s", err, script, out)
	}
	return string(out)
}

// keys are the ids of the keys of the user deploy that work in the clouds, oldest first.
func (w *world) keys() []string {
	ids := []string{}
	for _, key := range w.account.Keys() {
		if key.User == "deploy" && key.Live(time.Now()) {
			ids = append(ids, key.ID)
		}
	}
	for _, key := range w.domain.Keys() {
		if key.User == "deploy" && key.Live() {
			ids = append(ids, key.ID)
		}
	}
	return ids
}

func (w *world) mustKey(id string) cloudsim.Key {
	w.t.Helper()
	key, there := w.account.Key(id)
	if !there {
		w.t.Fatalf("the account has no key %q", id)
	}
	return key
}

// works reports whether a key can sign requests.
func (w *world) works(id string) bool {
	key, there := w.account.Key(id)
	huawei, elsewhere := w.domain.Key(id)
	return there && key.Live(time.Now()) || elsewhere && huawei.Live()
}

// until waits for a condition, and fails the test where it does not come true in time.
func (w *world) until(limit time.Duration, what string, condition func() bool) {
	w.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("after %s it is still not so that %s; %s", limit, what, w.situation())
		}
	}
}

// situation is what somebody would look at first.
func (w *world) situation() string {
	var events object
	if err := w.find("/api/v1/events", &events); err != nil {
		return err.Error()
	}
	said := []string{fmt.Sprintf("keys that work: %v; the cluster's events:", w.keys())}
	for _, event := range events.Items {
		said = append(said, event.Reason+": "+event.Text)
	}
	return strings.Join(said, "\n")
}

func needed(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Fatalf("%s is not set: run make test-kubernetes, which builds what is needed and sets it", variable)
	}
	return value
}
