// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Verdict is what an answer says of the key that signed the call.
type Verdict int

const (
	// Accepted means that the cloud knew the key, whatever it answered.
	Accepted Verdict = iota
	// Refused means that it did not take the key.
	Refused
	// Unclear is a refusal that a good key gets as well (OUTSCALE's 4120).
	Unclear
	// Silent means that the answer says nothing of the key: a gateway's page, or
	// throttling that came before the key was looked at.
	Silent
)

// Judge reads an answer's verdict.
type Judge func(resp *http.Response) Verdict

const (
	// unclearPause is the least time before an unclear refusal is put to the test:
	// bursts of calls get 4120 too, and have ended by then.
	unclearPause = 2 * time.Second
	// refusedPause is OUTSCALE's first lockout. The pause doubles once.
	refusedPause = time.Minute
	// lastRefusal is the third in a row: a fourth would lock the account. The breaker
	// then stays open for heldPause, in which somebody should have given the account
	// another key, and with it another breaker.
	lastRefusal = 3
	heldPause   = 24 * time.Hour
)

// Breaker keeps calls with a refused key from the cloud: OUTSCALE locks an
// account's API for a minute after four refusals in a row, then for longer, for
// everybody who uses it. The first call goes alone, until the cloud has known the
// key. After a refusal no call is sent until a pause has passed, and then one
// alone; after three, none for a day. An unclear refusal is tried once more, alone
// and after a shorter pause, while the others wait for the result.
type Breaker struct {
	next  http.RoundTripper
	judge Judge

	mu       sync.Mutex // never held while waiting
	state    breakerState
	retryAt  time.Time
	probing  bool
	refusals int           // in a row
	changes  int           // counts changes of state, to tell stale good news
	changed  chan struct{} // closed at the next change of state
}

type breakerState int

const (
	unproven breakerState = iota // no call was answered yet
	suspect                      // after an unclear refusal
	closed
	open
)

// BreakerOpenError says that a call was held back.
type BreakerOpenError struct {
	Until time.Time // when one call is tried again
}

// Error implements error.
func (e *BreakerOpenError) Error() string {
	return fmt.Sprintf("the cloud refused the engine's access key; no call is sent before %s, so that the account does not get locked",
		e.Until.UTC().Format(time.RFC3339))
}

// errExpired is what recheck tells the breaker: ask for a new ticket.
var errExpired = errors.New("the key was refused while the call waited for its turn")

// NewBreaker returns a breaker before next that knows nothing of the key yet.
func NewBreaker(next http.RoundTripper, judge Judge) *Breaker {
	return &Breaker{next: next, judge: judge, changed: make(chan struct{})}
}

// RoundTrip implements http.RoundTripper.
func (b *Breaker) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, &NotSentError{Err: fmt.Errorf("reading the request's body: %w", err)}
	}
	for unclear := 0; ; {
		t, err := b.enter(req.Context())
		if err != nil {
			return nil, &NotSentError{Err: err}
		}
		resp, err := b.send(req, body, &t)
		if errors.Is(err, errExpired) {
			continue
		}
		if err != nil {
			b.abandon(t)
			return nil, err
		}
		verdict := b.judge(resp)
		b.leave(t, verdict)
		if verdict == Unclear {
			unclear++
		}
		if verdict != Unclear || unclear == 2 {
			return resp, nil
		}
	}
}

func (b *Breaker) send(req *http.Request, body []byte, t *ticket) (*http.Response, error) {
	sent := req.WithContext(context.WithValue(req.Context(), ticketKey{}, t))
	if body != nil {
		sent.Body = io.NopCloser(bytes.NewReader(body))
	}
	return b.next.RoundTrip(sent)
}

// ticket is the leave to send one call.
type ticket struct {
	changes int
	probe   bool
}

type ticketKey struct{}

// recheck looks at a call's ticket once more when its turn has come. Calls wait
// for their turn behind the breaker, and a refusal that comes meanwhile must stop
// them too: four of them would lock the account.
type recheck struct {
	next    http.RoundTripper
	breaker *Breaker
}

// RoundTrip implements http.RoundTripper.
func (r *recheck) RoundTrip(req *http.Request) (*http.Response, error) {
	if t, ok := req.Context().Value(ticketKey{}).(*ticket); ok && !r.breaker.renew(t) {
		return nil, errExpired
	}
	return r.next.RoundTrip(req)
}

// renew brings a ticket up to date, or tells that it has expired.
func (b *Breaker) renew(t *ticket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.changes != b.changes && b.state != closed {
		return false
	}
	t.changes = b.changes
	return true
}

// enter waits until a call may be sent, or fails at once where it may not.
func (b *Breaker) enter(ctx context.Context) (ticket, error) {
	for {
		t, pause, changed, err := b.gate()
		if err != nil || changed == nil {
			return t, err
		}
		select {
		case <-pause:
		case <-changed:
		case <-ctx.Done():
			return ticket{}, ctx.Err()
		}
	}
}

// gate decides: a ticket (changed is nil), a wait until the pause is over or changed is
// closed, or an error. While a probe is under way nothing but its verdict ends the wait.
func (b *Breaker) gate() (t ticket, pause <-chan time.Time, changed <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == closed {
		return ticket{changes: b.changes}, nil, nil, nil
	}
	early := time.Until(b.retryAt)
	if early <= 0 && !b.probing {
		b.probing = true
		return ticket{changes: b.changes, probe: true}, nil, nil, nil
	}
	if b.state == open {
		return ticket{}, nil, nil, &BreakerOpenError{Until: b.retryAt}
	}
	if !b.probing {
		pause = time.After(early)
	}
	return ticket{}, pause, b.changed, nil
}

// leave takes the verdict of a call that was answered.
func (b *Breaker) leave(t ticket, v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.changes != b.changes {
		b.count(v)
		return // older than the last change: old news
	}
	switch {
	case v == Silent && t.probe:
		b.become(b.state, b.retryAt) // the next call tries
	case v == Silent, v == Accepted && b.state == closed:
		return
	case v == Accepted:
		b.refusals = 0
		b.become(closed, time.Time{})
	case v == Unclear && b.state != suspect && b.state != open:
		b.refusals++
		b.become(suspect, time.Now().Add(unclearPause))
	default:
		b.refusals++
		pause := heldPause
		if b.refusals < lastRefusal {
			pause = refusedPause << (b.refusals - 1)
		}
		b.become(open, time.Now().Add(pause))
	}
}

// count takes a refusal that changes nothing else: the cloud counts it too. The lock is
// held.
func (b *Breaker) count(v Verdict) {
	if v != Refused && v != Unclear || b.state != suspect && b.state != open {
		return
	}
	if b.refusals++; b.refusals >= lastRefusal {
		b.become(open, time.Now().Add(heldPause))
	}
}

// abandon takes back the ticket of a call that got no answer.
func (b *Breaker) abandon(t ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.probe && t.changes == b.changes {
		b.become(b.state, b.retryAt)
	}
}

// become changes the state and wakes those who wait for it. The lock is held.
func (b *Breaker) become(s breakerState, retryAt time.Time) {
	b.state, b.retryAt, b.probing = s, retryAt, false
	b.changes++
	close(b.changed)
	b.changed = make(chan struct{})
}
