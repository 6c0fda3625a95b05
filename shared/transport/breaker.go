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

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// Breaker keeps calls with a refused key from the cloud: OUTSCALE locks an account's API for a
// minute after four refusals in a row, then for longer, for everybody who uses it. The first call
// goes alone, until the cloud has known the key. After a refusal no call is sent until a pause has
// passed, and then one alone. An unclear refusal is tried once more, alone and after a shorter pause,
// while the others wait for the result. How long the pauses are is pauseAfter's business.
//
// A breaker belongs to a key at an endpoint. It outlives the client where several clients share it.
type Breaker struct {
	mu       sync.Mutex // never held while waiting
	state    breakerState
	why      Verdict   // of the last refusal
	refusals int       // of the key, in a row
	since    time.Time // of the first of them
	at       time.Time // of the last refusal
	wall     time.Time // the same, by the clock that may be set
	retryAt  time.Time
	ends     time.Time // of the key, by the cloud's clock; zero: never
	clock    *Clock    // tells that clock from this machine's
	probing  bool
	changes  int           // counts changes of state, to tell stale good news
	changed  chan struct{} // closed at the next change of state
	onHold   func()        // told of changes; nil: nobody wants to know
}

type breakerState int

const (
	unproven breakerState = iota // no call was answered yet
	suspect                      // after an unclear refusal
	closed
	open
)

// errExpired is what recheck tells the breaker: ask for a new ticket.
var errExpired = errors.New("the key was refused while the call waited for its turn")

// NewBreaker returns a breaker that knows nothing of its key yet.
func NewBreaker() *Breaker { return &Breaker{changed: make(chan struct{})} }

// guard sends a client's calls as far as the breaker of its key lets it.
type guard struct {
	*Breaker
	next      http.RoundTripper
	verdictOf Judge
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, &NotSentError{Err: fmt.Errorf("reading the request's body: %w", err)}
	}
	for unclear := 0; ; {
		wanted := unclear == 0 && req.Context().Value(nowKey{}) != nil
		t, err := g.enter(req.Context(), wanted)
		if err != nil {
			return nil, &NotSentError{Err: err}
		}
		resp, verdict, err := g.attempt(req, body, t)
		if errors.Is(err, errExpired) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if verdict == Unclear {
			unclear++
		}
		if verdict != Unclear || unclear == 2 {
			return resp, nil
		}
	}
}

// attempt sends one call, and gives its ticket back whatever becomes of it: were a probe's lost
// in a panic, every other call would wait for ever.
func (g *guard) attempt(req *http.Request, body []byte, t ticket) (resp *http.Response, verdict Verdict, err error) {
	answered := false
	defer func() {
		if !answered {
			g.abandon(t)
		}
	}()
	if resp, err = g.send(req, body, &t); err != nil {
		return nil, Silent, err
	}
	verdict, again := g.verdictOf(resp)
	g.leave(t, verdict, again)
	answered = true
	return resp, verdict, nil
}

func (g *guard) send(req *http.Request, body []byte, t *ticket) (*http.Response, error) {
	sent := req.WithContext(context.WithValue(req.Context(), ticketKey{}, t))
	if body != nil {
		sent.Body = io.NopCloser(bytes.NewReader(body))
	}
	return g.next.RoundTrip(sent)
}

type nowKey struct{}

// WithNow marks calls that somebody wants tried now, though their key is held back: one try before its time, unless that would be the
// fourth refusal in half an hour, or comes within a quarter of an hour of the last one of so many.
func WithNow(ctx context.Context) context.Context { return context.WithValue(ctx, nowKey{}, true) }

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

// enter waits until a call may be sent, or fails at once where it may not. wanted tells that somebody wants it tried before its time.
func (b *Breaker) enter(ctx context.Context, wanted bool) (ticket, error) {
	for {
		t, pause, changed, err := b.gate(wanted)
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
func (b *Breaker) gate(wanted bool) (t ticket, pause <-chan time.Time, changed <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == closed {
		return ticket{changes: b.changes}, nil, nil, nil
	}
	now := time.Now()
	early := b.retryAt.Sub(now)
	wanted = wanted && !now.Before(b.wantedFrom())
	// A clock that was set is put right: that a dead key may be tried for the fourth time then is the lesser harm.
	clockSet := b.why == WrongTime && stepped(now.Round(0).Sub(b.wall), now.Sub(b.at))
	if !b.probing && (early <= 0 || wanted || clockSet) {
		b.probing = true
		return ticket{changes: b.changes, probe: true}, nil, nil, nil
	}
	if b.state == open {
		return ticket{}, nil, nil, &BreakerOpenError{Why: b.why, Since: b.since, Until: b.retryAt}
	}
	if !b.probing {
		pause = time.After(early)
	}
	return ticket{}, pause, b.changed, nil
}

// wantedFrom is from when on one call may be tried because somebody wants that. The lock is held.
func (b *Breaker) wantedFrom() time.Time {
	from := earliestTry(b.refusals, b.since)
	if again := b.at.Add(secondPause); b.refusals >= lockingRefusal-1 && again.After(from) {
		return again
	}
	return from
}

// leave takes the verdict of a call that was answered.
func (b *Breaker) leave(t ticket, v Verdict, again time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.changes != b.changes: // sent before the last change: old news
		b.count(v, again)
	case v == Silent && t.probe:
		b.become(b.state, b.retryAt) // the next call tries
	case v == Silent, v == Accepted && b.state == closed:
	case v == Accepted:
		b.why, b.refusals, b.since = Accepted, 0, time.Time{}
		b.become(closed, time.Time{})
	default:
		b.refuse(v, again)
	}
}

// refuse holds calls back after a refusal. The lock is held.
func (b *Breaker) refuse(v Verdict, again time.Duration) {
	b.why, b.at = v, time.Now()
	b.wall = b.at.Round(0)
	if v.counts(again) {
		b.oneMore(b.at)
	}
	next := b.beforeEnd(b.at.Add(pauseAfter(v, again, b.refusals, b.lasted())))
	if v == Unclear && b.refusals == 1 {
		b.become(suspect, next)
	} else {
		b.become(open, next)
	}
}

// lastTry is how long before its end a refused key is tried once more. A tick, and the rotation that it begins, take no longer.
const lastTry = lifetime.RotationLead

// EndsAt tells when the cloud ends the key, by the cloud's clock. A mistake of the cloud's that is over by then must not outlast
// it: a key that has ended cannot replace itself.
func (b *Breaker) EndsAt(end time.Time, clock *Clock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends, b.clock = end.Round(0), clock
}

// beforeEnd puts a try that would come too late before the end of the key. A fourth locks the account, so none is made for that in the
// first half hour: where the key ends by then, the third is the last, and waits, but no longer than it ever does. The lock is held.
func (b *Breaker) beforeEnd(next time.Time) time.Time {
	if b.ends.IsZero() {
		return next
	}
	now := time.Now()
	skew, _ := b.clock.Skew() // the refusal has shown it, at the latest
	last := steady(b.ends, now).Add(-skew - lastTry)
	if !now.Add(firstPause).Before(last) {
		return next
	}
	soon := b.refusals > 0 && last.Before(b.since.Add(unlockedTime))
	third := b.at.Add(secondPause)
	switch {
	case soon && b.refusals >= lockingRefusal-1:
		return next
	case soon && b.refusals == lockingRefusal-2 && next.Before(third):
		next = third
	}
	if next.After(last) {
		return last
	}
	return next
}

// count takes the refusal of a call that was under way with the one that was refused: the cloud
// counts it too. A call that is being tried meanwhile decides. The lock is held.
func (b *Breaker) count(v Verdict, again time.Duration) {
	if !v.counts(again) || b.state != suspect && b.state != open {
		return
	}
	b.oneMore(time.Now())
	if b.why == Locked || b.why == WrongTime { // which is no news of the key, and this is
		b.why = v
	}
	if b.probing || b.state == suspect && b.refusals < lockingRefusal-1 {
		return
	}
	if next := b.beforeEnd(time.Now().Add(pauseAfter(Refused, 0, b.refusals, b.lasted()))); next.After(b.retryAt) {
		b.become(open, next)
	}
}

// oneMore counts a refusal that the cloud counts. Whoever stores the hold hears of it, whatever the pause: a process that knew of one
// less would make the fourth. The lock is held.
func (b *Breaker) oneMore(now time.Time) {
	b.refusals++
	if b.since.IsZero() { // another's lock, or a wrong clock, may have held the calls before
		b.since = now
	}
	if b.onHold != nil {
		b.onHold()
	}
}

// lasted is for how long the key has been refused. The lock is held.
func (b *Breaker) lasted() time.Duration {
	if b.refusals == 0 {
		return 0
	}
	return max(0, time.Since(b.since))
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
	if b.onHold != nil {
		b.onHold()
	}
}
