// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

// Package samlocal runs the functions under `sam local`, in containers, as docs/functions.md tells a reader to: against the real
// server and the simulated clouds of `make dev`. sam exits with 0 whatever happens, so that what it prints is looked at.
package samlocal

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

const root = "../.."

// functions are the logical ids in template.yaml, by how the names of their events begin.
var functions = map[string]string{"revoke": "RevokeExpiredKeysFunction", "sync": "SyncPolicyFunction"}

// desk is the reader's machine: sam, an engine, and make dev in another shell.
type desk struct {
	t    *testing.T
	bin  string // has sam, with what a machine without a registry needs
	base string // the image
	env  map[string]string
}

func TestEveryEventUnderSAMLocal(t *testing.T) {
	engine := newEngine(t)
	path, err := emulator.Path()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, bin: t.TempDir(), base: engine.image(path, emulator.Architecture())}
	d.env = map[string]string{"DOCKER_HOST": "unix://" + engine.socket, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-3"}
	d.wrapSAM()
	maps.Copy(d.env, makeDev(t, bridge(t)))

	t.Run("the page's lines", d.pageLines)
	t.Run("each event is invoked", func(t *testing.T) {
		eachEvent(t, func(t *testing.T, function, event string) {
			mustAnswer(t, d.run(t, fmt.Sprintf("sam local invoke %s -e %s -n env.json", function, event), nil))
		})
	})
	t.Run("and sent to start-lambda", d.startLambda)
	t.Run("a run that fails has an errorType and the exit status 0", func(t *testing.T) {
		t.Parallel()
		// Loopback is the container's own.
		elsewhere := map[string]string{"VAULT_ADDR": "http://127.0.0.1:1"}
		answer := decode(t, d.run(t, "sam local invoke SyncPolicyFunction -e events/sync-report.json -n env.json", elsewhere))
		if answer["errorType"] != "VaultUnreachableError" {
			t.Errorf("got %v", answer)
		}
	})
}

// TestWhatIsBuiltIsBoundToItsArchitecture: as the other one, sam would ask for the other image, or exit with 0 and print nothing.
func TestWhatIsBuiltIsBoundToItsArchitecture(t *testing.T) {
	template, err := os.ReadFile(filepath.Join(root, ".aws-sam/build/template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile(`(?m)^  Architecture:\n    Type: String\n    Default: (\w+)\n    AllowedValues:\n    - (\w+)\n    [A-Z]`)
	bound := parameter.FindSubmatch(template)
	if bound == nil || !bytes.Equal(bound[1], bound[2]) {
		t.Fatalf("the built template is bound to %q", bound)
	}
	for _, function := range functions {
		binary, err := elf.Open(filepath.Join(root, ".aws-sam/build", function, "bootstrap"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "arm64"}[binary.Machine]
		if err := binary.Close(); err != nil || string(bound[1]) != want {
			t.Errorf("%s is built for %s, and the template is bound to %s (%v)", function, want, bound[1], err)
		}
	}
}

// wrapSAM puts a sam on the reader's PATH that pulls no image.
func (d *desk) wrapSAM() {
	d.t.Helper()
	sam := filepath.Join(os.Getenv("SAM_VENV"), "bin", "sam")
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" --skip-pull-image --invoke-image %s\n", sam, d.base)
	if err := os.WriteFile(filepath.Join(d.bin, "sam"), []byte(script), 0o700); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) command(script string, more map[string]string) *exec.Cmd {
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+os.Getenv("PATH"))
	for _, env := range []map[string]string{d.env, more} {
		for name, value := range env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// run returns what a script prints to standard output. It must exit with 0, as sam does.
func (d *desk) run(t *testing.T, script string, more map[string]string) []byte {
	t.Helper()
	cmd := d.command(script, more)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it wrote: %s", said.String())
		}
	}); len(bytes.TrimSpace(out)) == 0 {
		t.Fatal("it answered nothing")
	}
	return out
}

// mustAnswer expects what a run that went well answers.
func mustAnswer(t *testing.T, text []byte) {
	t.Helper()
	answer := decode(t, text)
	accounts, _ := answer["accounts"].([]any)
	if answer["errorType"] != nil || answer["mode"] != "report" || len(accounts) != 1 {
		t.Errorf("got %s", text)
	}
}

func (d *desk) pageLines(t *testing.T) {
	t.Parallel()
	pages, err := markdown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, page := range pages {
		for _, block := range page.Noted("run sam") {
			lines.WriteString(block.Text + "\n")
		}
	}
	answers, n := json.NewDecoder(bytes.NewReader(d.run(t, lines.String(), nil))), 0
	for ; answers.More(); n++ { // no line ends between them
		var answer json.RawMessage
		if err := answers.Decode(&answer); err != nil {
			t.Fatal(err)
		}
		mustAnswer(t, answer)
	}
	if want := strings.Count(lines.String(), "sam local invoke"); n != want || want == 0 {
		t.Errorf("%d answers to %d lines", n, want)
	}
}

// eachEvent runs a subtest for each file of events/, some at once.
func eachEvent(t *testing.T, do func(t *testing.T, function, event string)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "events/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("there are no events", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		kind, _, _ := strings.Cut(name, "-")
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			t.Parallel()
			do(t, functions[kind], "events/"+name)
		})
	}
}

func (d *desk) startLambda(t *testing.T) {
	port, err := emulator.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + port
	var said emulator.Output
	cmd := d.command("exec sam local start-lambda -n env.json --port "+port, nil)
	stop := begin(t, cmd, &said)
	t.Cleanup(func() {
		if stop(); t.Failed() {
			t.Logf("start-lambda wrote: %s", said.String())
		}
	})
	until(t, 5*time.Minute, "start-lambda listens", func() bool {
		connection, err := net.Dial("tcp", address)
		return err == nil && connection.Close() == nil
	})
	eachEvent(t, func(t *testing.T, function, event string) {
		text, err := os.ReadFile(filepath.Join(root, event))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.Post("http://"+address+"/2015-03-31/functions/"+function+"/invocations", "application/json", bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		mustAnswer(t, body)
	})
}

// makeDev runs what `make dev ON=...` runs, and returns what its last lines export.
func makeDev(t *testing.T, on string) map[string]string {
	t.Helper()
	demo, err := filepath.Abs(filepath.Join(root, ".cache/bin/demo"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(demo, "-stay", "-on", on)
	cmd.Dir = root
	var said emulator.Output
	stop := begin(t, cmd, &said)
	t.Cleanup(stop)
	exports := map[string]string{}
	until(t, 5*time.Minute, "make dev is up", func() bool {
		_, last, up := strings.Cut(said.String(), "runs `sam local`")
		for _, export := range regexp.MustCompile(`(?m)^export (\w+)=(.+)$`).FindAllStringSubmatch(last, -1) {
			exports[export[1]] = export[2]
		}
		return up && strings.Contains(last, "Ctrl-C")
	})
	if exports["VAULT_ADDR"] == "" || exports["VAULT_TOKEN"] == "" || !strings.Contains(exports["VAULT_ADDR"], on) {
		t.Fatalf("make dev says: %s", said.String())
	}
	return exports
}

// begin starts a process. stop ends it as Ctrl-C does, and waits.
func begin(t *testing.T, cmd *exec.Cmd, said *emulator.Output) (stop func()) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = said, said
	process, err := emulator.Start(cmd, syscall.SIGINT)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := process.Stop(syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}
}
