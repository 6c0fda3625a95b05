// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// The functions, by the names of their directories.
const (
	revokeFunction = "revoke-expired-keys"
	syncFunction   = "sync-policy"
)

// lambda is a function's binary under the Runtime Interface Emulator.
type lambda struct {
	t       testing.TB
	address string
	process *emulator.Process
	log     *emulator.Output
}

// startLambda runs a function with a clean environment, as Lambda has it.
func startLambda(t testing.TB, function string, env map[string]string) *lambda {
	t.Helper()
	path, err := emulator.Path()
	if err != nil {
		t.Fatal(err)
	}
	port, api := mustPort(t), mustPort(t)
	cmd := exec.Command(path, "--runtime-interface-emulator-address", "127.0.0.1:"+port, "--runtime-api-address", "127.0.0.1:"+api,
		filepath.Join(os.Getenv("FUNCTIONS_BIN"), function, "bootstrap"))
	all := map[string]string{
		"PATH": os.Getenv("PATH"), "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO", "AWS_LAMBDA_FUNCTION_NAME": function,
		"AWS_LAMBDA_FUNCTION_TIMEOUT": "60", "AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023",
	}
	maps.Copy(all, env)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		cmd.Env = append(cmd.Env, name+"="+all[name])
	}
	l := &lambda{t: t, address: "http://127.0.0.1:" + port, log: &emulator.Output{}}
	cmd.Stdout, cmd.Stderr = l.log, l.log
	if l.process, err = emulator.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.process.Stop(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", function, l.log)
		}
	})
	return l
}

func mustPort(t testing.TB) string {
	t.Helper()
	port, err := emulator.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// invoke sends an event and returns the answer. The emulator takes some time to listen.
func (l *lambda) invoke(event string) string {
	l.t.Helper()
	answer, err := l.tryInvoke(event)
	if err != nil {
		l.t.Fatal(err)
	}
	return answer
}

func (l *lambda) tryInvoke(event string) (string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ; <-tick.C {
		req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.address+"/2015-03-31/functions/function/invocations",
			strings.NewReader(event))
		if err != nil {
			return "", err
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil && strings.Contains(err.Error(), "connection refused") && time.Since(start) < time.Minute {
			continue
		}
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}
}

// mustFail expects an error of a type.
func (l *lambda) mustFail(event, errorType string, parts ...string) {
	l.t.Helper()
	text := l.invoke(event)
	var answer struct{ ErrorMessage, ErrorType string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.ErrorType != errorType {
		l.t.Errorf("got %s, want errorType %s", text, errorType)
	}
	for _, part := range parts {
		if !strings.Contains(answer.ErrorMessage, part) {
			l.t.Errorf("%q does not say %q", answer.ErrorMessage, part)
		}
	}
}

// lines are the JSON lines that the function wrote, and not the emulator.
func (l *lambda) lines() []map[string]any {
	var lines []map[string]any
	for line := range strings.Lines(l.log.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil {
			lines = append(lines, fields)
		}
	}
	return lines
}

// eventually looks at the lines until they have what is looked for: the emulator passes on what the
// function writes when it has answered already.
func (l *lambda) eventually(has func(line map[string]any) bool) map[string]any {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); ; {
		var found map[string]any
		for _, line := range l.lines() {
			if has(line) {
				found = line
			}
		}
		if found != nil {
			return found
		}
		select {
		case <-tick.C:
		case <-limit:
			return nil
		}
	}
}

// metric is the last value of a metric.
func (l *lambda) metric(name string) float64 {
	l.t.Helper()
	line := l.eventually(func(line map[string]any) bool { _, is := line[name].(float64); return is && line["_aws"] != nil })
	if line == nil {
		l.t.Errorf("no metric %s was written", name)
		return 0
	}
	return line[name].(float64)
}

// message finds a log line by its text.
func (l *lambda) message(text string) map[string]any {
	l.t.Helper()
	line := l.eventually(func(line map[string]any) bool { return line["message"] == text })
	if line == nil {
		l.t.Fatalf("no log line says %q", text)
	}
	return line
}

// terminate sends SIGTERM to the function itself, as Lambda does.
func (l *lambda) terminate() {
	l.t.Helper()
	if err := syscall.Kill(l.child(), syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
}

// child is the function's process: the emulator's one child.
func (l *lambda) child() int {
	l.t.Helper()
	// Each thread has the children that it started.
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(l.process.Cmd.Process.Pid) + "/task/*/children")
	if err != nil {
		l.t.Fatal(err)
	}
	var fields []string
	for _, thread := range threads {
		children, err := os.ReadFile(thread)
		if err != nil {
			l.t.Fatal(err)
		}
		fields = append(fields, strings.Fields(string(children))...)
	}
	if len(fields) != 1 {
		l.t.Fatalf("the emulator has the children %v, want the function alone", fields)
	}
	child, err := strconv.Atoi(fields[0])
	if err != nil {
		l.t.Fatal(err)
	}
	return child
}
