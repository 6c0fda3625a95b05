// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	// callsPerRevocation are INACTIVE and delete.
	callsPerRevocation = 2

	// stepDownDelay is how much longer than an idle server's a step-down may take: it
	// waits for the revocations under way. One that is queued goes back to Vault after
	// 50 s; the rest is for its calls, on a busy machine.
	stepDownDelay = 60 * time.Second

	// freshLease is within what a client that waits for a key notices but bears.
	freshLease = 10 * time.Second

	// leastUse is the part of the cloud's limit that a storm must make use of.
	leastUse = 0.9
)

// storm is a server whose leases all end together, on a cloud that takes few calls.
type storm struct {
	*mount
	size     int
	rate     int // calls a second, allowed by the cloud and by the account's configuration
	instance string
	idle     time.Duration // of a step-down without a storm
	calm     func()        // ends the throttling
	fresh    []*lease      // issued during the storm
	slowest  time.Duration // of them, and of their renewals
	paused   time.Duration // in which nobody was active, during the step-down
}

// TestStorms ends many leases at once on a cloud that is limited to few calls a second:
// none may become irrevocable, the limit must be made use of, and who asks for a lease or
// renews one meanwhile must hardly notice.
func TestStorms(t *testing.T) {
	t.Parallel()
	revokeAll := func(s *storm) {
		s.fill(func() time.Duration { return time.Hour })
		s.begin()
		s.revokeAll("bulk")
	}
	expireAll := func(s *storm) {
		end := time.Now().Add(s.timeToFill())
		s.fill(func() time.Duration { return time.Until(end) + rand.N(time.Minute) })
		s.begin()
		if left := time.Until(end); left < 0 {
			s.t.Fatalf("the first leases ended %s before the last were there", -left)
		}
	}
	tests := map[string]struct {
		size, rate int
		end        func(*storm)
	}{
		"all leases are revoked at once":    {atSize(300, 10_000), atSize(10, 50), revokeAll},
		"all leases expire within a minute": {atSize(300, 10_000), atSize(10, 50), expireAll},
		"the cloud takes next to no calls":  {atSize(60, 1000), atSize(2, 5), revokeAll},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStorm(t, test.size, test.rate)
			test.end(s)
			s.ride()
		})
	}
}

func newStorm(t *testing.T, size, rate int) *storm {
	t.Helper()
	s := &storm{size: size, rate: rate, mount: newMountOn(t, newServerAt(t, atSize("trace", "info")), cloudsim.WithQuota(2*size))}
	s.configure()
	s.write("roles/bulk", "user_names=app")
	// Keys that outlive the storm: past its own date a key needs no call to be revoked.
	s.write("config/default", "expiry_grace=45m", "max_requests_per_second=1000")
	return s
}

// fill issues the leases, as fast as the server can.
func (s *storm) fill(ttl func() time.Duration) {
	s.t.Helper()
	started := time.Now()
	s.issue("bulk", s.size, ttl)
	s.instance = s.mount.instance()
	s.t.Logf("%d leases issued in %s", s.left(), time.Since(started).Round(time.Second))
	figure(s.t, figureLeases, s.size)
}

func (s *storm) issue(role string, n int, ttl func() time.Duration) {
	s.t.Helper()
	orders, failures := make(chan struct{}), make(chan error, n)
	var issuers sync.WaitGroup
	for range 32 {
		issuers.Go(func() {
			for range orders {
				_, err := s.tryLeaseOf(role, strconv.Itoa(int(ttl().Seconds()))+"s")
				failures <- err
			}
		})
	}
	for range n {
		orders <- struct{}{}
	}
	close(orders)
	issuers.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// timeToFill is how long the issue of all leases may take, and the step-down after it: a
// part of them is issued to learn it.
func (s *storm) timeToFill() time.Duration {
	s.t.Helper()
	const part = 10
	started := time.Now()
	s.issue("app", s.size/part, func() time.Duration { return time.Hour })
	took := time.Since(started)
	<-s.revokeAll("app")
	return time.Minute + 2*part*took
}

// revokeAll has Vault revoke all leases of a role, beside what comes next. Vault writes every
// lease before it answers: with many on a busy machine that takes longer than clients wait,
// and they ask again.
func (s *storm) revokeAll(role string) (taken chan struct{}) {
	order := &api.RevokeOptions{LeaseID: s.path + "/creds/" + role, Prefix: true}
	taken = make(chan struct{})
	go func() {
		defer close(taken)
		for s.t.Context().Err() == nil && s.server.Client.Sys().RevokeWithOptionsWithContext(s.t.Context(), order) != nil {
			select {
			case <-time.After(time.Second):
			case <-s.t.Context().Done():
			}
		}
	}()
	return taken
}

// begin limits the calls.
func (s *storm) begin() {
	s.t.Helper()
	if !atFullSize() {
		s.measureStepDown()
	}
	s.throttle()
}

// measureStepDown learns what Vault itself takes: a single node waits ten seconds before
// it stands for election again.
func (s *storm) measureStepDown() {
	s.t.Helper()
	s.idle = s.stepDown()
}

func (s *storm) stepDown() time.Duration {
	s.t.Helper()
	started := time.Now()
	if err := s.server.StepDown(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return time.Since(started)
}

// throttle limits the engine and the cloud to the same rate, so that there is nothing to
// spare for a call too many.
func (s *storm) throttle() {
	s.t.Helper()
	s.write("config/default", fmt.Sprintf("max_requests_per_second=%d", s.rate))
	s.calm = s.sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: float64(s.rate)})
	s.sim.ResetCalls()
}

// left counts the keys whose leases have not been revoked.
func (s *storm) left() int { return len(s.ownKeys(s.instance)) - len(s.fresh) }

// ride goes through the storm to its end: new leases are issued all the time. In the small
// ones the server steps down in the middle, which takes too long to measure the pace.
func (s *storm) ride() {
	s.t.Helper()
	if !atFullSize() {
		s.issueUntil(s.size * 2 / 3)
		took := s.stepDown()
		s.paused = s.idle // while it waits for revocations, they go on
		s.t.Logf("step-down: %s, idle %s", took.Round(time.Millisecond), s.idle.Round(time.Millisecond))
		if took > s.idle+stepDownDelay {
			s.t.Errorf("the storm delays a step-down by %s", took-s.idle)
		}
	}
	s.issueUntil(0)
	untilEvery(s.t, time.Second, time.Minute, "Vault has forgotten the leases", func() bool {
		known, err := s.leaseIDsOf("bulk")
		return err == nil && len(known) == 0
	})
	s.report()
	s.calm() // the new keys are tried all at once
	s.mustHold(s.fresh)
	s.mustHideSecrets()
}

// ideal is how long the calls of all revocations take at the limit.
func (s *storm) ideal() time.Duration {
	return time.Duration(s.size*callsPerRevocation) * time.Second / time.Duration(s.rate)
}

// issueUntil issues a lease every few seconds, and renews it, until so many old ones are left.
func (s *storm) issueUntil(left int) {
	s.t.Helper()
	var next time.Time
	untilEvery(s.t, time.Second, 5*time.Minute+3*s.ideal(), fmt.Sprintf("%d leases are left", left), func() bool {
		now := s.left()
		if now < s.size && time.Now().After(next) {
			s.issueFresh()
			next = time.Now().Add(atSize(5*time.Second, 15*time.Second))
		}
		return now <= left
	})
}

func (s *storm) issueFresh() {
	s.t.Helper()
	started := time.Now()
	l := s.lease("1h")
	s.fresh = append(s.fresh, l)
	issued := time.Now()
	l.renew(5400)
	for what, took := range map[string]time.Duration{"a new lease": issued.Sub(started), "its renewal": time.Since(issued)} {
		s.slowest = max(s.slowest, took)
		if took > freshLease {
			s.t.Errorf("%s took %s", what, took)
		}
	}
}

var attempts = regexp.MustCompile(`failed to revoke lease:.* attempts=(\d+)`)

// report tells what the storm cost, and whether the limit was made use of.
func (s *storm) report() {
	s.t.Helper()
	var first, last time.Time
	sent, throttled, all := 0, 0, 0
	for _, call := range s.sim.Calls() {
		ends := call.Op == "UpdateAccessKey" || call.Op == "DeleteAccessKey"
		if first.IsZero() && !ends {
			continue
		}
		all++
		if call.Status == http.StatusTooManyRequests {
			throttled++
		}
		if !ends {
			continue
		}
		sent++
		if first.IsZero() {
			first = call.At
		}
		last = call.At
	}
	log, err := s.server.Logs()
	if err != nil {
		s.t.Fatal(err)
	}
	failed := map[string]int{}
	for _, match := range attempts.FindAllStringSubmatch(log, -1) {
		failed[match[1]]++
	}
	took := last.Sub(first) - s.paused
	use := float64(all-throttled) / took.Seconds() / float64(s.rate)
	s.t.Logf("%s, %.2f of the ideal; %.0f%% of the limit used; %.2f calls a revocation, %d throttled; failed attempts by their number: "+
		"%v; %d new leases, the slowest in %s",
		took.Round(time.Second), took.Seconds()/s.ideal().Seconds(), 100*use, float64(sent)/float64(s.size), throttled, failed,
		len(s.fresh), s.slowest.Round(time.Millisecond))
	if atFullSize() && use < leastUse {
		s.t.Errorf("%.0f%% of the cloud's limit were made use of, want %.0f%%", 100*use, 100*leastUse)
	}
}
