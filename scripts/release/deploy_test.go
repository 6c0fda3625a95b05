// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// TestTheReleasedStackIsDeployed builds the functions for this machine's architecture as a release does, and deploys what a reader
// downloads: with sam and SAM's own translator, to moto in place of AWS.
func TestTheReleasedStackIsDeployed(t *testing.T) {
	venv := os.Getenv("SAM_VENV")
	if venv == "" {
		t.Fatal("SAM_VENV is not set: run make test-release, which installs what it names")
	}
	s := source{dir: copyOfTree(t), version: testVersion, commit: testCommit, date: time.Unix(1700000000, 0).UTC()}
	out := t.TempDir()
	var products []built
	for _, p := range s.products() {
		if p.lambda && p.arch == runtime.GOARCH {
			files, err := s.publish(t.Context(), p, out)
			if err != nil {
				t.Fatal(err)
			}
			products = append(products, built{p, files})
		}
	}
	if err := s.writeStacks(products, out); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack(t, read(t, out, "cloudkeys-stack_"+testVersion+"_linux_"+runtime.GOARCH+".zip"), dir)
	t.Run("sam and cfn-lint find nothing in it", func(t *testing.T) {
		for _, args := range [][]string{{"sam", "validate", "--lint"}, {"cfn-lint", "-t", "template.yaml", "-c", "I"}} {
			cmd := exec.CommandContext(t.Context(), filepath.Join(venv, "bin", args[0]), args[1:]...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "AWS_DEFAULT_REGION=eu-west-3", "SAM_CLI_TELEMETRY=0")
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", args[0], err, said)
			}
		}
	})
	t.Run("its functions run the code of the zips that are published", func(t *testing.T) { mustDeploy(t, venv, dir) })
	t.Run("which tells its version", func(t *testing.T) {
		for _, name := range []string{"revoke-expired-keys", "sync-policy"} {
			unpacked := t.TempDir()
			unpack(t, read(t, dir, name+".zip"), unpacked)
			if agent := agentOf(t, filepath.Join(unpacked, "bootstrap")); !strings.Contains(agent, "cloudkeys-functions/"+testVersion) {
				t.Errorf("%s introduces itself to the cloud as %q", name, agent)
			}
		}
	})
}

// unpack writes the files of a zip into a directory, as unzip does.
func unpack(t *testing.T, packed, dir string) {
	t.Helper()
	archive, err := zip.NewReader(strings.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.File {
		content, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), text, f.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

// overrides are the parameters that docs/functions.md deploys with.
func overrides(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/functions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### On AWS\n")
	lines := regexp.MustCompile(`sam deploy --guided[^\n]*\\\n +--parameter-overrides ((?:[^\n]*\\\n)*[^\n]*)`).FindStringSubmatch(section)
	if lines == nil {
		t.Fatal("docs/functions.md does not say how the stack is deployed to AWS")
	}
	return strings.Fields(strings.ReplaceAll(lines[1], "\\\n", " "))
}

// mustDeploy deploys with what the page says, and with the state machine, a key and reserved executions besides, which is most of what a
// condition leaves out.
func mustDeploy(t *testing.T, venv, dir string) {
	t.Helper()
	script, err := filepath.Abs("../pins/sam/deploy.py")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{script, dir}, overrides(t)...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(venv, "bin", "python"), append(args, "FanOut=states", "ReservedConcurrency=20",
		"KmsKeyArn=arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")...)
	var said bytes.Buffer
	cmd.Stderr = &said
	made, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	var stack struct {
		Status    string
		Outputs   map[string]string
		Resources map[string]string
		Functions map[string]struct {
			SHA256        string
			Architectures []string
			Environment   map[string]any
		}
	}
	if err := json.Unmarshal(made, &stack); err != nil {
		t.Fatalf("%v: %s", err, made)
	}
	if stack.Status != "CREATE_COMPLETE" || stack.Outputs["RevokeStateMachineArn"] == "" || stack.Resources["RevokeStateMachine"] == "" {
		t.Fatalf("the stack is %s", made)
	}
	for output, name := range map[string]string{"RevokeFunctionName": "revoke-expired-keys", "SyncFunctionName": "sync-policy"} {
		sum := sha256.Sum256([]byte(read(t, dir, name+".zip")))
		function := stack.Functions[stack.Outputs[output]]
		if function.SHA256 != base64.StdEncoding.EncodeToString(sum[:]) || len(function.Architectures) != 1 ||
			function.Architectures[0] != emulator.Architecture() || function.Environment["MODE"] != "report" ||
			function.Environment["VAULT_ADDR"] != "https://vault.example.com" {
			t.Errorf("%s is %+v", stack.Outputs[output], function)
		}
	}
}

// agentOf has a function's binary call a cloud that refuses it, and returns how it introduces itself. The same server plays the runtime
// that hands it an event.
func agentOf(t *testing.T, bootstrap string) string {
	t.Helper()
	agents, events := make(chan string, 100), make(chan string, 1)
	events <- `{"mode": "report"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/invocation/request"):
			select {
			case event := <-events:
				w.Header().Set("X-Cff-Request-Id", "1")
				_, _ = io.WriteString(w, event)
			case <-r.Context().Done():
			}
		case !strings.Contains(r.URL.Path, "/invocation/"):
			agents <- r.UserAgent()
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(server.Close)
	cmd := exec.Command(bootstrap)
	cmd.Env = []string{
		"RUNTIME_API_ADDR=" + server.Listener.Addr().String(), "RUNTIME_TIMEOUT=60", "OSC_ENDPOINT_API=" + server.URL + "/api/v1",
		"OSC_ACCESS_KEY=AKTEST", "OSC_SECRET_KEY=SKTEST", "OSC_REGION=eu-west-2",
	}
	var said emulator.Output
	cmd.Stdout, cmd.Stderr = &said, &said
	process, err := emulator.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Stop(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	select {
	case agent := <-agents:
		return agent
	case <-process.Done:
		t.Fatalf("it ended: %s", said.String())
	case <-time.After(time.Minute):
		t.Fatalf("it calls nobody: %s", said.String())
	}
	return ""
}
