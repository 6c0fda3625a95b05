// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	stormRate = 50 // calls a second
	manyHeld  = 10_000
)

// memory weighs the plugin with many leases held.
func (b *bench) memory(ctx context.Context, s *stage) error {
	s.setLatency(0)
	p, err := s.process(manyKeys)
	if err != nil {
		return err
	}
	// What the first requests make it allocate is not the leases'.
	const first = 500
	warm, _, err := s.leases(ctx, manyKeys, 16, first)
	if err != nil {
		return err
	}
	if err := s.cleanUp(ctx, warm); err != nil {
		return err
	}
	idle, err := p.memory()
	if err != nil {
		return err
	}
	b.add(reported(fmt.Sprintf("plugin memory, idle after %d leases", first), number(idle)+" MB", idle))
	var held []string
	for _, n := range []int{1000, manyHeld} {
		ids, each, err := s.grow(ctx, p, n-len(held))
		if err != nil {
			return err
		}
		b.add(reported(fmt.Sprintf("plugin CPU per 1,000 leases, from %d to %d held", len(held), n), number(each)+" s", each))
		held = append(held, ids...)
		s.sim.ResetCalls()
		size, err := p.memory()
		if err != nil {
			return err
		}
		if n == manyHeld {
			b.add(atMost(fmt.Sprintf("plugin memory at %d leases over idle", n), 10, " MB", size-idle))
		} else {
			b.add(reported(fmt.Sprintf("plugin memory at %d leases over idle", n), number(size-idle)+" MB", size-idle))
		}
	}
	s.held = held // for the storm, or to go with the server
	return nil
}

// grow has n more leases held, and tells the plugin's CPU time for each, in milliseconds.
func (s *stage) grow(ctx context.Context, p process, n int) (ids []string, each float64, err error) {
	before, err := p.cpu()
	if err != nil {
		return nil, 0, err
	}
	if ids, _, err = s.leases(ctx, manyKeys, 16, n); err != nil {
		return nil, 0, err
	}
	after, err := p.cpu()
	return ids, milliseconds(after-before) / float64(n), err
}

// storm revokes many leases at once on a cloud that takes few calls.
func (b *bench) storm(ctx context.Context, s *stage) error {
	s.setLatency(0)
	ids := s.held
	if len(ids) == 0 {
		var err error
		if ids, _, err = s.leases(ctx, manyKeys, 16, manyHeld); err != nil {
			return err
		}
	}
	if err := s.write(ctx, "outscale/config/default", map[string]any{"max_requests_per_second": stormRate}); err != nil {
		return err
	}
	calm := s.sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: stormRate})
	defer calm()
	s.sim.ResetCalls()
	started := time.Now()
	calls, err := s.callsOf(manyKeys, func() error {
		if err := s.client.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: "outscale/creds", Prefix: true}); err != nil {
			return err
		}
		return s.untilGone(ctx)
	})
	if err != nil {
		return err
	}
	took := time.Since(started)
	irrevocable, err := s.irrevocable(ctx)
	if err != nil {
		return err
	}
	ideal := time.Duration(float64(2*len(ids)) / stormRate * float64(time.Second))
	what := fmt.Sprintf("%d leases revoked at once, a cloud that takes %d calls a second", len(ids), stormRate)
	b.add(atMost("storm: "+what+", over the ideal "+ideal.String(), 1.05, " x", took.Seconds()/ideal.Seconds()).onPage(head{
		What: what + ": all keys gone", Unit: "s", Ours: took.Seconds(), Over: overYardstick,
		Yardstick: ideal.Seconds(), YardstickIs: "computed: the cloud's pace", But: "one run, storage on raft, no wait of 20 ms",
	}))
	b.add(atMost("storm: irrevocable leases", 0, "", float64(irrevocable)))
	b.add(reported("storm: cloud calls a lease", number(float64(calls)/float64(len(ids))), float64(calls)/float64(len(ids))))
	return s.write(ctx, "outscale/config/default", map[string]any{"max_requests_per_second": fast})
}

// untilGone waits until the cloud has no key of the pool's users any more.
func (s *stage) untilGone(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Minute)
	for s.poolKeys() > 0 {
		select {
		case <-tick.C:
		case <-limit:
			return fmt.Errorf("%d keys are still there", s.poolKeys())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *stage) poolKeys() int {
	n := 0
	for _, key := range s.account.Keys() {
		if key.User != "" {
			n++
		}
	}
	return n
}

// irrevocable counts the leases that Vault has given up.
func (s *stage) irrevocable(ctx context.Context) (int, error) {
	secret, err := s.client.Logical().ReadWithDataWithContext(ctx, "sys/leases/count", map[string][]string{"type": {"irrevocable"}})
	if err != nil || secret == nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscan(fmt.Sprint(secret.Data["lease_count"]), &n)
	return n, err
}
