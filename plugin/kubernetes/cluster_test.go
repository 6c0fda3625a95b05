// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// startLimit is for a busy machine: alone, an API server is ready after three seconds.
const startLimit = 2 * time.Minute

// cluster is a real API server on loopback with its storage. There is no node and no controller: nothing runs what is applied, collects
// what has lost its owner, or fills the Secret of a service account's token.
type cluster struct {
	t          *testing.T // the part of the test that runs
	whole      *testing.T // for which programs live
	dir        string     // of its files, and of the logs of all programs
	url        string
	token      string // of an administrator
	client     *http.Client
	kubeconfig string // the administrator's

	certificate []byte // by which its certificate is trusted
}

// object is what the tests read of a resource, an event or a list.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	} `json:"metadata"`
	Data   map[string][]byte `json:"data"`   // of a Secret
	Items  []object          `json:"items"`  // of a list
	Reason string            `json:"reason"` // of an event, as its message
	Text   string            `json:"message"`
	Status struct {
		Conditions []struct {
			Type    string `json:"type"`
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"conditions"`
		SecretLease struct {
			ID string `json:"id"`
		} `json:"secretLease"`
	} `json:"status"`
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, whole: t, dir: t.TempDir(), token: rand.Text()}
	c.kubeconfig = filepath.Join(c.dir, "admin.json")
	t.Cleanup(c.showLogs)
	c.writeFile("tokens.csv", c.token+",admin,admin,system:masters\n")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.writeFile("accounts.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	// A port that is free may be taken before it is used.
	for attempt := 1; ; attempt++ {
		if c.start(fmt.Sprintf("%d", attempt)) {
			return c
		}
		if attempt == 5 {
			t.Fatal("the API server did not start")
		}
	}
}

// start reports whether the API server became ready. The log files carry the name of the attempt.
func (c *cluster) start(attempt string) bool {
	c.t.Helper()
	ports := freePorts(c.t, 3)
	storage, peers := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	etcd := c.launch("etcd-"+attempt, exec.Command(binary(c.t, "etcd"),
		"--data-dir="+filepath.Join(c.dir, "etcd-"+attempt), "--unsafe-no-fsync", "--listen-client-urls="+storage,
		"--advertise-client-urls="+storage, "--listen-peer-urls="+peers, "--log-level=warn",
		"--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers))
	accounts, certificates := filepath.Join(c.dir, "accounts.pem"), filepath.Join(c.dir, "certificates-"+attempt)
	server := c.launch("kube-apiserver-"+attempt, exec.Command(binary(c.t, "kube-apiserver"), "--etcd-servers="+storage,
		"--bind-address=127.0.0.1", "--secure-port="+ports[2], "--cert-dir="+certificates,
		"--endpoint-reconciler-type=none", // none would do: loopback is no address of a service
		"--token-auth-file="+filepath.Join(c.dir, "tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+accounts, "--service-account-signing-key-file="+accounts,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--disable-admission-plugins=ServiceAccount")) // it waits for what controllers would create
	c.url = "https://127.0.0.1:" + ports[2]
	deadline := time.After(startLimit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.ready(filepath.Join(certificates, "apiserver.crt")) {
				return true
			}
		case <-etcd.Done:
			return false
		case <-server.Done:
			return false
		case <-deadline:
			c.t.Fatalf("the API server was not ready after %s", startLimit)
		}
	}
}

// ready trusts the certificate that the API server has made itself, and looks whether it answers.
func (c *cluster) ready(certificate string) bool {
	text, err := os.ReadFile(certificate)
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return false
	}
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 30 * time.Second}
	if c.find("/readyz", nil) != nil {
		return false
	}
	c.certificate = text
	c.writeKubeconfig(c.kubeconfig, c.token)
	return true
}

// writeKubeconfig writes the file by which kubectl and the operators find the API server.
func (c *cluster) writeKubeconfig(path, token string) {
	c.t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{
			"server": c.url, "certificate-authority-data": c.certificate,
		}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	})
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// find reads a path of the API into a value; it is an error where nothing is there.
func (c *cluster) find(path string, into any) error { return c.send(http.MethodGet, path, "", into) }

// send sends a request of the administrator's, and reads the answer into a value that is not nil.
func (c *cluster) send(method, path, body string, into any) error {
	request, err := http.NewRequestWithContext(c.whole.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s: %s", path, answer.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// secret is what the Secret of that name in the namespace deploy holds; nil: there is none.
func (c *cluster) secret(name string) map[string]string {
	var found object
	if c.find("/api/v1/namespaces/deploy/secrets/"+name, &found) != nil {
		return nil
	}
	held := map[string]string{}
	for key, value := range found.Data {
		held[key] = string(value)
	}
	return held
}

// events are the messages of the events in the namespace deploy that have one of the reasons, oldest first.
func (c *cluster) events(reasons ...string) []string {
	c.t.Helper()
	var list object
	if err := c.find("/api/v1/namespaces/deploy/events", &list); err != nil {
		c.t.Fatal(err)
	}
	var messages []string
	for _, event := range list.Items {
		for _, reason := range reasons {
			if event.Reason == reason {
				messages = append(messages, event.Text)
			}
		}
	}
	return messages
}

// kubectl runs the real one as an administrator, in the repository's root: files are named as the pages name them.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	return c.kubectlWith("", args...)
}

// kubectlWith gives it something to read.
func (c *cluster) kubectlWith(input string, args ...string) string {
	c.t.Helper()
	var failure bytes.Buffer
	command := exec.CommandContext(c.t.Context(), binary(c.t, "kubectl"), args...)
	command.Dir, command.Stdin, command.Stderr = repository, strings.NewReader(input), &failure
	command.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.dir)
	out, err := command.Output()
	if err != nil {
		c.t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, failure.String())
	}
	return string(out)
}

// launch starts a program that ends with the test, if nobody ends it before, and that logs into the folder of the cluster.
func (c *cluster) launch(name string, command *exec.Cmd) *emulator.Process {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	program, err := emulator.Start(command, syscall.SIGKILL)
	if err != nil {
		c.t.Fatal(err)
	}
	c.whole.Cleanup(func() {
		if err := program.Stop(syscall.SIGKILL); err != nil {
			c.whole.Error(err)
		}
	})
	return program
}

// showLogs shows how the logs of a test that failed end.
func (c *cluster) showLogs() {
	if !c.whole.Failed() {
		return
	}
	logs, err := filepath.Glob(filepath.Join(c.dir, "*.log"))
	if err != nil {
		c.whole.Error(err)
	}
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			c.whole.Error(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		c.whole.Logf("%s ends with:\n%s", filepath.Base(name), strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

func (c *cluster) writeFile(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func mustGlob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found
}

// binary is one of the programs that make builds, by its absolute path.
func binary(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(filepath.Dir(needed(t, "CLOUDKEYS_PLUGIN")), name)
}

// freePorts are ports of loopback that nothing listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		port, err := emulator.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}
