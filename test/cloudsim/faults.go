// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// FaultKind says how a call goes wrong.
type FaultKind string

// The kinds of faults. Those before the work leave no trace in the cloud; those after it have done what was asked.
const (
	// Refuse answers Status (default 500) and Code before the work.
	Refuse FaultKind = "refuse"
	// RefuseAfter does the work and answers Status (default 500) and Code.
	RefuseAfter FaultKind = "refuse_after"
	// DropRequest cuts the connection before the work.
	DropRequest FaultKind = "drop_request"
	// DropAnswer does the work and cuts the connection.
	DropAnswer FaultKind = "drop_answer"
	// RefuseConnection fails as a refused dial from Transport; over HTTP it is like DropRequest.
	RefuseConnection FaultKind = "refuse_connection"
	// Delay waits before the work. A caller that gives up meanwhile gets no work done.
	Delay FaultKind = "delay"
	// DelayAnswer does the work and then waits.
	DelayAnswer FaultKind = "delay_answer"
	// EmptyAnswer does the work and answers with its status, or Status, without a body.
	EmptyAnswer FaultKind = "empty_answer"
	// RubbishAnswer does the work and answers with its status, or Status, and Body, or with the first half of the true JSON,
	// in which the secret stands.
	RubbishAnswer FaultKind = "rubbish_answer"
	// Redirect answers 302 before the work, as a captive proxy does. Code is the address to go to.
	Redirect FaultKind = "redirect"
	// Throttle lets Rate matching calls a second pass. Beyond, OUTSCALE answers 429 with code 24, or 503 with code 6 if
	// Status is 503; Huawei 429 with APIGW.0308, or in IAM's own words if Code is IAM.0012. Its bucket holds one second's
	// worth, at least one call.
	Throttle FaultKind = "throttle"
	// Burst4120 answers as to an unknown key although the key is fine: OUTSCALE's 400 with code 4120, as the real cloud was
	// seen to do under a burst of calls, Huawei's 401. It does not count towards the lock-out.
	Burst4120 FaultKind = "burst_4120"
	// Outage cuts the connection of every call, whatever Op and User say. Account counts.
	Outage FaultKind = "outage"
)

func (k FaultKind) known() bool {
	switch k {
	case Refuse, RefuseAfter, DropRequest, DropAnswer, RefuseConnection, Delay, DelayAnswer, EmptyAnswer, RubbishAnswer,
		Redirect, Throttle, Burst4120, Outage:
		return true
	default:
		return false
	}
}

// Fault is an order to fail. It hits calls of operation Op, account (or domain) Account and user User (empty: any), lets
// Skip of them pass first and ends after Times hits (0: when cancelled). Delay goes with every kind: it is spent before
// the work by the kinds that act before it, after the work by the others. A Body replaces the error's JSON in Refuse and
// RefuseAfter.
type Fault struct {
	Op      string        `json:"op,omitempty"`
	Account string        `json:"account,omitempty"` // an id; tells the clouds apart where their operations have one name
	User    string        `json:"user,omitempty"`
	Skip    int           `json:"skip,omitempty"`
	Times   int           `json:"times,omitempty"`
	Kind    FaultKind     `json:"kind"`
	Delay   time.Duration `json:"-"`
	Status  int           `json:"status,omitempty"`
	Code    string        `json:"code,omitempty"`
	Body    string        `json:"body,omitempty"`
	Rate    float64       `json:"rate,omitempty"`
}

// order is a fault that waits for its calls. Guarded by Cloud.mu.
type order struct {
	Fault
	id     int
	tokens float64
	filled time.Time
}

// Order places an order to fail and returns its cancellation. Of several orders that match a call the delays add up and the
// first placed of the rest decides.
func (c *Cloud) Order(fault Fault) (cancel func()) {
	id := c.place(fault)
	return func() { c.cancelOrder(id) }
}

func (c *Cloud) place(fault Fault) int {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.lastID++
	o := &order{Fault: fault, id: c.lastID, filled: time.Now()}
	o.tokens = o.capacity()
	c.orders = append(c.orders, o)
	return o.id
}

func (c *Cloud) cancelOrder(id int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	before := len(c.orders)
	c.orders = slices.DeleteFunc(c.orders, func(o *order) bool { return o.id == id })
	return len(c.orders) < before
}

// effect is what the orders make of one call.
type effect struct {
	before time.Duration
	after  time.Duration
	fault  Fault // Kind "" if only delays apply
}

// effectOn consults the orders for a call.
func (c *Cloud) effectOn(call *Call) effect {
	c.mu.Lock()
	defer c.mu.Unlock()

	var s effect
	now := time.Now()
	for _, o := range slices.Clone(c.orders) {
		if !o.matches(call) || !o.isDelay() && s.fault.Kind != "" || !o.fires(now) {
			continue
		}
		s.add(o.Fault)
		if o.Times > 0 {
			if o.Times--; o.Times == 0 {
				c.orders = slices.DeleteFunc(c.orders, func(other *order) bool { return other == o })
			}
		}
	}
	return s
}

func (o *order) matches(call *Call) bool {
	if o.Account != "" && o.Account != call.Account {
		return false
	}
	if o.Kind == Outage {
		return true
	}
	return (o.Op == "" || o.Op == call.Op) && (o.User == "" || o.User == call.User)
}

func (o *order) isDelay() bool { return o.Kind == Delay || o.Kind == DelayAnswer }

func (o *order) fires(now time.Time) bool {
	if o.Skip > 0 {
		o.Skip--
		return false
	}
	return o.Kind != Throttle || !o.takeToken(now)
}

func (o *order) capacity() float64 { return max(1, o.Rate) }

func (o *order) takeToken(now time.Time) bool {
	o.tokens = min(o.capacity(), o.tokens+o.Rate*now.Sub(o.filled).Seconds())
	o.filled = now
	if o.tokens < 1 {
		return false
	}
	o.tokens--
	return true
}

func (s *effect) add(f Fault) {
	if f.actsAfterWork() {
		s.after += f.Delay
	} else {
		s.before += f.Delay
	}
	if f.Kind != Delay && f.Kind != DelayAnswer {
		s.fault = f
	}
}

func (f Fault) actsAfterWork() bool {
	switch f.Kind {
	case RefuseAfter, DropAnswer, DelayAnswer, EmptyAnswer, RubbishAnswer:
		return true
	default:
		return false
	}
}

// dialect is how a cloud words what a fault orders. An empty code is the one that fits the status.
type dialect interface {
	failure(status int, code string) *answer
	throttled(status int, code string) *answer
	unknownKey() *answer
}

// instead returns the answer that a fault gives before the work, or nil to go on.
func (f Fault) instead(d dialect) *answer {
	switch f.Kind {
	case Refuse:
		return f.reworded(d.failure(cmp.Or(f.Status, http.StatusInternalServerError), f.Code))
	case Throttle:
		return f.reworded(d.throttled(cmp.Or(f.Status, http.StatusTooManyRequests), f.Code))
	case Burst4120:
		return d.unknownKey()
	case Redirect:
		return &answer{status: http.StatusFound, location: f.Code, contentType: "text/html", distorted: f.Kind}
	case DropRequest, Outage, RefuseConnection:
		return &answer{cut: true, refusedDial: f.Kind == RefuseConnection}
	default:
		return nil
	}
}

// distort turns the true answer into what the fault lets through.
func (f Fault) distort(d dialect, honest *answer) *answer {
	switch f.Kind {
	case RefuseAfter:
		return f.reworded(d.failure(cmp.Or(f.Status, http.StatusInternalServerError), f.Code))
	case DropAnswer:
		return &answer{cut: true}
	case EmptyAnswer:
		return &answer{status: cmp.Or(f.Status, honest.success()), distorted: f.Kind}
	case RubbishAnswer:
		body := []byte(f.Body)
		if f.Body == "" {
			body = honest.body[:len(honest.body)/2]
		}
		return &answer{status: cmp.Or(f.Status, honest.success()), body: body, distorted: f.Kind}
	default:
		return honest
	}
}

// reworded puts the fault's own body in the place of the error's.
func (f Fault) reworded(a *answer) *answer {
	if f.Body != "" {
		a.code, a.body, a.distorted = "", []byte(f.Body), f.Kind
		if strings.HasPrefix(f.Body, "<") { // the page of a gateway, which knows nothing of requests
			a.contentType, a.requestID = "text/html", ""
		}
	}
	return a
}

// wait spends a fault's delay, or less if the caller gives up first.
func wait(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
