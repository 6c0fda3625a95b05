// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestACallIsRepeatedOnlyWhereTheCloudSurelyDidNothing(t *testing.T) {
	refusedDial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	noSuchHost := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "cloud.test"}}
	reset := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	badCertificate := &net.OpError{Op: "dial", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}

	cases := map[string]struct {
		first   outcome
		repeats bool
		notSent bool
	}{
		"too many requests":                      {first: status(429), repeats: true},
		"service unavailable":                    {first: status(503), repeats: true},
		"a refused connection":                   {first: outcome{err: refusedDial}, repeats: true},
		"a name that is not found":               {first: outcome{err: noSuchHost}, repeats: true},
		"a success":                              {first: status(200)},
		"a refused key":                          {first: status(401)},
		"a missing permission":                   {first: status(403)},
		"an internal error":                      {first: status(500)},
		"a bad gateway":                          {first: status(502)},
		"a gateway's timeout":                    {first: status(504)},
		"a redirect":                             {first: outcome{status: 307, header: http.Header{"Location": {"https://elsewhere.test/"}}}},
		"a connection reset after the request":   {first: outcome{err: reset}},
		"a connection closed without an answer":  {first: outcome{err: io.ErrUnexpectedEOF}},
		"a timeout":                              {first: outcome{err: context.DeadlineExceeded}},
		"a certificate that cannot be trusted":   {first: outcome{err: badCertificate}, notSent: true},
		"something else than TLS at the address": {first: outcome{err: tls.RecordHeaderError{Conn: &net.TCPConn{}}}, notSent: true},
		"a broken TLS record after the request":  {first: outcome{err: tls.RecordHeaderError{}}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := plays(test.first, status(200))
				got, err := call(t, t.Context(), chainTo(cloud))
				want, attempts := test.first.status, 1
				if test.repeats {
					want, attempts = 200, 2
				}
				if got != want || (err != nil) != (want == 0) {
					t.Errorf("got status %d and error %v, want status %d", got, err, want)
				}
				if cloud.count() != attempts {
					t.Errorf("got %d attempts, want %d", cloud.count(), attempts)
				}
				var notSent *NotSentError
				if errors.As(err, &notSent) != test.notSent {
					t.Errorf("error %v: is a NotSentError: %v, want %v", err, !test.notSent, test.notSent)
				}
			})
		})
	}
}

func TestTheLastAnswerIsReturnedWhenTheRetriesAreSpent(t *testing.T) {
	for _, retries := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) {
			cloud := plays(status(503))
			mustAnswer(t, chainTo(cloud, func(o *Options) { o.MaxRetries = retries }), 503)
			if cloud.count() != retries+1 {
				t.Errorf("got %d attempts with %d retries", cloud.count(), retries)
			}
		})
	}
}

func TestALastFailureToConnectStaysWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(outcome{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}})
		_, err := call(t, t.Context(), chainTo(cloud))
		var notSent *NotSentError
		if !errors.As(err, &notSent) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want a NotSentError of the refused connection", err)
		}
		if strings.Contains(err.Error(), "giving up") || cloud.count() < 10 {
			t.Errorf("got %q after %d attempts", err, cloud.count())
		}
	})
}

func TestWhatIsNoFailureIsRepeatedUntilTheTimeIsUp(t *testing.T) {
	refused := outcome{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	cases := map[string]struct {
		first  outcome
		budget time.Duration // 0: the caller has all the time in the world
	}{
		"throttling":                                {status(429), 45 * time.Second},
		"throttling, in a tick of the engine's":     {status(429), 10 * time.Second},
		"throttling, where nobody waits":            {status(429), 0},
		"a connection that is refused":              {refused, 45 * time.Second},
		"a connection that is refused, no deadline": {refused, 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			budget := cmp.Or(test.budget, patience)
			context := func(t *testing.T) context.Context {
				if test.budget == 0 {
					return t.Context()
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.budget)
				t.Cleanup(cancel)
				return ctx
			}
			synctest.Test(t, func(t *testing.T) { // it ends shortly before
				start, recovers := time.Now(), 0.8*budget.Seconds()
				cloud := &script{play: func(int, *http.Request) (*http.Response, error) {
					if time.Since(start).Seconds() > recovers {
						return answer(200), nil
					}
					return plays(test.first).play(0, nil)
				}}
				got, err := call(t, context(t), chainTo(cloud, func(o *Options) { o.MaxRetries = 0 }))
				if got != 200 || err != nil {
					t.Errorf("got %d and error %v after %s and %d attempts", got, err, time.Since(start), cloud.count())
				}
			})
			synctest.Test(t, func(t *testing.T) { // it does not end
				start := time.Now()
				got, err := call(t, context(t), chainTo(plays(test.first), func(o *Options) { o.MaxRetries = 0 }))
				most := budget
				if test.budget == 0 { // no deadline ends the last attempt, whose turn the throttled pace may put off
					most += 2 * time.Second
				}
				if took := time.Since(start); took < budget-2*time.Second || took > most {
					t.Errorf("given up after %s", took)
				}
				if got != test.first.status || (err == nil) != (got == 429) {
					t.Errorf("got %d and error %v, want the last answer", got, err)
				}
			})
		})
	}
}

func TestPeriodicWorkLeavesWhatIsThrottledToTheNextTick(t *testing.T) {
	for _, first := range []outcome{status(429), {err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}} {
		synctest.Test(t, func(t *testing.T) {
			cloud := plays(first)
			got, err := call(t, WithClass(t.Context(), ClassBackground), chainTo(cloud))
			if got != first.status || (err == nil) != (got == 429) || cloud.count() != 4 {
				t.Errorf("got %d and error %v after %d attempts", got, err, cloud.count())
			}
		})
	}
}

func TestARevocationWithoutAConnectionIsLeftToTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(outcome{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}})
		if got, err := call(t, WithClass(t.Context(), ClassRevoke), chainTo(cloud)); err == nil || cloud.count() != 4 {
			t.Errorf("no connection: got %d and error %v after %d attempts", got, err, cloud.count())
		}
		throttled := plays(status(429))
		if _, err := call(t, WithClass(t.Context(), ClassRevoke), chainTo(throttled)); err != nil || throttled.count() < 10 {
			t.Errorf("throttled: error %v after %d attempts", err, throttled.count())
		}
	})
}

func TestACallThatWaitsForItsTurnAfterItWasThrottledEndsAsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p := NewPacer(0.05) // one call in 20 s
		got, err := call(t, ctx, chainTo(plays(status(429)), func(o *Options) { o.Pacer = p }))
		if got != 429 || err != nil {
			t.Errorf("got %d and error %v", got, err)
		}
	})
}

func TestANameThatIsNotFoundIsMoreOftenAWrongEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(outcome{err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "cloud.test", IsNotFound: true}}})
		_, err := call(t, t.Context(), chainTo(cloud))
		if err == nil || cloud.count() != 4 {
			t.Errorf("got %v after %d attempts, want four", err, cloud.count())
		}
	})
}

func TestRetryAfterIsTheLeastTimeToWait(t *testing.T) {
	cases := map[string]struct {
		header string
		least  time.Duration
		most   time.Duration
	}{
		"seconds":                 {"7", 7 * time.Second, 7 * time.Second},
		"none":                    {"", 0, backoffBase},
		"negative":                {"-7", 0, backoffBase},
		"no number":               {"soon", 0, backoffBase},
		"more than there is time": {"9223372036854775807", 0, backoffBase},
		"a date":                  {time.Date(2000, 1, 1, 0, 0, 9, 0, time.UTC).Format(http.TimeFormat), 9 * time.Second, 9 * time.Second},
		"a date that has passed":  {"Fri, 31 Dec 1999 23:59:59 GMT", 0, backoffBase},
		"a date in a century":     {"Fri, 31 Dec 2099 23:59:59 GMT", 0, backoffBase},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := plays(outcome{status: 429, header: retryAfterHeader(test.header)}, status(200))
				start := time.Now()
				mustAnswer(t, chainTo(cloud), 200)
				if waited := time.Since(start); waited < test.least || waited > test.most {
					t.Errorf("waited %s, want %s to %s", waited, test.least, test.most)
				}
			})
		})
	}
}

func TestAnAnswerThatAsksForMoreTimeThanThereIsComesBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cloud := plays(outcome{status: 429, header: retryAfterHeader("3600")})
		start := time.Now()
		got, err := call(t, ctx, chainTo(cloud))
		if got != 429 || err != nil || time.Since(start) != 0 {
			t.Errorf("got %d and error %v after %s, want the 429 at once", got, err, time.Since(start))
		}
	})
}

func TestTheContextEndsTheWaitForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		cloud := plays(outcome{status: 429, header: retryAfterHeader("30")})
		start := time.Now()
		_, err := call(t, ctx, chainTo(cloud))
		if time.Since(start) != 3*time.Second {
			t.Errorf("returned after %s, want 3s", time.Since(start))
		}
		var notSent *NotSentError
		if !errors.As(err, &notSent) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v: a call that was only turned away has changed nothing", err)
		}
	})
}

func TestACallThatEndsUnansweredAfterATurnedAwayOneMayHaveBeenCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		cloud := &script{play: func(n int, r *http.Request) (*http.Response, error) {
			if n == 0 {
				return answer(429), nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}}
		_, err := call(t, ctx, chainTo(cloud))
		var notSent *NotSentError
		if errors.As(err, &notSent) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline that says nothing of the call's fate", err)
		}
	})
}

func TestBackoffIsFullyJittered(t *testing.T) {
	for n := range 70 {
		span := backoffCap
		if n < 4 {
			span = backoffBase << n
		}
		lowest, highest := span, time.Duration(0)
		for range 300 {
			d := backoff(n)
			lowest, highest = min(lowest, d), max(highest, d)
		}
		if highest >= span {
			t.Errorf("retry %d: waits %s, want less than %s", n, highest, span)
		}
		if lowest > span/4 || highest < 3*span/4 {
			t.Errorf("retry %d: waits between %s and %s, want the whole of 0 to %s", n, lowest, highest, span)
		}
	}
}

func TestEachAttemptIsSignedAnewAndHasTheWholeBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := plays(status(429), status(503), status(429), status(200))
		mustAnswer(t, chainTo(cloud), 200)
		seen := map[string]bool{}
		for _, a := range cloud.attempts {
			if a.body != `{"whole":"body"}` {
				t.Errorf("an attempt has the body %q", a.body)
			}
			if want := a.body + " at " + a.at.Format(time.StampNano); a.signature != want {
				t.Errorf("an attempt is signed %q, want %q", a.signature, want)
			}
			seen[a.signature] = true
		}
		if len(seen) != 4 {
			t.Errorf("got %d signatures in 4 attempts", len(seen))
		}
	})
}

func TestACallThatCannotBeSignedIsNotSent(t *testing.T) {
	cloud := plays(status(200))
	_, err := call(t, t.Context(), chainTo(cloud, func(o *Options) {
		o.Sign = func(*http.Request, []byte) error { return errors.New("no key") }
	}))
	var notSent *NotSentError
	if !errors.As(err, &notSent) || err.Error() != "signing the request: no key" || cloud.count() != 0 {
		t.Errorf("got %v and %d attempts", err, cloud.count())
	}
}

type unreadableBody struct{}

func (unreadableBody) Read([]byte) (int, error) { return 0, errors.New("torn") }
func (unreadableBody) Close() error             { return nil }

func TestACallWhoseBodyCannotBeReadIsNotSent(t *testing.T) {
	cloud := plays(status(200))
	layers := map[string]http.RoundTripper{
		"breaker": guarded(cloud),
		"signing": &signing{next: cloud, sign: func(*http.Request, []byte) error { return nil }},
	}
	for name, layer := range layers {
		req := newRequest(t, t.Context(), "https://cloud.test/")
		req.Body = unreadableBody{}
		_, err := layer.RoundTrip(req)
		var notSent *NotSentError
		if !errors.As(err, &notSent) || !strings.Contains(err.Error(), "torn") || cloud.count() != 0 {
			t.Errorf("%s: got %v and %d attempts", name, err, cloud.count())
		}
	}
}

func TestACallWithoutABodyIsSent(t *testing.T) {
	req := newRequest(t, t.Context(), "https://cloud.test/")
	req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	resp, err := chainTo(plays(status(200))).RoundTrip(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v", err)
	}
	if body := Peek(resp); string(body) != "answer 200" || string(Peek(resp)) != "answer 200" {
		t.Errorf("peeked %q", body)
	}
}

func TestOverARealConnection(t *testing.T) {
	t.Run("a redirect is returned and not followed", func(t *testing.T) {
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Error("the request was sent to another address")
		}))
		defer elsewhere.Close()
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusPermanentRedirect))
		defer server.Close()
		resp, err := chainTo(base(t, TLS{})).RoundTrip(newRequest(t, t.Context(), server.URL))
		if err != nil || resp.StatusCode != http.StatusPermanentRedirect {
			t.Fatalf("got %v and error %v", resp, err)
		}
	})
	t.Run("a refused connection is known not to have been sent", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := chainTo(base(t, TLS{}), func(o *Options) { o.MaxRetries = 0 }).RoundTrip(newRequest(t, ctx, server.URL))
		var notSent *NotSentError
		if !errors.As(err, &notSent) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a connection closed without an answer leaves the call's fate open", func(t *testing.T) {
		var calls atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			calls.Add(1)
			panic(http.ErrAbortHandler)
		}))
		defer server.Close()
		_, err := chainTo(base(t, TLS{})).RoundTrip(newRequest(t, t.Context(), server.URL))
		var notSent *NotSentError
		if err == nil || errors.As(err, &notSent) || calls.Load() != 1 {
			t.Errorf("got %v after %d calls", err, calls.Load())
		}
	})
}
