// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import "slices"

// waiter is a call that waits for its turn.
type waiter struct {
	turn  chan struct{} // closed when it comes
	next  bool          // before all flows; see WithNext
	again bool          // before the others of its flow; see WithAgain
}

func (w waiter) isFirst() bool { return !w.again }

// fairQueue is who waits for a turn, flow by flow. Its zero value is empty.
type fairQueue struct {
	urgent  []waiter
	flows   []string // those with somebody waiting, the next first
	waiting map[string][]waiter
}

func (q *fairQueue) push(flow string, w waiter) {
	if w.next {
		q.urgent = slices.Insert(q.urgent, 0, w)
		return
	}
	if len(q.waiting[flow]) == 0 {
		q.flows = append(q.flows, flow)
	}
	if q.waiting == nil {
		q.waiting = map[string][]waiter{}
	}
	at := len(q.waiting[flow])
	if first := slices.IndexFunc(q.waiting[flow], waiter.isFirst); w.again && first >= 0 {
		at = first
	}
	q.waiting[flow] = slices.Insert(q.waiting[flow], at, w)
}

// pop takes the first of the flow whose turn it is, which then is the last in the row.
func (q *fairQueue) pop() (turn chan struct{}, waits bool) {
	if len(q.urgent) > 0 {
		turn, q.urgent = q.urgent[0].turn, q.urgent[1:]
		return turn, true
	}
	if len(q.flows) == 0 {
		return nil, false
	}
	flow := q.flows[0]
	q.flows = q.flows[1:]
	turn, q.waiting[flow] = q.waiting[flow][0].turn, q.waiting[flow][1:]
	if len(q.waiting[flow]) > 0 {
		q.flows = append(q.flows, flow)
	} else {
		delete(q.waiting, flow)
	}
	return turn, true
}

// remove takes out who waits no longer, and tells whether it still waited.
func (q *fairQueue) remove(flow string, turn chan struct{}) bool {
	isIt := func(w waiter) bool { return w.turn == turn }
	if i := slices.IndexFunc(q.urgent, isIt); i >= 0 {
		q.urgent = slices.Delete(q.urgent, i, i+1)
		return true
	}
	i := slices.IndexFunc(q.waiting[flow], isIt)
	if i < 0 {
		return false
	}
	q.waiting[flow] = slices.Delete(q.waiting[flow], i, i+1)
	if len(q.waiting[flow]) == 0 {
		delete(q.waiting, flow)
		q.flows = slices.DeleteFunc(q.flows, func(name string) bool { return name == flow })
	}
	return true
}
