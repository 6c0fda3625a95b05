// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// Sizes of one run. A lease of the AWS engine takes three calls one after the other, so the runs that wait for a slow cloud are short.
const (
	oneClient   = 40
	manyClients = 400 // of which the pool has room for all, with 80 to spare
)

func (b *bench) callsPerLease(ctx context.Context, s *stage) error {
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	for _, expected := range []struct {
		engine               engine
		issue, renew, revoke float64 // 0: no bar
	}{{accessKeys, 1, 1, 2}, {iamUsers, 3, 1, 0}, {awsUsers, 0, 0, 0}} {
		const n = 20
		var ids []string
		issued, err := s.callsOf(expected.engine, func() (err error) {
			ids, _, err = s.leases(ctx, expected.engine, 1, n)
			return err
		})
		if err != nil {
			return err
		}
		renewed, err := s.callsOf(expected.engine, func() error {
			_, err := s.renew(ctx, ids, 1)
			return err
		})
		if err != nil {
			return err
		}
		revoked, err := s.callsOf(expected.engine, func() error {
			_, err := s.revoke(ctx, ids, 1)
			return err
		})
		if err != nil {
			return err
		}
		b.calls(expected.engine.name+" issue", issued, n, expected.issue)
		b.calls(expected.engine.name+" renew", renewed, n, expected.renew)
		b.calls(expected.engine.name+" revoke", revoked, n, expected.revoke)
	}
	return nil
}

func (b *bench) calls(what string, calls int64, n int, bar float64) {
	each := float64(calls) / float64(n)
	if bar == 0 {
		b.add(reported("cloud calls: "+what, number(each), each))
		return
	}
	b.add(atMost("cloud calls: "+what, bar, "", each))
}

// latencies measures one client against the floor: the calls that cannot be saved, as a client that does nothing else sees
// them, and a write of Vault's own. What leases without a cloud take shows how near to it any engine can come.
func (b *bench) latencies(ctx context.Context, s *stage, storage string) error {
	const latency = 20 * time.Millisecond
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	var writes, trips, alone []float64
	over, taken := map[engine][]float64{}, map[engine][]float64{}
	for range b.runs {
		floor, err := s.keyValues(ctx, 1, oneClient)
		if err != nil {
			return err
		}
		s.setLatency(latency)
		bare, err := s.bareCalls(ctx, oneClient)
		if err != nil {
			return err
		}
		kv, trip := milliseconds(floor.percentile(50)), milliseconds(bare.percentile(50))
		bareIssue, err := withoutServer(ctx, latency)
		if err != nil {
			return err
		}
		writes, trips, alone = append(writes, kv), append(trips, trip), append(alone, milliseconds(bareIssue)/(trip+kv))
		for _, e := range []engine{accessKeys, iamUsers, awsUsers, noCloud, noCloudRecorded} {
			s.setLatency(latency)
			ids, l, err := s.leases(ctx, e, 1, oneClient)
			if err != nil {
				return err
			}
			if err := s.cleanUp(ctx, ids); err != nil {
				return err
			}
			p50 := milliseconds(l.percentile(50))
			taken[e] = append(taken[e], p50)
			if e.series == 0 { // as if there was one call
				p50 += trip
			}
			over[e] = append(over[e], p50/(float64(max(1, e.series))*trip+kv))
		}
	}
	where := ", 20 ms cloud, 1 client, p50, storage " + storage
	const why = "The engine alone, in one process, takes %.2f x; what the client waits longer is the way through server and plugin. " +
		"An engine without a cloud that makes two durable writes, as any must that loses no key, takes %.2f x with one call added."
	b.add(atMost("access_key issue over one call and a kv write"+where, 1.15, " x", over[accessKeys]...).because(why, median(alone), median(over[noCloudRecorded])))
	b.add(atMost("iam_user issue over three calls and a kv write"+where, 1.15, " x", over[iamUsers]...).because(why, median(alone), median(over[noCloudRecorded])))
	b.add(toldOf("AWS iam_user issue over its three calls and a kv write"+where, " x", over[awsUsers]...))
	b.add(toldOf("a lease of an engine without a cloud, one call added, over the same"+where, " x", over[noCloud]...))
	b.add(toldOf("the same with two storage writes, which any engine needs that loses no key"+where, " x", over[noCloudRecorded]...))
	b.add(toldOf("an access_key issue by the engine alone, without a server, over the same, 20 ms cloud", " x", alone...))
	for _, e := range []engine{accessKeys, iamUsers, awsUsers, noCloud, noCloudRecorded} {
		b.add(toldOf(e.name+" issue"+where, " ms", taken[e]...))
	}
	b.add(toldOf("a call to the fake cloud with nothing around it"+where, " ms", trips...))
	b.add(toldOf("kv write of Vault's own, p50, storage "+storage, " ms", writes...))
	return nil
}

// warmUp makes the engines do what they do once: the users of a pool are looked at before the first is chosen.
func (s *stage) warmUp(ctx context.Context) error {
	s.setLatency(0)
	for e, n := range map[engine]int{accessKeys: poolUsers, iamUsers: 8, awsUsers: 8, noCloudRecorded: 8} {
		ids, _, err := s.leases(ctx, e, 1, n) // one by one, so that each goes to a user of its own
		if err != nil {
			return err
		}
		if err := s.cleanUp(ctx, ids); err != nil {
			return err
		}
	}
	return nil
}

// cleanUp revokes what a run has issued, as fast as it goes.
func (s *stage) cleanUp(ctx context.Context, ids []string) error {
	s.setLatency(0)
	_, err := s.revoke(ctx, ids, 32)
	s.sim.ResetCalls()
	return err
}

// throughput runs the engines one after the other at every latency and number of clients.
func (b *bench) throughput(ctx context.Context, s *stage, storage string) error {
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	for _, latency := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		for _, clients := range []int{1, 16, 64} {
			if err := b.compare(ctx, s, latency, clients, storage); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) compare(ctx context.Context, s *stage, latency time.Duration, clients int, storage string) error {
	n := manyClients
	if clients == 1 {
		n = oneClient
		if latency > 50*time.Millisecond { // a user's revoke is eight calls or more, one after the other
			n /= 4
		}
	}
	engines := []engine{accessKeys, iamUsers, awsUsers}
	if clients == 64 {
		engines = append(engines, noCloud, noCloudRecorded)
	}
	rates := map[engine][]float64{}
	p50, p99 := map[engine][]float64{}, map[engine][]float64{}
	revokes := map[engine][]float64{}
	for range b.runs {
		for _, e := range engines {
			s.setLatency(latency)
			ids, l, err := s.leases(ctx, e, clients, n)
			if err != nil {
				return err
			}
			rates[e] = append(rates[e], l.perSecond())
			p50[e] = append(p50[e], milliseconds(l.percentile(50)))
			p99[e] = append(p99[e], milliseconds(l.percentile(99)))
			ended, err := s.revoke(ctx, ids, clients)
			if err != nil {
				return err
			}
			revokes[e] = append(revokes[e], ended.perSecond())
			s.sim.ResetCalls()
		}
	}
	where := fmt.Sprintf("%d ms cloud, %d clients, storage %s", latency.Milliseconds(), clients, storage)
	for _, e := range engines {
		rate := median(rates[e])
		b.add(row{
			Measure: fmt.Sprintf("%s, %s: leases/s, p50, p99, revokes/s", e.name, where),
			Figure:  fmt.Sprintf("%.0f/s, %.1f ms, %.1f ms, %.0f/s", rate, median(p50[e]), median(p99[e]), median(revokes[e])),
			Value:   rate, Runs: rates[e],
		})
	}
	if clients == 64 {
		b.add(atLeast("leases/s over the AWS engine's, access_key, "+where, 2.5, " x", ratio(rates[accessKeys], rates[awsUsers])...).because(
			"Clients, server, plugins and clouds share the machine's processors, so that the work of a lease decides here and not its calls. "+
				"An engine without a cloud that makes two writes a lease reaches %.2f x; ours makes a call as well, and an event.", median(ratio(rates[noCloudRecorded], rates[awsUsers]))))
		b.add(atLeast("leases/s over the AWS engine's, iam_user, "+where, 1.2, " x", ratio(rates[iamUsers], rates[awsUsers])...).because(
			"Both engines make three calls one after the other, which are most of a lease where the cloud is slow."))
		b.add(toldOf("leases/s over the AWS engine's, of one without a cloud and with two writes, "+where, " x", ratio(rates[noCloudRecorded], rates[awsUsers])...))
	}
	return nil
}

// ratio pairs the runs, which were made side by side.
func ratio(a, b []float64) []float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return ratios
}

// processor compares the CPU time of the plugins' processes.
func (b *bench) processor(ctx context.Context, s *stage) error {
	const n = manyClients
	compared := []engine{accessKeys, iamUsers, awsUsers, noCloudRecorded}
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	costs := map[engine][]float64{}
	for range b.runs {
		for _, e := range compared {
			p, err := s.process(e)
			if err != nil {
				return err
			}
			before, err := p.cpu()
			if err != nil {
				return err
			}
			ids, _, err := s.leases(ctx, e, 16, n)
			if err != nil {
				return err
			}
			after, err := p.cpu()
			if err != nil {
				return err
			}
			costs[e] = append(costs[e], (after-before).Seconds()*1000/n)
			if err := s.cleanUp(ctx, ids); err != nil {
				return err
			}
		}
	}
	for _, e := range compared {
		b.add(reported("plugin CPU per 1,000 leases, "+e.name, number(median(costs[e]))+" s", median(costs[e])))
	}
	b.add(atMost("plugin CPU per 1,000 leases over the AWS engine's, access_key", 0.5, " x", ratio(costs[accessKeys], costs[awsUsers])...).because(
		"An engine without a cloud that makes two writes a lease takes %.2f x: that much is Vault's plugin protocol. The rest is a signed call and an event.", median(costs[noCloudRecorded])/median(costs[awsUsers])))
	return nil
}
