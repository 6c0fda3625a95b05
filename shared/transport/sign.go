// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Signer adds a signature to a request whose body is given.
type Signer func(req *http.Request, body []byte) error

// signing signs each attempt anew: a signature carries a date, and a retry that
// replayed the first one would be refused as stale.
type signing struct {
	next http.RoundTripper
	sign Signer
}

// RoundTrip implements http.RoundTripper.
func (s *signing) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, &NotSentError{Err: fmt.Errorf("reading the request's body: %w", err)}
	}
	signed := req.Clone(req.Context()) // a RoundTripper must not change its request
	// With GetBody, or without a body, net/http repeats a call by itself, below the breaker and the pacer. Over HTTP/2 it does so after
	// RST_STREAM with PROTOCOL_ERROR, whatever the method, what was done by then, and how often (net/http, http2canRetryError). So
	// there is no GetBody, and an empty body is not http.NoBody.
	signed.Body = io.NopCloser(bytes.NewReader(body))
	signed.GetBody = nil
	signed.ContentLength = int64(len(body))
	if err := s.sign(signed, body); err != nil {
		return nil, &NotSentError{Err: fmt.Errorf("signing the request: %w", err)}
	}
	return s.next.RoundTrip(signed)
}

// readBody returns the whole body and closes it.
func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	return body, errors.Join(err, req.Body.Close())
}
