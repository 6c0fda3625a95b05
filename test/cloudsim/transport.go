// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// FaultHeader marks an answer that a fault has distorted; its value is the fault's kind.
const FaultHeader = "X-Cloudsim-Fault"

const maxBody = 1 << 20

// header is what goes with an answer. The gateway's clock is the cloud's.
func (c *Cloud) header(a *answer) http.Header {
	c.mu.Lock()
	date := c.now()
	c.mu.Unlock()
	h := http.Header{}
	h.Set("Date", date.UTC().Format(http.TimeFormat))
	h.Set("Content-Type", "application/json")
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	if a.requestID != "" {
		h.Set("X-Request-Id", a.requestID)
	}
	if a.distorted != "" {
		h.Set(FaultHeader, string(a.distorted))
	}
	return h
}

// ServeHTTP serves POST /api/v1/<Operation> and POST / (EIM) for OUTSCALE, and the paths of Huawei's IAM; everything else is 404.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the request's body cannot be read", http.StatusBadRequest)
		return
	}
	a, err := c.respond(r.Context(), r, body)
	if err != nil || a.cut {
		cutConnection(w)
		return
	}
	for name, values := range c.header(a) {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a client that has gone is its own affair
}

// cutConnection closes the connection without a word. A writer without connection, such as a recorder, gets a 502.
func cutConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = conn.Close()
}

// Transport returns a RoundTripper that reaches the same cloud without sockets, whatever the host, so that it works in a
// synctest bubble. A cut connection is io.ErrUnexpectedEOF; a request's context ends a fault's delay.
func (c *Cloud) Transport() http.RoundTripper { return inMemory{c} }

type inMemory struct{ cloud *Cloud }

// RoundTrip implements http.RoundTripper.
func (t inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	a, err := t.cloud.respond(r.Context(), received(r, body), body)
	switch {
	case err != nil:
		return nil, err
	case a.refusedDial:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case a.cut:
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        t.cloud.header(a),
		Body:          io.NopCloser(bytes.NewReader(a.body)),
		ContentLength: int64(len(a.body)),
		Request:       r,
	}, nil
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// received makes of a client's request what a server would see: the host beside the headers, the length of the body.
func received(r *http.Request, body []byte) *http.Request {
	seen := r.Clone(r.Context())
	seen.Header.Del("Host")
	if seen.Host == "" {
		seen.Host = seen.URL.Host
	}
	seen.ContentLength = int64(len(body))
	return seen
}
