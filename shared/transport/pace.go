// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Class is the kind of work that a call belongs to. Classes share the account's
// rate fairly, so that a storm of revokes does not stop the issue of new keys.
type Class int

const (
	// ClassIssue is a person or program waiting for an answer.
	ClassIssue Class = iota
	// ClassRenew is a lease that goes on. It is no issue, so that clients that ask for keys in
	// a loop do not have others lose the keys they hold.
	ClassRenew
	// ClassRevoke is the end of a lease. Vault comes back if it has to wait long.
	ClassRevoke
	// ClassBackground is periodic work; it yields to all others but for every
	// backgroundShare-th turn.
	ClassBackground
	classes
)

// backgroundShare is how many turns there are to one that the periodic work has for sure: a
// storm of revokes lasts for hours, in which orphans must go on being removed.
const backgroundShare = 8

// maxRevokeQueue is how long a revoke waits for its turn. Vault cancels a revoke after 90 s
// and counts it as a failure, so what has waited this long is handed back to Vault's own
// back-off while it can still say so.
//
// A longer wait delays Vault's step-down, which lets the revokes under way end. A shorter one
// leaves the cloud idle at the end of a storm, when all that is left sits in back-offs of
// minutes: with 20 s, a thousand leases at five calls a second made use of 72 % of them.
const maxRevokeQueue = 50 * time.Second

// slowest is the rate, in calls a second, below which throttling does not push.
const slowest = 0.5

type classKey struct{}

type nextKey struct{}

// WithNext marks calls that end what another has begun: they go before the others of
// their class. A storm of revokes then has few half-done ones when Vault steps down.
func WithNext(ctx context.Context) context.Context {
	return context.WithValue(ctx, nextKey{}, true)
}

type againKey struct{}

// WithAgain marks the calls of a revoke that was handed back before: they go before the
// others of their flow, since Vault gives a lease up after six attempts.
func WithAgain(ctx context.Context) context.Context {
	return context.WithValue(ctx, againKey{}, true)
}

// WithClass marks the calls made under the context. The default is ClassIssue.
func WithClass(ctx context.Context, class Class) context.Context {
	return context.WithValue(ctx, classKey{}, class)
}

func classOf(ctx context.Context) Class {
	class, _ := ctx.Value(classKey{}).(Class)
	return class
}

type flowKey struct{}

// WithFlow names whom the calls under the context are made for. The flows of a class take
// turns, so that one that sends a thousand calls at once does not keep the others waiting
// until all of them are through.
func WithFlow(ctx context.Context, flow string) context.Context {
	return context.WithValue(ctx, flowKey{}, flow)
}

func flowOf(ctx context.Context) string {
	flow, _ := ctx.Value(flowKey{}).(string)
	return flow
}

// Pacer is an account's token bucket. Calls of the same flow wait in the order in which they
// came; the flows of a class take turns, and so do classes. When the cloud throttles, the rate falls for all
// calls of the account: to what the cloud has taken in the last second, where enough calls have shown that, or else
// to the half. It climbs back in steps of a twentieth of the rate that was too much; beyond that, in steps of a
// twentieth of what goes well.
type Pacer struct {
	limiter *rate.Limiter
	highest rate.Limit
	tooMuch rate.Limit // the rate that was throttled last, or what went well since, if that is more; guarded by mu
	burst   int

	mu      sync.Mutex // never held while waiting
	taken   bool       // somebody is waiting for the next token
	queues  [classes]fairQueue
	last    Class // the class that had the turn before, background aside
	yielded int   // turns since the background had one
	changed time.Time
	fallen  rate.Limit // the rate before it was changed
	sent    []*paced   // in the last second
	inVain  int        // answers since the cloud took a call, all of them throttled
}

// paced is a call that had its turn. Fields are guarded by the pacer's lock.
type paced struct {
	at   time.Time
	fate fate
}

// fate is what has become of a call.
type fate int

const (
	underWay fate = iota
	taken
	throttled
)

// evidence is how many answers to the calls of a second show what the cloud takes. Fewer say that somebody was too fast,
// and not how fast.
const evidence = 5

// NewPacer paces to perSecond calls a second.
func NewPacer(perSecond float64) *Pacer {
	burst := max(1, int(perSecond))
	limit := rate.Limit(perSecond)
	return &Pacer{limiter: rate.NewLimiter(limit, burst), highest: limit, tooMuch: limit, burst: burst}
}

// String tells the present pace.
func (p *Pacer) String() string {
	return fmt.Sprintf("paced to %.3g of %.4g calls a second", float64(p.limiter.Limit()), float64(p.highest))
}

// ErrNoTurn is a call that was not sent, since its turn would have come too late: at once, where
// that can be told, and at the end of the context else. Nothing was learned by it.
var ErrNoTurn = errors.New("waiting for a turn under max_requests_per_second")

// Wait returns when the call may be sent. An error means that it was not, and
// must not be.
func (p *Pacer) Wait(ctx context.Context) error {
	class := classOf(ctx)
	again, _ := ctx.Value(againKey{}).(bool)
	if class == ClassRevoke {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxRevokeQueue)
		defer cancel()
	}
	next, _ := ctx.Value(nextKey{}).(bool)
	if err := p.take(ctx, class, waiter{turn: make(chan struct{}), next: next, again: again}); err != nil {
		return fmt.Errorf("%w: %w", ErrNoTurn, err)
	}
	defer p.pass()
	if err := p.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoTurn, err)
	}
	return nil
}

// take waits until it is the caller's turn for the next token.
func (p *Pacer) take(ctx context.Context, class Class, w waiter) error {
	p.mu.Lock()
	if !p.taken {
		p.taken = true
		p.mu.Unlock()
		return nil
	}
	flow := flowOf(ctx)
	p.queues[class].push(flow, w)
	p.mu.Unlock()

	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		p.leave(class, flow, w.turn)
		return ctx.Err()
	}
}

// leave takes a waiter out of its queue. If its turn came in the same moment,
// the turn is passed on, or nobody would ever get one again.
func (p *Pacer) leave(class Class, flow string, turn chan struct{}) {
	p.mu.Lock()
	left := p.queues[class].remove(flow, turn)
	p.mu.Unlock()
	if !left {
		p.pass()
	}
}

// pass gives the turn to the next waiter: issue, renew and revoke take turns while they
// wait; background comes when none does, or has yielded for long enough.
func (p *Pacer) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.yielded++
	if p.yielded >= backgroundShare && p.give(ClassBackground) {
		return
	}
	for i := range ClassBackground {
		if class := (p.last + 1 + i) % ClassBackground; p.give(class) {
			p.last = class
			return
		}
	}
	p.taken = p.give(ClassBackground)
}

// give gives the turn to the first waiter of a class, if there is one. The lock is held.
func (p *Pacer) give(class Class) bool {
	turn, waits := p.queues[class].pop()
	if !waits {
		return false
	}
	if class == ClassBackground {
		p.yielded = 0
	}
	close(turn)
	return true
}

// begin notes a call that is sent now.
func (p *Pacer) begin() *paced {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &paced{at: time.Now()}
	p.forget(c.at)
	p.sent = append(p.sent, c)
	return c
}

// lost takes back a call that had no answer: nobody knows whether the cloud took it.
func (p *Pacer) lost(c *paced) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = slices.DeleteFunc(p.sent, func(other *paced) bool { return other == c })
}

// throttled lowers the rate and allows no bursts. Without evidence it does so at most once a second: the
// answers to calls that were under way together are one piece of news, not many. With evidence each of
// them tells more of what the cloud takes.
func (p *Pacer) throttled(c *paced) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.fate = throttled
	p.inVain++
	now := time.Now()
	if now.Sub(p.changed) >= time.Second {
		p.changed, p.fallen = now, p.limiter.Limit()
		p.lower(p.fallen / 2)
		p.limiter.AllowN(now, 1) // the cloud has nothing left: the next call waits, too
	}
	if answers, most := p.lately(now); answers >= evidence {
		p.lower(min(most, p.fallen*0.95))
	}
}

// lower sets a rate that has fallen. The lock is held.
func (p *Pacer) lower(to rate.Limit) {
	to = max(to, min(slowest, p.highest))
	p.tooMuch = min(p.fallen, 2*to)
	p.limiter.SetLimit(to)
	p.limiter.SetBurst(1)
}

// growth is how far the pause has grown that a throttled call makes before its next attempt. While the cloud takes other calls of
// the account it does not grow: the pace keeps them apart by then, and with a pause of seconds the last of them would stay
// away from an idle cloud.
func (p *Pacer) growth(attempt int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(time.Now())
	if slices.ContainsFunc(p.sent, func(c *paced) bool { return c.fate == taken }) {
		return 0
	}
	return max(0, min(attempt, p.inVain-1))
}

// forget drops the calls that were sent more than a second ago. The lock is held.
func (p *Pacer) forget(now time.Time) {
	old := 0
	for old < len(p.sent) && now.Sub(p.sent[old].at) >= time.Second {
		old++
	}
	p.sent = p.sent[old:]
}

// lately is how many calls of the last second have their answer, and how many the cloud may have taken at most. A cloud has work
// with those that it takes, and none with those that it throttles, whose answers come first: those under way count as
// taken until their answer says else. Of one whose answers take longer than a second nothing is known. The lock is held.
func (p *Pacer) lately(now time.Time) (answers int, most rate.Limit) {
	p.forget(now)
	for _, c := range p.sent {
		if c.fate != underWay {
			answers++
		}
		if c.fate != throttled {
			most++
		}
	}
	return answers, most
}

// accepted raises a lowered rate by a twentieth of the one that was too much, at most once a second. A cloud that takes 5 calls
// a second of an account that is paced to 200 is so neared in steps of a quarter of a call. Bursts are allowed again at the
// full rate.
func (p *Pacer) accepted(c *paced) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.fate = taken
	p.inVain = 0
	now := time.Now()
	if p.limiter.Limit() >= p.highest || now.Sub(p.changed) < time.Second {
		return
	}
	p.changed = now
	raised := min(p.highest, p.limiter.Limit()+p.tooMuch/20)
	p.tooMuch = max(p.tooMuch, raised)
	p.fallen = raised
	p.limiter.SetLimit(raised)
	if p.limiter.Limit() >= p.highest {
		p.limiter.SetBurst(p.burst)
	}
}

// pacing waits for the pacer before each attempt.
type pacing struct {
	next  http.RoundTripper
	pacer *Pacer
}

// RoundTrip implements http.RoundTripper.
func (t *pacing) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.pacer.Wait(req.Context()); err != nil {
		return nil, &NotSentError{Err: err}
	}
	return t.next.RoundTrip(req)
}

// heeding tells the pacer of each attempt that is sent, and how the cloud took it. One that still waits for its slot among the calls
// in flight the cloud cannot have taken.
type heeding struct {
	next  http.RoundTripper
	pacer *Pacer
}

// RoundTrip implements http.RoundTripper.
func (t *heeding) RoundTrip(req *http.Request) (*http.Response, error) {
	call, answered := t.pacer.begin(), false
	defer func() {
		if !answered {
			t.pacer.lost(call)
		}
	}()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answered = true
	if tooFast(resp) {
		t.pacer.throttled(call)
	} else {
		t.pacer.accepted(call)
	}
	return resp, nil
}

// tooFast tells that an answer lowers the pace.
func tooFast(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
}
