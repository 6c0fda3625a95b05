// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// samples is how many answers the skew is the median of: one that was long under way, or of a server whose
// clock is wrong, decides nothing.
const samples = 5

// Clock compares the cloud's clock with this machine's by the Date header of the cloud's own answers
// that come anyway. Its zero value is ready.
type Clock struct {
	mu   sync.Mutex
	seen []sample // the last ones, the newest last
}

// sample is the skew that one answer showed.
type sample struct {
	skew time.Duration
	at   time.Time // when it came
	wall time.Time // the same, by the clock that may be set
}

// Skew is how far the cloud's clock is ahead of this machine's, below zero where it is behind: the median of the
// last answers. known is false where there was none since this machine's clock was last set.
func (c *Clock) Skew() (skew time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.seen = slices.DeleteFunc(c.seen, func(s sample) bool { return stepped(now.Round(0).Sub(s.wall), now.Sub(s.at)) })
	if len(c.seen) == 0 {
		return 0, false
	}
	skews := make([]time.Duration, len(c.seen))
	for i, s := range c.seen {
		skews[i] = s.skew
	}
	slices.Sort(skews)
	return skews[(len(skews)-1)/2], true
}

// observe takes an answer that came between two moments of this machine's clock.
func (c *Clock) observe(header http.Header, sent, received time.Time) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, sample{skew: skewOf(date, sent, received), at: received, wall: received.Round(0)})
	c.seen = c.seen[max(0, len(c.seen)-samples):]
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

// timing tells the clock of answers that the cloud itself gave: a gateway's clock is not the one
// that the cloud judges dates by.
type timing struct {
	next  http.RoundTripper
	clock *Clock
	own   func(resp *http.Response) bool
}

// RoundTrip implements http.RoundTripper.
func (t *timing) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err == nil && t.own(resp) {
		t.clock.observe(resp.Header, sent, time.Now())
	}
	return resp, err
}
