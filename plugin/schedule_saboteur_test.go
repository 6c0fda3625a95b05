// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// saboteur sees every cloud and storage call, names it, and lets the schedule's faults
// hit. A point is a call's name and the number of that name that it is: so it stays the same
// where calls are made side by side.
type saboteur struct {
	mu       sync.Mutex // never held while waiting
	armed    bool
	plan     map[string]string // fault by point
	counts   map[string]int
	total    int      // calls since it was armed
	trail    []string // points passed since the first fault, or all where there is none
	hitCount int
	brokeAt  time.Time // cloud or storage; zero: neither is down
	cloud    bool
	storage  bool
}

func newSaboteur(hits []hit) *saboteur {
	plan := map[string]string{}
	for _, s := range hits {
		plan[s.point] = s.fault
	}
	return &saboteur{plan: plan, counts: map[string]int{}}
}

// pass notes a call and returns the fault that is to hit it; empty: none.
func (s *saboteur) pass(name string) (fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed {
		return ""
	}
	s.counts[name]++
	s.total++
	point := fmt.Sprintf("%s#%d", name, s.counts[name])
	fault, hit := s.plan[point]
	if !hit {
		fault, hit = s.plan[nthCall(s.total)]
	}
	switch {
	case hit:
		s.hitCount++
	case len(s.plan) == 0 || s.hitCount > 0:
		s.trail = append(s.trail, point)
	}
	return fault
}

// nthCall is the point of a call by its number alone, whatever its name.
func nthCall(n int) string { return fmt.Sprintf("call %d", n) }

func (s *saboteur) arm(armed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = armed
}

func (s *saboteur) breakCloud() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cloud, s.brokeAt = true, time.Now()
}

func (s *saboteur) breakStorage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storage, s.brokeAt = true, time.Now()
}

func (s *saboteur) broken() (cloud, storage bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cloud, s.storage
}

// repair ends what has been down for a while.
func (s *saboteur) repair() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.brokeAt) >= outageLength {
		s.cloud, s.storage = false, false
	}
}

// process is one life of the plugin's process.
type process struct {
	dead   atomic.Bool
	forgot atomic.Pointer[time.Time] // since when it may have stored nothing: it died within a request, or a snapshot took it back; nil: never

	unstored sync.Map // since when a hold may not be stored, by its path
}

func (p *process) die() { p.dead.Store(true) }

// forgets notes since when the process may have stored nothing, at the latest.
func (p *process) forgets(since time.Time) {
	for before := p.forgot.Load(); before == nil || since.Before(*before); before = p.forgot.Load() {
		if p.forgot.CompareAndSwap(before, &since) {
			return
		}
	}
}

// storedHold is told of each hold that the process stores, or not yet.
func (p *process) storedHold(key string, err error) {
	if err == nil {
		p.unstored.Delete(key)
	} else {
		p.unstored.LoadOrStore(key, time.Now().Add(-longestRequest))
	}
}

// mayForget tells whether the process may not have stored what it met at a time.
func (p *process) mayForget(at time.Time) bool {
	since := p.forgot.Load()
	forgot := since != nil && !at.Before(*since)
	p.unstored.Range(func(_, since any) bool {
		forgot = forgot || !at.Before(since.(time.Time))
		return !forgot
	})
	return forgot
}

// start is a new process on the same storage. The old one may still have work under way in
// the background: it reaches nothing any more.
func (s *scene) start() {
	s.t.Helper()
	p := &process{}
	s.process = p
	s.storage = &testStorage{Storage: s.storage.Storage, around: func(op, key string, do func() error) error {
		return s.store(p, op, key, do)
	}}
	s.base = roundTripper(func(req *http.Request) (*http.Response, error) { return s.call(p, req) })
	s.restart()
}

func (s *scene) store(p *process, op, key string, do func() error) (err error) {
	if p.dead.Load() {
		return errDead
	}
	if op == "put" && strings.HasPrefix(key, holdPrefix) {
		defer func() { p.storedHold(key, err) }()
	}
	name := op + " " + storageName(key)
	if fault := s.faultAt(name); fault != "" {
		return hitStorage(fault, s, do)
	}
	if p.dead.Load() { // somebody has ended it just now
		return errDead
	}
	if _, down := s.saboteur.broken(); down {
		return errInjected
	}
	return do()
}

// storageName is a storage path without what differs from run to run.
func storageName(key string) string {
	first, _, _ := strings.Cut(key, "/")
	return first
}

// faultAt notes a call and returns the fault that is to hit it; empty: none. What somebody else does at a call is done by then, and the
// call goes on.
func (s *scene) faultAt(call string) string {
	fault := s.saboteur.pass(call)
	if fault == "" || s.deed == nil {
		return fault
	}
	return s.deed(fault, call)
}

// cloudOf is the cloud that a request is on its way to.
func (s *scene) cloudOf(req *http.Request) *faultyCloud {
	if s.second != nil && strings.HasPrefix(req.URL.Path, "/v3") {
		return s.second
	}
	return s.cloud
}

func (s *scene) call(p *process, req *http.Request) (*http.Response, error) {
	if p.dead.Load() {
		return nil, errDead
	}
	cloud := s.cloudOf(req)
	if fault := s.faultAt(cloud.call(req)); fault != "" {
		return cloud.hitCloud(fault, cloudCall{s, req, s.live})
	}
	if p.dead.Load() { // somebody has ended it just now
		return nil, errDead
	}
	if down, _ := s.saboteur.broken(); down {
		return nil, io.ErrUnexpectedEOF
	}
	resp, err := s.live.RoundTrip(req)
	if p.dead.Load() {
		return nil, errDead
	}
	return resp, err
}
