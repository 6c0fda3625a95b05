// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	backoffBase = 500 * time.Millisecond
	backoffCap  = 8 * time.Second

	// patience is for how long a call is repeated whose caller has all the time in the world.
	patience = time.Minute

	// maxRetryAfter bounds what a server can ask for.
	maxRetryAfter = 24 * time.Hour
)

// Again is whether a call may be repeated after an answer, and how often.
type Again int

const (
	// Never is for what the cloud did, or may have done, and for what it will answer again. An
	// authentication failure is never repeated.
	Never Again = iota
	// AFewTimes is for failures after which a call may be repeated: MaxRetries times.
	AFewTimes
	// UntilTheEnd is for a call that came too fast, or found no connection. That is no failure: it is repeated for as long as
	// the caller waits.
	UntilTheEnd
)

// Retryable tells whether an answer means that the cloud did nothing and may be asked again.
type Retryable func(resp *http.Response) Again

// retrier repeats calls that the cloud certainly did not carry out: those
// that never reached it, and those whose answer says so. What a call's fate is
// unknown is left to the caller, since a repeated create makes a second key.
type retrier struct {
	next       http.RoundTripper
	retryable  Retryable
	pacer      *Pacer
	maxRetries int
}

// RoundTrip implements http.RoundTripper.
func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, &NotSentError{Err: fmt.Errorf("reading the request's body: %w", err)}
	}
	end := endOf(req.Context())
	var throttled *http.Response
	failures := 0
	for attempt := 0; ; attempt++ {
		resp, err := r.next.RoundTrip(withBody(req, body, attempt))
		again := r.decide(resp, err)
		if again == AFewTimes || again == UntilTheEnd && comesAgain(classOf(req.Context()), err) {
			failures++
		}
		growth := attempt
		if again == UntilTheEnd && err == nil && tooFast(resp) {
			growth = r.pacer.growth(attempt)
		}
		wait, isTime := nextTry(growth, resp, time.Until(end))
		switch {
		case again == Never && throttled != nil && onlyWaited(req.Context(), err):
			return throttled, nil // says more than that the time was up in the queue
		case again == Never, failures > r.maxRetries, !isTime, req.Context().Err() != nil:
			return resp, err
		}
		if err == nil {
			throttled = resp
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, &NotSentError{Err: fmt.Errorf("waiting to repeat a call that was not carried out: %w", err)}
		}
	}
}

// comesAgain tells that nobody waits for a call, and that it is made again by itself: periodic work at
// the next tick, and a revocation that found no connection by the server, which has six attempts. A
// server that is to end waits for each revocation that is under way.
func comesAgain(class Class, err error) bool {
	return class == ClassBackground || class == ClassRevoke && err != nil
}

// decide tells whether a call may be repeated. A name that does not exist may be a resolver's mistake, and is more often a wrong endpoint.
func (r *retrier) decide(resp *http.Response, err error) Again {
	var lookup *net.DNSError
	switch {
	case err == nil:
		return r.retryable(resp)
	case !isConnectionFailure(err):
		return Never
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return AFewTimes
	default:
		return UntilTheEnd
	}
}

// endOf is until when a call may be repeated.
func endOf(ctx context.Context) time.Time {
	end := time.Now().Add(patience)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		return deadline
	}
	return end
}

// nextTry is how long to wait before the next attempt; not at all where the server wants to be asked again after the
// caller's time is up, or none is left: the answer says more than "deadline exceeded", and says it now.
func nextTry(growth int, resp *http.Response, left time.Duration) (wait time.Duration, isTime bool) {
	wait = max(min(backoff(growth), left/2), retryAfter(resp))
	return wait, wait < left && left > backoffBase
}

// onlyWaited tells that an attempt was not sent since the caller's time was up before its turn came.
func onlyWaited(ctx context.Context, err error) bool {
	var notSent *NotSentError
	var held *BreakerOpenError
	return errors.As(err, &notSent) && !errors.As(err, &held) && !errors.Is(ctx.Err(), context.Canceled)
}

// withBody is an attempt of a request. What is repeated goes before the others of its flow.
func withBody(req *http.Request, body []byte, attempt int) *http.Request {
	ctx := req.Context()
	if attempt > 0 {
		ctx = WithAgain(ctx)
	}
	sent := req.WithContext(ctx)
	if body != nil {
		sent.Body = io.NopCloser(bytes.NewReader(body))
	}
	return sent
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// NoRedirect makes an http.Client return a redirect as it came: a signed request
// is never sent to another address.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// backoff is a random part of an exponentially growing span ("full jitter"),
// so that callers throttled together do not come back together.
func backoff(growth int) time.Duration {
	return rand.N(min(backoffCap, backoffBase<<min(growth, 10)))
}

// retryAfter reads the header in both of its forms, seconds and a date; 0 where there is none, or nonsense.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	said := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(said); err == nil {
		return sensible(float64(seconds))
	}
	at, err := http.ParseTime(said)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(resp.Header.Get("Date")) // by the clock that wrote it
	if err != nil {
		now = time.Now()
	}
	return sensible(at.Sub(now).Seconds())
}

func sensible(seconds float64) time.Duration {
	if seconds < 0 || seconds > maxRetryAfter.Seconds() {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// isConnectionFailure tells calls that found no connection, and may find one in
// a moment, from those that were held back or that nobody knows the fate of.
func isConnectionFailure(err error) bool {
	var notSent *NotSentError
	return errors.As(err, &notSent) && notSent.connects
}
