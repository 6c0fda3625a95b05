// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// cloudOfFunctions is the AWS that a fleet's functions live in: moto as SQS, S3 and Step
// Functions, and in the place of its Lambda, which would need Docker, a few environments
// of the real binary. moto's Step Functions call Lambda, S3 and SQS at MOTO_PORT: a front
// there takes the invocations and passes all else on to moto, but for reports and state in
// S3, which it keeps itself: they have tests of their own, and would take moto longer than
// all the rest.
type cloudOfFunctions struct {
	t     testing.TB
	moto  *motoServer
	front *httptest.Server
	env   map[string]string

	free chan *lambda // environments that wait for an event

	mu    sync.Mutex
	log   []*emulator.Output
	busy  map[string]*lambda // by the event's body
	files map[string][]byte  // reports and state, by path
}

// newCloudOfFunctions starts moto and so many environments of the function.
func newCloudOfFunctions(t testing.TB, environments int, env map[string]string) *cloudOfFunctions {
	t.Helper()
	c := &cloudOfFunctions{
		t: t, env: maps.Clone(env), free: make(chan *lambda, environments), busy: map[string]*lambda{},
		files: map[string][]byte{},
	}
	c.front = httptest.NewUnstartedServer(http.HandlerFunc(c.serve)) // it has its port already
	t.Cleanup(c.front.Close)
	address := c.front.Listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if c.moto, err = startMoto(t.Context(), t.TempDir(), "MOTO_PORT="+port); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.moto.stop(); err != nil {
			t.Error(err)
		}
	})
	c.env["AWS_ENDPOINT_URL_S3"] = "http://" + address
	c.moto.bucket(t, "reports")
	return c
}

// open starts the function's environments, with what else they are told.
func (c *cloudOfFunctions) open() {
	c.front.Start()
	for range cap(c.free) {
		c.free <- c.environment()
	}
}

func (c *cloudOfFunctions) environment() *lambda {
	l := startLambda(c.t, revokeFunction, c.env)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, l.log)
	return l
}

// serve is the front.
func (c *cloudOfFunctions) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/reports/reports/") || strings.HasPrefix(r.URL.Path, "/reports/state/") {
		c.keep(w, r)
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/invocations") {
		target, err := url.Parse(c.moto.url)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer, err := c.invoke(string(body))
	if err != nil { // the environment died: Lambda says so in this way
		answer = fmt.Sprintf(`{"errorType":"Runtime.ExitError","errorMessage":%q}`, "the environment ended: "+err.Error())
	}
	if strings.Contains(answer, `"errorType"`) {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
	}
	_, _ = io.WriteString(w, answer) // whoever asked finds out
}

// keep is as much of S3 as reports and state need.
func (c *cloudOfFunctions) keep(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method == http.MethodPut {
		c.files[r.URL.Path] = body
		return
	}
	file, there := c.files[r.URL.Path]
	if !there {
		w.WriteHeader(http.StatusNotFound)
		file = []byte(`<Error><Code>NoSuchKey</Code></Error>`)
	}
	_, _ = w.Write(file) // whoever asked finds out
}

// kept is a report, as s3://bucket/name names it.
func (c *cloudOfFunctions) kept(place string) string {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	file, there := c.files["/"+strings.TrimPrefix(place, "s3://")]
	if !there {
		c.t.Errorf("there is no report %s", place)
	}
	return string(file)
}

// invoke has an environment do an event. One that died is replaced, as Lambda does.
func (c *cloudOfFunctions) invoke(event string) (string, error) {
	l := <-c.free
	c.mu.Lock()
	c.busy[event] = l
	c.mu.Unlock()
	answer, err := l.tryInvoke(event)
	c.mu.Lock()
	delete(c.busy, event)
	c.mu.Unlock()
	select {
	case <-l.process.Done:
		err = errors.Join(err, errors.New("it was killed"))
		l = c.environment()
	default:
	}
	c.free <- l
	return answer, err
}

// killWhere ends the environment that works on an event with such a text, at once.
func (c *cloudOfFunctions) killWhere(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for event, l := range c.busy {
		if !strings.Contains(event, text) {
			continue
		}
		// The function has a process group of its own, and would outlive the emulator.
		if err := errors.Join(syscall.Kill(l.child(), syscall.SIGKILL), l.process.Stop(syscall.SIGKILL)); err != nil {
			c.t.Error(err)
		}
	}
}

// written is all that the function's environments have written.
func (c *cloudOfFunctions) written() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all strings.Builder
	for _, log := range c.log {
		all.WriteString(log.String())
	}
	return all.String()
}

// call calls an AWS API of the JSON kind.
func (c *cloudOfFunctions) call(service, operation string, in, out any) {
	c.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.moto.url, bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	target := map[string]string{"sqs": "AmazonSQS", "states": "AWSStepFunctions"}[service]
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", target+"."+operation)
	answer, err := c.moto.send(req, service)
	if err != nil {
		c.t.Fatal(err)
	}
	if out == nil || len(answer) == 0 {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		c.t.Fatalf("%v in %s", err, answer)
	}
}

// post calls moto's own API.
func (c *cloudOfFunctions) post(path string, in any) {
	c.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.moto.url+path, bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusBadRequest {
		c.t.Fatalf("moto answers %s with %d", path, answer.StatusCode)
	}
}

// queue makes a queue and returns its URL.
func (c *cloudOfFunctions) queue(name string, attributes map[string]string) string {
	c.t.Helper()
	var made struct{ QueueUrl string }
	c.call("sqs", "CreateQueue", map[string]any{"QueueName": name, "Attributes": attributes}, &made)
	return made.QueueUrl
}
