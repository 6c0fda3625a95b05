// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package transport carries calls to a cloud: it retries, breaks on refused
// keys, paces, signs and bounds every attempt. Each concern is one
// http.RoundTripper; New puts them in their order. The package knows no cloud:
// what an answer means is the business of the Options' functions.
package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Options configures New.
type Options struct {
	Base       http.RoundTripper // sends; see Base
	Sign       Signer
	Judge      Judge
	Retryable  Retryable
	Pacer      *Pacer
	Timeout    time.Duration // of one attempt, the answer's body included
	MaxRetries int           // attempts after the first, where they failed; throttled ones do not count

	// Breaker remembers what the cloud has said of the key, for other clients too; nil: for this one alone.
	Breaker *Breaker

	// Clock is told of the cloud's clock; nil: nobody wants to know.
	Clock *Clock
	// Own tells an answer that the cloud itself gave from a gateway's.
	Own func(resp *http.Response) bool

	// Observe is told how each attempt ended that was sent, or was to be; nil: nobody wants to know.
	Observe func(resp *http.Response, err error)

	// MaxInFlight is how many calls may be under way at once; 0: any number. A key that
	// dies is refused once for each.
	MaxInFlight int
}

// New returns the chain that every call takes, outermost first:
//
//	retry → breaker → pace → calls in flight → breaker again → tell the pace → sign → send
//
// Each attempt waits for its own turn and is signed with its own date; an
// attempt that the breaker holds back never reaches the cloud.
func New(o Options) http.RoundTripper {
	var chain http.RoundTripper = &sender{next: o.Base, timeout: o.Timeout}
	if o.Clock != nil {
		chain = &timing{next: chain, clock: o.Clock, own: o.Own}
	}
	if o.Observe != nil {
		chain = &observer{next: chain, observe: o.Observe}
	}
	chain = &signing{next: chain, sign: o.Sign}
	chain = &heeding{next: chain, pacer: o.Pacer}
	breaker := o.Breaker
	if breaker == nil {
		breaker = NewBreaker()
	}
	chain = &recheck{next: chain, breaker: breaker}
	if o.MaxInFlight > 0 {
		chain = &inFlight{next: chain, slots: make(chan struct{}, o.MaxInFlight)}
	}
	chain = &guard{Breaker: breaker, next: &pacing{next: chain, pacer: o.Pacer}, verdictOf: o.Judge}
	return &retrier{next: chain, retryable: o.Retryable, pacer: o.Pacer, maxRetries: o.MaxRetries}
}

// InFlightAt is a MaxInFlight for a pace, in calls a second. A key that somebody deletes is refused
// once for each call under way, and clouds lock an account (OUTSCALE, at four refusals in a row) or
// a key (Huawei Cloud, above five, APIGW.0301): two, and the one that is tried again, do not. An account
// whose pace was raised gets what it takes to keep that pace with answers that take 0.4 s.
func InFlightAt(perSecond float64) int {
	return max(2, int(perSecond*0.4))
}

// inFlight bounds how many calls are under way at once.
type inFlight struct {
	next  http.RoundTripper
	slots chan struct{}
}

// RoundTrip implements http.RoundTripper.
func (f *inFlight) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
		return f.next.RoundTrip(req)
	case <-req.Context().Done():
		return nil, &NotSentError{Err: req.Context().Err()}
	}
}

// observer tells how each attempt ended. What the caller has given up says nothing of the cloud.
type observer struct {
	next    http.RoundTripper
	observe func(resp *http.Response, err error)
}

// RoundTrip implements http.RoundTripper.
func (o *observer) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(req)
	if err == nil || !errors.Is(req.Context().Err(), context.Canceled) {
		o.observe(resp, err)
	}
	return resp, err
}

// Peek returns the body of an answer that came through New, and leaves it to be
// read again.
func Peek(resp *http.Response) []byte {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil // cannot be: sender has read the body into memory
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return body
}
