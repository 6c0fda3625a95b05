// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package samlocal

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// engine is a container engine with Docker's API on a socket.
type engine struct {
	t      *testing.T
	socket string
	client *http.Client
}

// connect is a client of the engine of this machine, whether there is one or not.
func connect(t *testing.T) *engine {
	t.Helper()
	socket, is := strings.CutPrefix(cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock"), "unix://")
	if !is {
		t.Fatalf("DOCKER_HOST is %s: this test speaks to a socket alone", os.Getenv("DOCKER_HOST"))
	}
	e := &engine{t: t, socket: socket}
	e.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	}}}
	return e
}

// newEngine is the engine that runs on this machine, or Debian's dockerd, which is started for the test where root may. Without
// either the test is skipped, unless SAM_LOCAL_REQUIRED forbids it, as in CI.
func newEngine(t *testing.T) *engine {
	t.Helper()
	e := connect(t)
	if e.call(http.MethodGet, "/_ping", nil) == nil {
		return e
	}
	daemon, err := exec.LookPath("dockerd")
	if err != nil || os.Getuid() != 0 {
		if os.Getenv("SAM_LOCAL_REQUIRED") != "" {
			t.Fatalf("no container engine runs at %s, and there is none that this user may start: %v", e.socket, err)
		}
		t.Skipf("no container engine runs at %s, and there is none that this user may start (%v): install Debian's docker.io and be root",
			e.socket, err)
	}
	if err := e.start(daemon); err != nil {
		t.Fatal(err)
	}
	return e
}

// start runs dockerd without rules of a firewall, which a machine in a container may not write. Containers reach this machine over
// the bridge all the same, and nothing else. Where it does not come up, the error has what it said last.
func (e *engine) start(daemon string) error {
	e.t.Helper()
	dir, err := os.MkdirTemp("", "samlocal") // a socket's path is bound to 108 bytes
	if err != nil {
		return err
	}
	e.socket = filepath.Join(dir, "docker.sock")
	cmd := exec.Command(daemon, "--iptables=false", "--ip-masq=false", "--ip-forward=false", "--host=unix://"+e.socket,
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"))
	var said emulator.Output
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 10*time.Second // one of its children may hold them open
	process, err := emulator.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	e.t.Cleanup(func() {
		stopErr := cmd.Process.Signal(syscall.SIGTERM) // it ends its containers, and its mounts
		<-process.Done
		if errors.Is(stopErr, os.ErrProcessDone) {
			stopErr = nil
		}
		if err := errors.Join(stopErr, os.RemoveAll(dir)); err != nil {
			e.t.Error(err)
		}
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); e.call(http.MethodGet, "/_ping", nil) != nil; {
		select {
		case <-tick.C:
		case <-process.Done:
			return fmt.Errorf("this machine cannot run a container engine: %s ended with %s: %s", daemon, cmd.ProcessState, tail(said.String()))
		case <-limit:
			return fmt.Errorf("%s does not answer after a minute: %s", daemon, tail(said.String()))
		}
	}
	return nil
}

// tail is the end of a log.
func tail(text string) string { return text[max(0, len(text)-2000):] }

func TestAnEngineThatCannotStartSaysWhy(t *testing.T) {
	daemon := filepath.Join(t.TempDir(), "dockerd")
	if err := os.WriteFile(daemon, []byte("#!/bin/sh\necho 'Devices cgroup is not mounted' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := connect(t).start(daemon)
	if err == nil || !strings.Contains(err.Error(), "cannot run a container engine") || !strings.Contains(err.Error(), "Devices cgroup") {
		t.Errorf("got %v", err)
	}
}

// call asks the engine. What a build prints is looked through for its error.
func (e *engine) call(method, path string, body io.Reader) error {
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	answer, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || bytes.Contains(text, []byte(`"errorDetail"`)) {
		return fmt.Errorf("%s %s: %s %s: %w", method, path, answer.Status, text, cmp.Or(err, errors.New("the engine refuses it")))
	}
	return nil
}

// image makes what sam runs a function in, of nothing but the emulator that sam ships: it finds the image by its tag, and pulls none.
func (e *engine) image(emulator, architecture string) (base string) {
	e.t.Helper()
	binary, err := os.ReadFile(emulator)
	if err != nil {
		e.t.Fatal(err)
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for name, content := range map[string][]byte{
		"Dockerfile": []byte("FROM scratch\nCOPY rie /var/rapid/aws-lambda-rie\nWORKDIR /tmp\nWORKDIR /var/task\n"), "rie": binary,
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			e.t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			e.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		e.t.Fatal(err)
	}
	const repository = "cloudkeys-sam-local"
	tags := url.Values{"t": {repository + ":base", repository + ":rapid-" + architecture}, "version": {"1"}}
	if err := e.call(http.MethodPost, "/build?"+tags.Encode(), &packed); err != nil {
		e.t.Fatal(err)
	}
	return repository + ":base"
}

// bridge is where containers reach this machine.
func bridge(t *testing.T) string {
	t.Helper()
	docker0, err := net.InterfaceByName("docker0")
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := docker0.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, is := address.(*net.IPNet); is && network.IP.To4() != nil {
			return network.IP.String()
		}
	}
	t.Fatal("Docker's bridge has no address")
	return ""
}

// until waits for something on a machine that may be busy.
func until(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(limit); !so(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not so after %s: %s", limit, what)
		}
	}
}

// decode reads what must be JSON.
func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return value
}
