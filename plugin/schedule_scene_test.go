// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// outageLength is how long an outage that a fault begins lasts: two of them are shorter
	// than the five minutes after which Vault's sixth attempt to revoke is the last.
	outageLength = 2 * time.Minute

	// aftermath is how long after the operation a second fault may hit.
	aftermath = 8 * time.Minute

	sceneTTL = 5 * time.Minute // of the leases that operations make
)

// scene is a mount on which one schedule is played.
type scene struct {
	*testVault
	cloud    *faultyCloud
	second   *faultyCloud                   // where the mount has accounts in Huawei Cloud, too
	deed     func(name, call string) string // has somebody else do something at a call; else it returns the fault
	live     http.RoundTripper              // the cloud without faults
	saboteur *saboteur
	process  *process
	hangUp   context.CancelFunc // of the request that runs

	bystander *testLease           // of a client that has nothing to do with it
	latest    time.Time            // by when a key that no lease holds has ended
	ended     map[string]bool      // keys whose end somebody has ordered
	planted   map[string]bool      // orphans that a test has put there
	kept      map[string]bool      // keys that were handed over to an operator
	current   map[string]string    // last seen key of each static role
	until     map[string]time.Time // how long replaced keys of static roles work
	decoded   sync.Map             // entries of storage as they were last read, by path
}

// operation is what a schedule lets faults hit.
type operation struct {
	name    string
	prepare func(s *scene)
	run     func(ctx context.Context, s *scene)
	races   bool // two requests at a time: which calls there are depends on who comes first
}

// play runs the operation with the schedule's faults, lets time pass, and holds the
// invariant. It returns the points passed (see saboteur), and how many faults hit.
func (sch schedule) play(t *testing.T) (trail []string, hitCount int) {
	t.Helper()
	s := &scene{
		testVault: sch.cloud.mount(t), cloud: sch.cloud, saboteur: newSaboteur(sch.hits), hangUp: func() {},
		ended: map[string]bool{}, planted: map[string]bool{}, kept: map[string]bool{}, current: map[string]string{},
		until: map[string]time.Time{},
	}
	s.live = s.base
	s.start()
	s.cloud.configure(s)
	s.bystander = s.lease("long")
	s.storeReconciliation(time.Now().Add(day))
	if sch.operation.prepare != nil {
		sch.operation.prepare(s)
	}
	s.latest = s.latestEnd()
	s.check("before the operation")

	s.saboteur.arm(true)
	s.act(sch.operation.run)
	s.latest = s.latestEnd()
	s.check("when the operation has ended")
	if len(sch.hits) == 0 {
		trail = slices.Clone(s.saboteur.trail)
	}
	s.pass(aftermath)
	s.saboteur.arm(false)
	if len(sch.hits) > 0 {
		trail = s.saboteur.trail
	}
	s.pass(outageLength) // what a second fault has begun ends
	s.mustWork()
	s.pass(5 * time.Minute)
	s.mustEndClean()
	if s.saboteur.hitCount < min(1, len(sch.hits)) && !sch.operation.races {
		t.Error("the fault never hit: the calls before it differ from run to run")
	}
	return trail, s.saboteur.hitCount
}

// latestEnd is by when a key has ended that was just made for a lease which nobody got.
func (s *scene) latestEnd() time.Time {
	return time.Now().Add(sceneTTL + lifetime.DefaultExpiryGrace + 2*time.Second)
}

// act runs something in the present process. Where that dies, nobody gets its answer, and a
// new one takes over.
func (s *scene) act(run func(ctx context.Context, s *scene)) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	s.hangUp = cancel
	leases := slices.Clone(s.leases)
	states := make([]testLease, len(leases))
	for i, l := range leases {
		states[i] = *l
	}
	run(ctx, s)
	if !s.process.dead.Load() {
		return
	}
	for i, l := range leases {
		*l = states[i]
	}
	s.leases = leases
	s.start()
}

// pass lets time pass as advance does, with the invariant held after each step, and
// outages that end.
func (s *scene) pass(d time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := time.Now().Add(rollbackPeriod)
		for {
			due := next
			for _, l := range s.leases {
				if !l.Irrevocable && l.due().Before(due) {
					due = l.due()
				}
			}
			<-time.After(time.Until(due))
			if !due.Before(next) {
				break
			}
			s.expireDue()
		}
		s.saboteur.repair()
		s.act(func(ctx context.Context, s *scene) { _ = s.tickIn(ctx) })
		s.check("after a tick")
	}
}

// expireDue revokes the leases that have ended, as Vault does.
func (s *scene) expireDue() {
	s.t.Helper()
	for _, l := range slices.Clone(s.leases) {
		if l.Irrevocable || time.Now().Before(l.due()) {
			continue
		}
		s.act(func(ctx context.Context, s *scene) { _ = s.revokeIn(ctx, l) })
		if !slices.Contains(s.leases, l) {
			continue
		}
		l.retryAt = time.Now().Add(retryBase << l.attempts)
		if l.attempts++; l.attempts == revokeAttempts {
			l.Irrevocable = true
			s.t.Errorf("the lease of %s has become irrevocable", l.AccessKey())
		}
	}
}

// end orders a lease's end, as an operator does. Where the revoke fails, Vault goes on.
func (s *scene) end(ctx context.Context, l *testLease) {
	s.t.Helper()
	s.ended[l.AccessKey()] = true
	if err := s.revokeIn(ctx, l); err != nil {
		l.Expires = time.Now()
	}
}

// ask sends a request of an operation, whatever its answer.
func (s *scene) ask(ctx context.Context, op logical.Operation, path string, fields ...string) {
	s.t.Helper()
	_, _ = s.request(ctx, op, path, fields...)
}

// liveAccess calls a cloud past the faults.
func (s *scene) liveAccess(cloud string) provider.Config {
	config := newAccountConfig()
	config.Provider = cloud
	access := config.access()
	access.Base = s.live
	return access
}
