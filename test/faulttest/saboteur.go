// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package faulttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrDead is what a process that has died gets: nothing reaches the world any more.
var ErrDead = errors.New("the process is dead")

// ErrInjected is a failure of what is no cloud.
var ErrInjected = errors.New("injected fault")

// A Saboteur lets one fault hit one point. A point is a call's name and the number of
// that name it is. It is an http.RoundTripper before the cloud's own; calls of other kinds
// pass through Do.
type Saboteur struct {
	Cloud  http.RoundTripper
	Huawei bool               // the cloud is Huawei's; else OUTSCALE, which names and refuses calls its own way
	HangUp context.CancelFunc // of the run in progress

	mu       sync.Mutex // never held while waiting
	point    string
	fault    string
	counts   map[string]int
	trail    []string
	injected int
	dead     bool
}

// Arm arms the saboteur for a new run; an empty point only counts.
func (s *Saboteur) Arm(point, fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.point, s.fault, s.counts, s.trail, s.dead = point, fault, map[string]int{}, nil, false
}

// Trail returns the points passed since Arm.
func (s *Saboteur) Trail() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trail
}

// Injected tells how many faults were injected.
func (s *Saboteur) Injected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.injected
}

// Dead tells whether the process has died since Arm.
func (s *Saboteur) Dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

func (s *Saboteur) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	s.HangUp()
}

// pass notes a call and returns the fault that is to hit it; empty: none.
func (s *Saboteur) pass(name string) (fault string, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return "", true
	}
	s.counts[name]++
	point := fmt.Sprintf("%s#%d", name, s.counts[name])
	s.trail = append(s.trail, point)
	if point != s.point {
		return "", false
	}
	s.injected++
	return s.fault, false
}

// RoundTrip implements http.RoundTripper.
func (s *Saboteur) RoundTrip(req *http.Request) (*http.Response, error) {
	fault, dead := s.pass("cloud " + s.name(req))
	switch {
	case dead:
		return nil, ErrDead
	case fault == "":
		return s.Cloud.RoundTrip(req)
	}
	for _, known := range cloudFaults {
		if known.name == fault {
			return known.inject(s, req)
		}
	}
	return nil, fmt.Errorf("there is no fault %q of a cloud", fault)
}

func (s *Saboteur) name(req *http.Request) string {
	if s.Huawei {
		return HuaweiCall(req)
	}
	return path.Base(req.URL.Path)
}

// HuaweiCall names a call of Huawei Cloud by method and path, without ids, which differ from
// run to run.
func HuaweiCall(req *http.Request) string {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	for i := 1; i < len(parts); i++ {
		if slices.Contains([]string{"credentials", "users", "groups", "domains"}, parts[i-1]) {
			parts[i] = "*"
		}
	}
	return req.Method + ":" + strings.Join(parts, "/")
}

// Do makes a call to Vault or to the archive of a function.
func (s *Saboteur) Do(ctx context.Context, name string, do func() error) error {
	fault, dead := s.pass(name)
	switch {
	case dead:
		return ErrDead
	case fault == "":
		return do()
	}
	for _, known := range otherFaults {
		if known.name == fault {
			return known.inject(ctx, s, do)
		}
	}
	return fmt.Errorf("there is no fault %q of %s", fault, name)
}

// FaultsAt names the faults that can hit a point.
func FaultsAt(point string) (names []string) {
	if strings.HasPrefix(point, "cloud ") {
		for _, fault := range cloudFaults {
			names = append(names, fault.name)
		}
		return names
	}
	for _, fault := range otherFaults {
		names = append(names, fault.name)
	}
	return names
}

// work lets the cloud do what it is asked, also where the caller has gone.
func (s *Saboteur) work(req *http.Request) (*http.Response, error) {
	return s.Cloud.RoundTrip(req.WithContext(context.WithoutCancel(req.Context())))
}

func answer(req *http.Request, status int, body string) (*http.Response, error) {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}, nil
}

// instead lets the cloud do its work, and answers something else.
func instead(status int, body string) func(*Saboteur, *http.Request) (*http.Response, error) {
	return func(s *Saboteur, req *http.Request) (*http.Response, error) {
		if _, err := s.work(req); err != nil {
			return nil, err
		}
		return answer(req, status, body)
	}
}

// said is how a cloud says no.
type said struct {
	status int
	code   string
}

// refusal says no as the present cloud does. errorType is a part of OUTSCALE's answers.
func refusal(errorType string, outscale, huawei said) func(*Saboteur, *http.Request) (*http.Response, error) {
	return func(s *Saboteur, req *http.Request) (*http.Response, error) {
		if s.Huawei {
			return answer(req, huawei.status, `{"error_msg":"injected","error_code":"`+huawei.code+`"}`)
		}
		return answer(req, outscale.status, `{"Errors":[{"Type":"`+errorType+`","Details":"","Code":"`+outscale.code+`"}],"ResponseContext":{"RequestId":"injected"}}`)
	}
}

var cloudFaults = []struct {
	name   string
	inject func(*Saboteur, *http.Request) (*http.Response, error)
}{
	{"denied", refusal("AccessDenied", said{401, "7"}, said{403, "IAM.0002"})},
	{"invalid", refusal("InvalidParameterValue", said{400, "4110"}, said{400, "IAM.0011"})},
	{"the key is refused", refusal("AccessDenied", said{401, "1"}, said{401, "APIGW.0301"})},
	{"throttled (429)", refusal("AccessDenied", said{429, "24"}, said{429, "APIGW.0308"})},
	{"throttled (503)", refusal("ServiceUnavailable", said{503, "6"}, said{503, "APIGW.0308"})},
	{"a 500 before the work", func(_ *Saboteur, req *http.Request) (*http.Response, error) { return answer(req, 500, "{}") }},
	{"a 500 after the work", instead(500, "{}")},
	{"the answer is lost", func(s *Saboteur, req *http.Request) (*http.Response, error) {
		_, _ = s.work(req)
		return nil, io.ErrUnexpectedEOF
	}},
	{"the connection is reset", func(*Saboteur, *http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}},
	{"no answer in time, and no work", func(_ *Saboteur, req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}},
	{"an answer past the deadline", func(s *Saboteur, req *http.Request) (*http.Response, error) {
		_, _ = s.work(req)
		<-req.Context().Done()
		return nil, req.Context().Err()
	}},
	{"an empty 200 after the work", instead(200, "")},
	{"an empty 200 without the work", func(_ *Saboteur, req *http.Request) (*http.Response, error) { return answer(req, 200, "") }},
	{"{} with a 200, without the work", func(_ *Saboteur, req *http.Request) (*http.Response, error) { return answer(req, 200, "{}") }},
	{"a page with a 200, without the work", func(_ *Saboteur, req *http.Request) (*http.Response, error) { return answer(req, 200, "<html>") }},
	{"the run is cancelled before", func(s *Saboteur, req *http.Request) (*http.Response, error) {
		s.HangUp()
		return s.Cloud.RoundTrip(req)
	}},
	{"the run is cancelled after", func(s *Saboteur, req *http.Request) (*http.Response, error) {
		resp, err := s.work(req)
		s.HangUp()
		return resp, err
	}},
	{"death before", func(s *Saboteur, _ *http.Request) (*http.Response, error) {
		s.die()
		return nil, ErrDead
	}},
	{"death after", func(s *Saboteur, req *http.Request) (*http.Response, error) {
		_, _ = s.work(req)
		s.die()
		return nil, ErrDead
	}},
}

var otherFaults = []struct {
	name   string
	inject func(ctx context.Context, s *Saboteur, do func() error) error
}{
	{"an error", func(context.Context, *Saboteur, func() error) error { return ErrInjected }},
	{"an error of what is done all the same", func(_ context.Context, _ *Saboteur, do func() error) error { return errors.Join(ErrInjected, do()) }},
	{"an answer past the deadline", func(ctx context.Context, _ *Saboteur, do func() error) error {
		err := do()
		<-ctx.Done()
		return errors.Join(ctx.Err(), err)
	}},
	{"the run is cancelled", func(ctx context.Context, s *Saboteur, do func() error) error {
		s.HangUp()
		return errors.Join(ctx.Err(), do())
	}},
	{"death before", func(_ context.Context, s *Saboteur, _ func() error) error {
		s.die()
		return ErrDead
	}},
	{"death after", func(_ context.Context, s *Saboteur, do func() error) error {
		_ = do()
		s.die()
		return ErrDead
	}},
}
