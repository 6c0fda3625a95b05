// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	backoffBase = 500 * time.Millisecond
	backoffCap  = 8 * time.Second

	// maxRetryAfter bounds what a server can ask for.
	maxRetryAfter = 24 * time.Hour
)

// Retryable tells whether an answer means that the cloud did nothing and may be
// asked again. An authentication failure never is.
type Retryable func(resp *http.Response) bool

// newRetrier repeats calls that the cloud certainly did not carry out: those
// that never reached it, and those whose answer says so. What a call's fate is
// unknown is left to the caller, since a repeated create makes a second key.
func newRetrier(next http.RoundTripper, retryable Retryable, maxRetries int) http.RoundTripper {
	client := retryablehttp.NewClient()
	client.Logger = nil // it would log addresses at every attempt
	client.RetryMax = maxRetries
	client.Backoff = backoff
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler // the last answer, not "giving up after 4 attempts"
	client.HTTPClient = &http.Client{Transport: next, CheckRedirect: NoRedirect}
	client.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		repeats := ctx.Err() == nil && !comesTooLate(ctx, resp) && (isConnectionFailure(err) || err == nil && retryable(resp))
		if waits, ok := ctx.Value(waitsKey{}).(*bool); ok {
			*waits = repeats
		}
		return repeats, nil
	}
	return &retrier{next: &retryablehttp.RoundTripper{Client: client}}
}

// retrier tells a call that ended while it waited to be repeated, and has changed
// nothing, from one whose last attempt ended unanswered.
type retrier struct{ next http.RoundTripper }

type waitsKey struct{}

// RoundTrip implements http.RoundTripper.
func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	var waits bool // belongs to this call's goroutine
	resp, err := r.next.RoundTrip(req.WithContext(context.WithValue(req.Context(), waitsKey{}, &waits)))
	if err != nil && waits && req.Context().Err() != nil {
		return nil, &NotSentError{Err: fmt.Errorf("waiting to repeat a call that was not carried out: %w", err)}
	}
	return resp, err
}

// comesTooLate tells that the server wants to be asked again after the caller's
// time is up. Its answer says more than "deadline exceeded", and says it now.
func comesTooLate(ctx context.Context, resp *http.Response) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < retryAfter(resp)
}

// NoRedirect makes an http.Client return a redirect as it came: a signed request
// is never sent to another address.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// backoff waits a random part of an exponentially growing span ("full jitter"),
// so that callers throttled together do not come back together; never less than
// the server's Retry-After asks for.
func backoff(_, _ time.Duration, attempt int, resp *http.Response) time.Duration {
	span := min(backoffCap, backoffBase<<min(attempt, 10))
	return max(rand.N(span), retryAfter(resp))
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
