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

	// Slots bound how many calls may be under way at once, those of other clients with the same key included; nil: any number.
	// A key that dies is refused once for each.
	Slots Slots
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
	if o.Slots != nil {
		chain = &inFlight{next: chain, slots: o.Slots}
	}
	chain = &guard{Breaker: breaker, next: &pacing{next: chain, pacer: o.Pacer}, verdictOf: o.Judge}
	return &retrier{next: chain, retryable: o.Retryable, pacer: o.Pacer, maxRetries: o.MaxRetries}
}

// Slots are the calls that may be under way at once.
type Slots chan struct{}

// NewSlots returns the slots for a pace, in calls a second. A key that somebody deletes is refused
// once for each call under way, and clouds lock an account (OUTSCALE, at four refusals in a row) or
// a key (Huawei Cloud, above five, APIGW.0301): two, and the one that is tried again, do not. An account
// whose pace was raised gets what it takes to keep that pace with answers that take 0.4 s.
func NewSlots(perSecond float64) Slots {
	return make(Slots, max(2, int(perSecond*0.4)))
}

// After returns the slots of a client before, where there are as many: its calls may still be under way.
func (s Slots) After(before Slots) Slots {
	if cap(before) == cap(s) {
		return before
	}
	return s
}

// inFlight bounds how many calls are under way at once.
type inFlight struct {
	next  http.RoundTripper
	slots Slots
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
