// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import "slices"

// fairQueue is who waits for a turn, flow by flow. Its zero value is empty.
type fairQueue struct {
	urgent  []chan struct{} // before all flows; see WithNext
	flows   []string        // those with somebody waiting, the next first
	waiting map[string][]chan struct{}
}

func (q *fairQueue) push(flow string, turn chan struct{}, urgent bool) {
	if urgent {
		q.urgent = slices.Insert(q.urgent, 0, turn)
		return
	}
	if len(q.waiting[flow]) == 0 {
		q.flows = append(q.flows, flow)
	}
	if q.waiting == nil {
		q.waiting = map[string][]chan struct{}{}
	}
	q.waiting[flow] = append(q.waiting[flow], turn)
}

// pop takes the first of the flow whose turn it is, which then is the last in the row.
func (q *fairQueue) pop() (turn chan struct{}, waits bool) {
	if len(q.urgent) > 0 {
		turn, q.urgent = q.urgent[0], q.urgent[1:]
		return turn, true
	}
	if len(q.flows) == 0 {
		return nil, false
	}
	flow := q.flows[0]
	q.flows = q.flows[1:]
	turn, q.waiting[flow] = q.waiting[flow][0], q.waiting[flow][1:]
	if len(q.waiting[flow]) > 0 {
		q.flows = append(q.flows, flow)
	} else {
		delete(q.waiting, flow)
	}
	return turn, true
}

// remove takes out who waits no longer, and tells whether it still waited.
func (q *fairQueue) remove(flow string, turn chan struct{}) bool {
	if i := slices.Index(q.urgent, turn); i >= 0 {
		q.urgent = slices.Delete(q.urgent, i, i+1)
		return true
	}
	i := slices.Index(q.waiting[flow], turn)
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
