// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// errDead is what a process that has died gets from storage and cloud: nothing reaches
// them any more.
var errDead = errors.New("the process is dead")

// refusal is an answer of a cloud that says no.
type refusal struct {
	name   string
	status int
	body   string
}

func (r refusal) answer(req *http.Request) *http.Response {
	return &http.Response{
		StatusCode: r.status, Status: http.StatusText(r.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(r.body)),
		ContentLength: int64(len(r.body)), Request: req,
	}
}

// cloudCall is a call on its way to the cloud, which a fault can do what it likes with.
type cloudCall struct {
	scene *scene
	req   *http.Request
	send  http.RoundTripper
}

// work lets the cloud do what it is asked, also where the caller has gone.
func (c cloudCall) work() (*http.Response, error) {
	return c.send.RoundTrip(c.req.WithContext(context.WithoutCancel(c.req.Context())))
}

// done lets the cloud do its work, whose answer is to be hidden. What the cloud refuses is not: no process can count the refusals of its
// key that it is not told of, and the cloud does.
func (c cloudCall) done() (refused *http.Response, err error) {
	resp, err := c.work()
	if err != nil || resp.StatusCode < http.StatusBadRequest {
		return nil, err
	}
	return resp, nil
}

// instead lets the cloud do its work, and answers something else.
func (c cloudCall) instead(status int, body string) (*http.Response, error) {
	if refused, err := c.done(); refused != nil || err != nil {
		return refused, err
	}
	return refusal{status: status, body: body}.answer(c.req), nil
}

type cloudFault struct {
	name string
	hit  func(c cloudCall) (*http.Response, error)
}

// cloudFaults are those of every cloud, beside its own refusals.
var cloudFaults = []cloudFault{
	{name: "a 500 before the work", hit: func(c cloudCall) (*http.Response, error) {
		return refusal{status: 500, body: "{}"}.answer(c.req), nil
	}},
	{name: "a 500 after the work", hit: func(c cloudCall) (*http.Response, error) { return c.instead(500, "{}") }},
	{name: "a gateway's 502 after the work", hit: func(c cloudCall) (*http.Response, error) { return c.instead(502, "bad gateway") }},
	{name: "a gateway's 503 after the work", hit: func(c cloudCall) (*http.Response, error) { return c.instead(503, "try later") }},
	{name: "the answer is lost", hit: func(c cloudCall) (*http.Response, error) {
		if refused, _ := c.done(); refused != nil {
			return refused, nil
		}
		return nil, io.ErrUnexpectedEOF
	}},
	{name: "the connection is reset", hit: func(cloudCall) (*http.Response, error) {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}},
	{name: "the connection is refused", hit: func(cloudCall) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}},
	{name: "no answer in time, and no work", hit: func(c cloudCall) (*http.Response, error) {
		<-c.req.Context().Done()
		return nil, c.req.Context().Err()
	}},
	{name: "an answer past the deadline", hit: func(c cloudCall) (*http.Response, error) {
		if refused, _ := c.done(); refused != nil {
			return refused, nil
		}
		<-c.req.Context().Done()
		return nil, c.req.Context().Err()
	}},
	{name: "an empty 200 after the work", hit: func(c cloudCall) (*http.Response, error) { return c.instead(200, "") }},
	{name: "an empty 200 without the work", hit: func(c cloudCall) (*http.Response, error) {
		return refusal{status: 200}.answer(c.req), nil
	}},
	{name: "{} with a 200, without the work", hit: func(c cloudCall) (*http.Response, error) {
		return refusal{status: 200, body: "{}"}.answer(c.req), nil
	}},
	{name: "a page with a 200, without the work", hit: func(c cloudCall) (*http.Response, error) {
		return refusal{status: 200, body: "<html>"}.answer(c.req), nil
	}},
	{name: "half of a 200", hit: halfAnAnswer},
	{name: "the client hangs up before", hit: func(c cloudCall) (*http.Response, error) {
		c.scene.hangUp()
		return c.send.RoundTrip(c.req)
	}},
	{name: "the client hangs up after", hit: func(c cloudCall) (*http.Response, error) {
		resp, err := c.work()
		c.scene.hangUp()
		if gone := c.req.Context().Err(); gone != nil {
			return nil, gone
		}
		return resp, err
	}},
	{name: "death before", hit: func(c cloudCall) (*http.Response, error) {
		c.scene.process.die()
		return nil, errDead
	}},
	{name: "death after", hit: func(c cloudCall) (*http.Response, error) {
		_, _ = c.work()
		c.scene.process.die()
		return nil, errDead
	}},
	{name: "an outage from here on", hit: func(c cloudCall) (*http.Response, error) {
		c.scene.saboteur.breakCloud()
		return nil, io.ErrUnexpectedEOF
	}},
	{name: "an outage from this answer on", hit: func(c cloudCall) (*http.Response, error) {
		_, _ = c.work()
		c.scene.saboteur.breakCloud()
		return nil, io.ErrUnexpectedEOF
	}},
}

func halfAnAnswer(c cloudCall) (*http.Response, error) {
	resp, err := c.work()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return refusal{status: 200, body: string(body[:len(body)/2])}.answer(c.req), nil
}

type storageFault struct {
	name   string
	writes bool // of writes only
	hit    func(s *scene, do func() error) error
}

var storageFaults = []storageFault{
	{name: "an error", hit: func(*scene, func() error) error { return errInjected }},
	{name: "an error of what is stored all the same", writes: true, hit: func(_ *scene, do func() error) error {
		return errors.Join(errInjected, do())
	}},
	{name: "the client hangs up", hit: func(s *scene, do func() error) error {
		s.hangUp()
		return do()
	}},
	{name: "death before", hit: func(s *scene, _ func() error) error {
		s.process.die()
		return errDead
	}},
	{name: "death after", writes: true, hit: func(s *scene, do func() error) error {
		_ = do()
		s.process.die()
		return errDead
	}},
	{name: "storage is down from here on", hit: func(s *scene, _ func() error) error {
		s.saboteur.breakStorage()
		return errInjected
	}},
	{name: "storage is down from here on, with this stored", writes: true, hit: func(s *scene, do func() error) error {
		_ = do()
		s.saboteur.breakStorage()
		return errInjected
	}},
}

// faultsAt names the faults that can hit at a point.
func (c *faultyCloud) faultsAt(point string) (names []string) {
	op, _, storage := strings.Cut(point, " ")
	if storage {
		for _, fault := range storageFaults {
			if !fault.writes || op == "put" || op == "delete" {
				names = append(names, fault.name)
			}
		}
		return names
	}
	for _, refusal := range c.refusals {
		names = append(names, refusal.name)
	}
	for _, fault := range cloudFaults {
		names = append(names, fault.name)
	}
	return names
}

// hitCloud lets the named fault happen to a call.
func (c *faultyCloud) hitCloud(fault string, call cloudCall) (*http.Response, error) {
	for _, refusal := range c.refusals {
		if refusal.name == fault {
			return refusal.answer(call.req), nil
		}
	}
	for _, known := range cloudFaults {
		if known.name == fault {
			return known.hit(call)
		}
	}
	call.scene.t.Errorf("there is no fault %q of a cloud", fault)
	return call.send.RoundTrip(call.req)
}

func hitStorage(fault string, s *scene, do func() error) error {
	for _, known := range storageFaults {
		if known.name == fault {
			return known.hit(s, do)
		}
	}
	s.t.Errorf("there is no fault %q of storage", fault)
	return do()
}
