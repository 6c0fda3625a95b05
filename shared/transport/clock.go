// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"net/http"
	"sync"
	"time"
)

// Clock compares the cloud's clock with this machine's by the Date header of the answers
// that come anyway. Its zero value is ready.
type Clock struct {
	mu    sync.Mutex
	skew  time.Duration
	known bool
}

// Skew is how far the cloud's clock is ahead of this machine's, as the last answer with a
// date showed; below zero where it is behind. known is false where there was none.
func (c *Clock) Skew() (skew time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.known
}

// observe takes an answer that came between two moments of this machine's clock.
func (c *Clock) observe(resp *http.Response, sent, received time.Time) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew, c.known = skewOf(date, sent, received), true
}

// skewOf is the smallest skew that explains a date. The header has whole seconds, and was
// written at some moment between sending and receiving: what lies within is no skew.
func skewOf(date, sent, received time.Time) time.Duration {
	if ahead := date.Sub(received); ahead > 0 {
		return ahead
	}
	if behind := date.Add(time.Second).Sub(sent); behind < 0 {
		return behind
	}
	return 0
}

// ClocksApart tells whether the Date header of a cloud's own answer is so far from this machine's time that no signature is
// taken. now is when the answer came.
func ClocksApart(header http.Header, now time.Time) bool {
	date, err := http.ParseTime(header.Get("Date"))
	return err == nil && date.Sub(now).Abs() > MaxSkew-time.Second
}
