// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// functionGraph plays the runtime API of FunctionGraph, as its user guide describes it, to a function's binary.
type functionGraph struct {
	t       *testing.T
	events  chan string
	answers chan string // how it ended, and its body
	process *emulator.Process
	said    *emulator.Output
}

func startOnFunctionGraph(t *testing.T, function string, env map[string]string) *functionGraph {
	t.Helper()
	g := &functionGraph{t: t, events: make(chan string), answers: make(chan string, 1), said: &emulator.Output{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	cmd := exec.Command(filepath.Join(os.Getenv("FUNCTIONS_BIN"), function, "bootstrap"))
	cmd.Stdout, cmd.Stderr = g.said, g.said
	cmd.Env = []string{
		"RUNTIME_API_ADDR=" + server.Listener.Addr().String(), "RUNTIME_TIMEOUT=120", "RUNTIME_FUNC_NAME=" + function, "TMPDIR=" + t.TempDir(),
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	process, err := emulator.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	g.process = process
	t.Cleanup(func() {
		if err := process.Stop(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", function, g.said)
		}
	})
	return g
}

func (g *functionGraph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const id = "0b4f8d3e-request"
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1/runtime/invocation/") {
	case "GET request":
		select {
		case event := <-g.events:
			w.Header().Set("X-Cff-Request-Id", id)
			for name, value := range map[string]string{"Access-Key": "AGENCYAK", "Secret-Key": "agency-secret", "Security-Token": "agency-token"} {
				w.Header().Set("X-Cff-"+name, value)
			}
			_, _ = io.WriteString(w, event)
		case <-r.Context().Done():
		}
	case "POST response/" + id, "POST error/" + id:
		body, _ := io.ReadAll(r.Body)
		g.answers <- strings.Split(r.URL.Path, "/")[4] + " " + string(body)
	default:
		http.NotFound(w, r)
	}
}

// invoke hands an event out, and returns how it was answered, response or error, and with what.
func (g *functionGraph) invoke(event string) (how, answer string) {
	g.t.Helper()
	limit := time.After(2 * time.Minute)
	select {
	case g.events <- event:
	case <-limit:
		g.t.Fatalf("the function asks for no event: %s", g.said)
	}
	select {
	case text := <-g.answers:
		how, answer, _ = strings.Cut(text, " ")
	case <-limit:
		g.t.Fatalf("the function does not answer: %s", g.said)
	}
	return how, answer
}

// TestFunctionGraphsLoop has a timer start runs of the binary that is uploaded to FunctionGraph, and its agency's key sign for the bucket.
func TestFunctionGraphsLoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAppRole()
	w.withBucket()
	env := maps.Clone(w.env)
	encrypted, err := json.Marshal(map[string]string{"VAULT_SECRET_ID": env["VAULT_SECRET_ID"]})
	if err != nil {
		t.Fatal(err)
	}
	delete(env, "VAULT_SECRET_ID")
	env["RUNTIME_USERDATA"], env["MODE"], env["AWS_REGION"] = string(encrypted), "enforce", awsRegion
	g := startOnFunctionGraph(t, revokeFunction, env)
	timer := func(event string) string {
		return encode(t, map[string]string{
			"version": "v1.0", "time": "2026-11-29T03:17:00Z", "trigger_type": "TIMER", "trigger_name": "nightly", "user_event": event,
		})
	}
	before := w.keys()
	how, reported := g.invoke(timer(`{"mode": "report"}`))
	answer := decode[run.SweepAnswer](t, reported)
	if how != "response" || answer.Mode != "report" || len(answer.Accounts) != 1 || answer.Accounts[0].Planned != 2 ||
		len(answer.Reports) == 0 {
		t.Fatalf("got %s %s", how, reported)
	}
	w.mustBeUnchanged(before)
	if page := aws.object(t, answer.Reports[0]); !strings.Contains(page, "default") {
		t.Errorf("the report in the bucket is %s", page)
	}
	how, refused := g.invoke(`{"trigger_type": "OBS", "time": "t"}`)
	if failure := decode[struct{ ErrorType string }](t, refused); how != "error" || failure.ErrorType != "EventRefusedError" {
		t.Errorf("another trigger is answered with %s %s", how, refused)
	}
	how, enforced := g.invoke(timer(""))
	if answer := decode[run.SweepAnswer](t, enforced); how != "response" || answer.Mode != "enforce" || len(answer.Accounts) != 1 ||
		answer.Accounts[0].Deleted == 0 {
		t.Errorf("got %s %s", how, enforced)
	}
	w.mustHaveGivenBack()
	if err := g.process.Stop(syscall.SIGTERM); err != nil || g.process.Cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("a SIGTERM ends it with %s (%v)", g.process.Cmd.ProcessState, err)
	}
	w.mustHideSecrets(g.said.String(), reported, refused, enforced)
	if strings.Contains(g.said.String(), "agency-secret") || strings.Contains(g.said.String(), "agency-token") {
		t.Error("the agency's key shows")
	}
}
