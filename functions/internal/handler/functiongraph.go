// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// functionGraph is the custom runtime of Huawei Cloud FunctionGraph: it starts an executable "bootstrap", which asks for each
// invocation and posts its answer. As documented on the page functiongraph_01_0406 of FunctionGraph's user guide; it was played by a
// server in tests, and never tried on the cloud.
type functionGraph struct {
	address string // host and port
	getenv  func(string) string
	client  *http.Client
}

// invocation is one of FunctionGraph.
type invocation struct {
	id      string
	payload json.RawMessage
	header  http.Header
}

// largestEvent bounds an event: FunctionGraph takes 6 MB.
const largestEvent = 8 << 20

// onFunctionGraph tells whether the process was started by FunctionGraph; Lambda has an address of its own.
func onFunctionGraph(getenv func(string) string) (functionGraph, bool) {
	f := functionGraph{
		address: getenv("RUNTIME_API_ADDR"), getenv: getenv,
		// Without a proxy, and without a timeout: an invocation is waited for until there is one.
		client: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	return f, f.address != "" && getenv("AWS_LAMBDA_RUNTIME_API") == ""
}

// serve takes one invocation after the other until ctx ends. An error of the runtime's own ends the process, and FunctionGraph starts
// another.
func (f functionGraph) serve(ctx context.Context, do func(context.Context, invocation) (any, error)) error {
	for {
		next, err := f.next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.answer(ctx, next, do); err != nil {
			return err
		}
	}
}

// next waits for an invocation.
func (f functionGraph) next(ctx context.Context) (invocation, error) {
	resp, err := f.call(ctx, http.MethodGet, "request", nil)
	if err != nil {
		return invocation{}, err
	}
	defer resp.Body.Close()
	payload, err := io.ReadAll(io.LimitReader(resp.Body, largestEvent+1))
	if err != nil {
		return invocation{}, fmt.Errorf("reading an invocation: %w", err)
	}
	id := resp.Header.Get("X-Cff-Request-Id")
	if id == "" || len(payload) > largestEvent {
		return invocation{}, errors.New("FunctionGraph's runtime API sent an invocation without an id, or one of more than 6 MB")
	}
	return invocation{id, payload, resp.Header}, nil
}

// answer runs an invocation within its time, and posts what came of it.
func (f functionGraph) answer(ctx context.Context, i invocation, do func(context.Context, invocation) (any, error)) error {
	path, id := "response/", url.PathEscape(i.id)
	limited, cancel := context.WithTimeout(ctx, f.timeout())
	answer, runErr := do(limited, i)
	cancel()
	if runErr != nil {
		path, answer = "error/", failure{typeName(runErr), runErr.Error()}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	resp, err := f.call(context.WithoutCancel(ctx), http.MethodPost, path+id, body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// failure is what a failed invocation answers, in Lambda's words.
type failure struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func typeName(err error) string {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

func (f functionGraph) call(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.address+"/v1/runtime/invocation/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("RUNTIME_API_ADDR is no address: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling FunctionGraph's runtime API: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("FunctionGraph's runtime API answered HTTP %d to %s", resp.StatusCode, strings.SplitN(path, "/", 2)[0])
	}
	return resp, nil
}

// shortestTime is FunctionGraph's own default for a function's time.
const shortestTime = 3 * time.Second

// timeout is what the function is given, which FunctionGraph tells in seconds.
func (f functionGraph) timeout() time.Duration {
	seconds, err := strconv.Atoi(f.getenv("RUNTIME_TIMEOUT"))
	if err != nil || seconds <= 0 {
		return shortestTime
	}
	return time.Duration(seconds) * time.Second
}

// environment is what a run reads: the variables that the user has set, those among them that FunctionGraph encrypts, which stand in
// RUNTIME_USERDATA alone, and for what they leave out the key of the function's agency. That key signs for the account where there
// is no Vault, and for a bucket of OBS.
func (f functionGraph) environment(i invocation) func(string) string {
	var encrypted map[string]string
	_ = json.Unmarshal([]byte(f.getenv("RUNTIME_USERDATA")), &encrypted) // none where it is no object of texts
	agency := map[string]string{}
	own := func(names ...string) bool {
		for _, name := range names {
			if f.getenv(name) != "" || encrypted[name] != "" {
				return true
			}
		}
		return false
	}
	key, secret, token := i.header.Get("X-Cff-Access-Key"), i.header.Get("X-Cff-Secret-Key"), i.header.Get("X-Cff-Security-Token")
	if !own("HUAWEICLOUD_SDK_AK", "OSC_ACCESS_KEY") {
		agency["HUAWEICLOUD_SDK_AK"], agency["HUAWEICLOUD_SDK_SK"], agency["HUAWEICLOUD_SDK_SECURITY_TOKEN"] = key, secret, token
	}
	if !own("AWS_ACCESS_KEY_ID") {
		agency["AWS_ACCESS_KEY_ID"], agency["AWS_SECRET_ACCESS_KEY"], agency["AWS_SESSION_TOKEN"] = key, secret, token
	}
	return func(name string) string { return cmp.Or(f.getenv(name), encrypted[name], agency[name]) }
}
