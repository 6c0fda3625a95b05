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
	"sync"
	"testing"
	"time"
)

// attempt is one request as it arrived.
type attempt struct {
	at        time.Time
	body      string
	signature string
}

// script is a cloud that plays prepared outcomes.
type script struct {
	play func(n int, r *http.Request) (*http.Response, error) // n counts from 0

	mu       sync.Mutex
	attempts []attempt
}

// RoundTrip implements http.RoundTripper.
func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	n := len(s.attempts)
	s.attempts = append(s.attempts, attempt{time.Now(), string(body), r.Header.Get("Authorization")})
	s.mu.Unlock()
	return s.play(n, r)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.attempts)
}

// outcome is what one attempt ends with: a status, or an error.
type outcome struct {
	status int
	err    error
	header http.Header
}

// plays returns a script of the outcomes; the last one repeats.
func plays(outcomes ...outcome) *script {
	return &script{play: func(n int, _ *http.Request) (*http.Response, error) {
		o := outcomes[min(n, len(outcomes)-1)]
		if o.err != nil {
			return nil, o.err
		}
		resp := answer(o.status)
		for name, values := range o.header {
			resp.Header[name] = values
		}
		return resp, nil
	}}
}

func status(code int) outcome { return outcome{status: code} }

func retryAfterHeader(value string) http.Header { return http.Header{"Retry-After": {value}} }

// answer is a response whose body names its status.
func answer(code int) *http.Response {
	body := fmt.Sprintf("answer %d", code)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// The tests' cloud says 401 to a refused key, 400 to an unclear one, 423 where the API is locked (for as long as Retry-After
// says), 425 to a request whose time is wrong, and 502 where a gateway speaks in its place.
func judgeStatus(resp *http.Response) (Verdict, time.Duration) {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return Refused, 0
	case http.StatusBadRequest:
		return Unclear, 0
	case http.StatusLocked:
		return Locked, retryAfter(resp)
	case http.StatusTooEarly:
		return WrongTime, retryAfter(resp)
	case http.StatusBadGateway:
		return Silent, 0
	default:
		return Accepted, 0
	}
}

// guarded is a breaker of its own before next.
func guarded(next http.RoundTripper) *guard {
	return &guard{Breaker: NewBreaker(), next: next, verdictOf: judgeStatus}
}

// It throttles with 429, and a gateway before it is overloaded with 503.
func retryStatus(resp *http.Response) Again {
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return UntilTheEnd
	case http.StatusServiceUnavailable:
		return AFewTimes
	default:
		return Never
	}
}

// chainTo returns the whole chain before base, fast enough to be out of the way.
func chainTo(base http.RoundTripper, change ...func(*Options)) http.RoundTripper {
	o := Options{
		Base: base,
		Sign: func(req *http.Request, body []byte) error {
			req.Header.Set("Authorization", fmt.Sprintf("%s at %s", body, time.Now().Format(time.StampNano)))
			return nil
		},
		Judge: judgeStatus, Retryable: retryStatus, Pacer: NewPacer(1e6), Timeout: 15 * time.Second, MaxRetries: 3,
	}
	for _, c := range change {
		c(&o)
	}
	return New(o)
}

func newRequest(t *testing.T, ctx context.Context, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(`{"whole":"body"}`)))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// call sends one request and reads the answer: its status, or the error.
func call(t *testing.T, ctx context.Context, rt http.RoundTripper) (int, error) {
	t.Helper()
	resp, err := rt.RoundTrip(newRequest(t, ctx, "https://cloud.test/api/v1/CreateAccessKey"))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	if want := fmt.Sprintf("answer %d", resp.StatusCode); string(body) != want {
		t.Fatalf("the answer's body is %q, want %q", body, want)
	}
	return resp.StatusCode, nil
}

func mustAnswer(t *testing.T, rt http.RoundTripper, want int) {
	t.Helper()
	got, err := call(t, t.Context(), rt)
	if err != nil || got != want {
		t.Fatalf("got status %d and error %v, want %d", got, err, want)
	}
}

// pass lets time go by; in a synctest bubble that takes none.
func pass(d time.Duration) { <-time.After(d) }
