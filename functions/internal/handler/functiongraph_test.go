// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
)

// graph plays FunctionGraph's runtime API: it hands out one event after the other, and takes the answers.
type graph struct {
	*httptest.Server
	events  []string
	answers []string // "response/id body"
	end     context.CancelFunc
}

func newGraph(t *testing.T, events ...string) (*graph, functionGraph, context.Context) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	g := &graph{events: events, end: cancel}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	t.Cleanup(cancel)
	f, is := onFunctionGraph(settings(map[string]string{
		"RUNTIME_API_ADDR": g.Listener.Addr().String(), "RUNTIME_TIMEOUT": "30",
		"RUNTIME_FUNC_NAME": "revoke",
	}))
	if !is {
		t.Fatal("it does not know FunctionGraph")
	}
	return g, f, ctx
}

func settings(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ours := strings.CutPrefix(r.URL.Path, "/v1/runtime/invocation/")
	switch {
	case !ours:
		w.WriteHeader(http.StatusNotFound)
	case path == "request" && r.Method == http.MethodGet && len(g.events) > 0:
		event := g.events[0]
		g.events = g.events[1:]
		w.Header().Set("X-Cff-Request-Id", "id-"+string(rune('a'+len(g.answers))))
		w.Header().Set("X-Cff-Access-Key", "AGENCYAK")
		w.Header().Set("X-Cff-Secret-Key", "agency-sk")
		w.Header().Set("X-Cff-Security-Token", "agency-token")
		_, _ = io.WriteString(w, event)
	case path == "request":
		g.end()
		<-r.Context().Done()
	case r.Method == http.MethodPost:
		body, _ := io.ReadAll(r.Body)
		g.answers = append(g.answers, path+" "+string(body))
	}
}

func TestFunctionGraphsEventsAreAnsweredOneByOne(t *testing.T) {
	g, f, ctx := newGraph(t,
		`{"version":"v1.0","time":"2026-11-29T03:17:00Z","trigger_type":"TIMER","trigger_name":"nightly","user_event":"{\"mode\":\"report\"}"}`,
		`{"trigger_type":"TIMER","time":"t","user_event":""}`,
		`{"mode":"enforce"}`,
		`{"trigger_type":"OBS","time":"t"}`,
		`{"trigger_type":"TIMER","user_event":"every night"}`,
	)
	var runs []string
	err := f.serve(ctx, func(ctx context.Context, i invocation) (any, error) {
		return handleOnGraph(ctx, f, i, func(ctx context.Context, env run.Env, event order) (string, error) {
			runs = append(runs, strings.Join([]string{env.Function, env.Request, env.RunID, event.Mode, env.Getenv("HUAWEICLOUD_SDK_AK")}, " "))
			if left, has := ctx.Deadline(); !has || time.Until(left) > 30*time.Second {
				t.Errorf("the run's time ends at %s (%v)", left, has)
			}
			if event.Mode == "enforce" {
				return "", errors.New("no")
			}
			return "done", nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRuns := []string{"revoke id-a 2026-11-29T03:17:00Z report AGENCYAK", "revoke id-b t  AGENCYAK", "revoke id-c  enforce AGENCYAK"}
	if strings.Join(runs, "|") != strings.Join(wantRuns, "|") {
		t.Errorf("got the runs %q, want %q", runs, wantRuns)
	}
	for i, want := range []string{
		`response/id-a "done"`, `response/id-b "done"`, `error/id-c {"errorType":"errorString","errorMessage":"no"}`,
		`error/id-d {"errorType":"EventRefusedError"`, `error/id-e {"errorType":"EventRefusedError"`,
	} {
		if i >= len(g.answers) || !strings.HasPrefix(g.answers[i], want) {
			t.Errorf("answer %d of %q, want %s", i, g.answers, want)
		}
	}
}

func TestARuntimeAPIThatIsNoneEndsTheProcess(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	f, _ := onFunctionGraph(settings(map[string]string{"RUNTIME_API_ADDR": server.Listener.Addr().String()}))
	if err := f.serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
	if f.timeout() != shortestTime {
		t.Errorf("without a time it takes %s", f.timeout())
	}
	if _, is := onFunctionGraph(settings(map[string]string{"RUNTIME_API_ADDR": "x", "AWS_LAMBDA_RUNTIME_API": "y"})); is {
		t.Error("Lambda passes for FunctionGraph")
	}
}

func TestSettingsOfAFunctionComeBeforeItsAgencysKey(t *testing.T) {
	header := http.Header{"X-Cff-Access-Key": {"AGENCYAK"}, "X-Cff-Secret-Key": {"agency-sk"}, "X-Cff-Security-Token": {"agency-token"}}
	for name, test := range map[string]struct {
		env  map[string]string
		want map[string]string
	}{
		"nothing is set": {nil, map[string]string{
			"HUAWEICLOUD_SDK_AK": "AGENCYAK", "HUAWEICLOUD_SDK_SK": "agency-sk", "HUAWEICLOUD_SDK_SECURITY_TOKEN": "agency-token",
			"AWS_ACCESS_KEY_ID": "AGENCYAK", "AWS_SESSION_TOKEN": "agency-token", "MODE": "",
		}},
		"a key of the user's": {
			map[string]string{"HUAWEICLOUD_SDK_AK": "AK"},
			map[string]string{
				"HUAWEICLOUD_SDK_AK": "AK", "HUAWEICLOUD_SDK_SK": "", "HUAWEICLOUD_SDK_SECURITY_TOKEN": "", "AWS_ACCESS_KEY_ID": "AGENCYAK",
			},
		},
		"an account of OUTSCALE": {
			map[string]string{"OSC_ACCESS_KEY": "AK"}, map[string]string{"HUAWEICLOUD_SDK_AK": "", "AWS_ACCESS_KEY_ID": "AGENCYAK"},
		},
		"what FunctionGraph encrypts": {
			map[string]string{"RUNTIME_USERDATA": `{"VAULT_SECRET_ID":"s","AWS_ACCESS_KEY_ID":"K","MODE":"enforce"}`, "MODE": "report"},
			map[string]string{
				"VAULT_SECRET_ID": "s", "AWS_ACCESS_KEY_ID": "K", "AWS_SESSION_TOKEN": "", "MODE": "report", "HUAWEICLOUD_SDK_AK": "AGENCYAK",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			getenv := functionGraph{getenv: settings(test.env)}.environment(invocation{header: header, payload: json.RawMessage(`{}`)})
			for variable, want := range test.want {
				if got := getenv(variable); got != want {
					t.Errorf("%s is %q, want %q", variable, got, want)
				}
			}
		})
	}
}
