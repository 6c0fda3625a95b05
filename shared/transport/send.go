// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxAnswer is the largest answer that is read, in bytes. A page of a hundred
// users is about 30 kB; what is larger than this is not an answer.
const maxAnswer = 4 << 20

// sender sends one attempt under its own time limit, and reads the answer whole:
// a connection that dies in the middle of a body is a failed attempt like any
// other, and the layers above can look at the body more than once.
type sender struct {
	next    http.RoundTripper
	timeout time.Duration
}

// RoundTrip implements http.RoundTripper.
func (s *sender) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, &NotSentError{Err: err}
	}
	ctx, cancel := context.WithTimeout(req.Context(), s.timeout)
	defer cancel()

	var connection sending
	resp, err := s.next.RoundTrip(req.WithContext(connection.watch(ctx)))
	if err != nil {
		return nil, connection.failure(err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", Unquoted(err))
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.Request = req // not every http.RoundTripper sets it, and Retryable needs it
	return resp, nil
}

// Unquoted takes out of an error of net/http what it repeats of an answer, which may hold a secret key.
// net/http quotes what it cannot read as HTTP ("malformed HTTP response ...", "malformed
// MIME header line: ...") and has no type for these errors; those that it has types for, and
// those of a context, quote nothing.
func Unquoted(err error) error {
	said, _, quotes := strings.Cut(err.Error(), `"`)
	if !quotes {
		return err
	}
	return fmt.Errorf("%s (the answer is not repeated, since it may hold a secret)", strings.TrimRight(said, ": "))
}
