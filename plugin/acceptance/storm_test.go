// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/cloudsim"
)

const (
	stormSize = 1000
	stormRate = 20 // calls a second, allowed by the cloud and by the account's configuration

	// callsPerRevocation are INACTIVE and delete.
	callsPerRevocation = 2

	// stepDownDelay is how much longer than an idle server's a step-down may take: it
	// waits for the revocations under way. One that is queued goes back to Vault after
	// 20 s; the rest is for its calls, on a busy machine.
	stepDownDelay = 25 * time.Second

	// freshLease is within what a client that waits for a key notices but bears.
	freshLease = 10 * time.Second
)

// storm is a server whose leases all end together, on a cloud that takes few calls.
type storm struct {
	*mount
	instance string
	idle     time.Duration // of a step-down without a storm
	calm     func()        // ends the throttling
	fresh    []*lease      // issued during the storm
	slowest  time.Duration // of them
}

func newStorm(t *testing.T) *storm {
	t.Helper()
	s := &storm{mount: newMountOn(t, newServer(t), cloudsim.WithQuota(2*stormSize))}
	s.configure()
	// Keys that outlive the storm: past its own date a key needs no call to be revoked.
	s.write("config/default", "expiry_grace=15m", "max_requests_per_second=1000")
	return s
}

func TestThousandLeasesRevokedAtOnce(t *testing.T) {
	t.Parallel()
	s := newStorm(t)
	s.fill(func() string { return "1h" })
	s.measureStepDown()
	s.throttle()
	if err := s.server.Client.Sys().RevokeWithOptions(&api.RevokeOptions{LeaseID: s.path + "/creds/app", Prefix: true}); err != nil {
		t.Fatal(err)
	}
	s.ride()
}

func TestThousandLeasesExpireAtOnce(t *testing.T) {
	t.Parallel()
	s := newStorm(t)
	end := time.Now().Add(100 * time.Second)
	s.fill(func() string { return strconv.Itoa(int(time.Until(end).Seconds())) + "s" })
	s.measureStepDown()
	s.throttle()
	if left := time.Until(end); left < 0 {
		t.Fatalf("the first leases ended %s before the last were there", -left)
	}
	s.ride()
}

// fill issues the leases, as fast as the server can.
func (s *storm) fill(ttl func() string) {
	s.t.Helper()
	started := time.Now()
	orders, failures := make(chan struct{}), make(chan error, stormSize)
	var issuers sync.WaitGroup
	for range 32 {
		issuers.Go(func() {
			for range orders {
				_, err := s.tryLease(ttl())
				failures <- err
			}
		})
	}
	for range stormSize {
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
	s.instance = s.mount.instance()
	s.t.Logf("%d leases issued in %s", s.left(), time.Since(started).Round(time.Second))
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
	s.write("config/default", fmt.Sprintf("max_requests_per_second=%d", stormRate))
	s.calm = s.sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: stormRate})
	s.sim.ResetCalls()
}

// left counts the keys whose leases have not been revoked.
func (s *storm) left() int { return len(s.ownKeys(s.instance)) - len(s.fresh) }

// ride goes through the storm to its end: new leases are issued all the time, and the
// server steps down in the middle.
func (s *storm) ride() {
	s.t.Helper()
	s.issueUntil(stormSize * 2 / 3)
	took := s.stepDown()
	s.t.Logf("step-down: %s, idle %s", took.Round(time.Millisecond), s.idle.Round(time.Millisecond))
	if took > s.idle+stepDownDelay {
		s.t.Errorf("the storm delays a step-down by %s", took-s.idle)
	}
	s.issueUntil(0)
	until(s.t, time.Minute, "Vault has forgotten the leases", func() bool {
		known, err := s.leaseIDs()
		return err == nil && len(known) == len(s.fresh)
	})
	s.report()
	s.calm() // the new keys are tried all at once
	s.mustHold(s.fresh)
	s.mustHideSecrets()
}

// issueUntil issues a lease every few seconds until so many old ones are left.
func (s *storm) issueUntil(left int) {
	s.t.Helper()
	var next time.Time
	until(s.t, 6*time.Minute, fmt.Sprintf("%d leases are left", left), func() bool {
		if s.left() < stormSize && time.Now().After(next) {
			s.issueFresh()
			next = time.Now().Add(5 * time.Second)
		}
		return s.left() <= left
	})
}

func (s *storm) issueFresh() {
	s.t.Helper()
	started := time.Now()
	s.fresh = append(s.fresh, s.lease("1h"))
	took := time.Since(started)
	s.slowest = max(s.slowest, took)
	if took > freshLease {
		s.t.Errorf("a new lease took %s", took)
	}
}

var attempts = regexp.MustCompile(`failed to revoke lease:.* attempts=(\d+)`)

// report tells what the storm cost.
func (s *storm) report() {
	s.t.Helper()
	var first, last time.Time
	sent, throttled := 0, 0
	for _, call := range s.sim.Calls() {
		if call.Op != "UpdateAccessKey" && call.Op != "DeleteAccessKey" {
			continue
		}
		if sent++; call.Status == http.StatusTooManyRequests {
			throttled++
		}
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
	ideal := time.Duration(stormSize*callsPerRevocation) * time.Second / stormRate
	s.t.Logf("%s, %.2f of the ideal; %.2f calls a revocation, %d throttled; failed attempts by their number: %v; %d new leases, the slowest in %s",
		last.Sub(first).Round(time.Second), last.Sub(first).Seconds()/ideal.Seconds(), float64(sent)/stormSize, throttled, failed,
		len(s.fresh), s.slowest.Round(time.Millisecond))
}
