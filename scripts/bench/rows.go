// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
)

// Sizes of one run.
const (
	oneClient   = 60
	manyClients = 1200 // leases of which the pool has room for all, twice
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

// floors are what one run has measured of all that a lease cannot save, in milliseconds.
type floors struct {
	kv, trip float64 // a write of Vault's own; a call to the cloud, as a client that does nothing else sees it
	token    float64 // a lease of Vault's own, without a plugin: auth/token/create
	renewal  float64 // the renewal of that lease
}

func (s *stage) floors(ctx context.Context) (floors, error) {
	s.setLatency(0)
	kv, err := s.keyValues(ctx, 1, oneClient)
	if err != nil {
		return floors{}, err
	}
	tokens, created, err := s.tokens(ctx, oneClient)
	if err != nil {
		return floors{}, err
	}
	renewed, err := s.renewTokens(ctx, tokens)
	if err != nil {
		return floors{}, err
	}
	s.setLatency(cloudLatency)
	trip, err := s.bareCalls(ctx, oneClient)
	if err != nil {
		return floors{}, err
	}
	return floors{p50(kv), p50(trip), p50(created), p50(renewed)}, nil
}

func p50(l load) float64 { return milliseconds(l.percentile(50)) }

// latencies measures one client against these floors. What leases without a cloud take shows how near to them any engine can come.
func (b *bench) latencies(ctx context.Context, s *stage, storage string) error {
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	engines := []engine{accessKeys, iamUsers, awsUsers, noCloud, noCloudRecorded}
	issued, renewed := map[engine][]float64{}, map[engine][]float64{}
	var all []floors
	for range b.runs {
		f, err := s.floors(ctx)
		if err != nil {
			return err
		}
		all = append(all, f)
		for _, e := range engines {
			issue, renewal, err := s.lifeOf(ctx, e)
			if err != nil {
				return err
			}
			issued[e], renewed[e] = append(issued[e], issue), append(renewed[e], renewal)
		}
	}
	b.leaseRows(storage, all, issued)
	b.renewalRows(storage, all, renewed)
	where := where(storage)
	for _, e := range engines {
		b.add(toldOf(e.name+" issue"+where, " ms", issued[e]...))
		b.add(toldOf(e.name+" renewal"+where, " ms", renewed[e]...))
	}
	return nil
}

func where(storage string) string { return ", 20 ms cloud, 1 client, p50, storage " + storage }

// leaseRows hold an issue against one call, or three of them, a lease of Vault's own and a write.
func (b *bench) leaseRows(storage string, all []floors, issued map[engine][]float64) {
	where := where(storage)
	floorOf := func(calls float64) []float64 {
		return limitsOf(all, func(f floors) float64 { return calls*f.trip + f.token + f.kv })
	}
	least := make([]float64, len(all)) // of an engine that makes one call and two writes, and nothing else
	for i, f := range all {
		least[i] = issued[noCloudRecorded][i] + f.trip
	}
	leastOver := ratio(least, floorOf(1))
	over := ratio(issued[accessKeys], floorOf(1))
	b.add(atMost("access_key issue over one call, auth/token/create and a kv write"+where, 1.08, " x", over...).
		because("An engine that does nothing else than two durable writes, as any must that loses no key, takes %.2f x with one call added.",
			median(leastOver)).
		onPage(head{
			What: "a lease, storage " + storage + ", p50", Unit: "ms", Ours: median(issued[accessKeys]), AWS: median(issued[awsUsers]),
			Limit: median(floorOf(1)), LimitIs: "a call, a token, a write", Over: overLimit,
		}))
	b.add(toldOf("an engine that makes one call and two writes, over the same"+where, " x", leastOver...))
	b.add(toldOf("iam_user issue over three calls, auth/token/create and a kv write"+where, " x",
		ratio(issued[iamUsers], floorOf(3))...))
	b.add(toldOf("AWS iam_user issue over the same"+where, " x", ratio(issued[awsUsers], floorOf(3))...))
	b.add(toldOf("a call to the fake cloud with nothing around it"+where, " ms",
		limitsOf(all, func(f floors) float64 { return f.trip })...))
	b.add(toldOf("kv write of Vault's own"+where, " ms", limitsOf(all, func(f floors) float64 { return f.kv })...))
	b.add(toldOf("auth/token/create"+where, " ms", limitsOf(all, func(f floors) float64 { return f.token })...))
}

// renewalRows hold a renewal against one call, the server's own renewal and a write.
func (b *bench) renewalRows(storage string, all []floors, renewed map[engine][]float64) {
	where := where(storage)
	floor := limitsOf(all, func(f floors) float64 { return f.trip + f.renewal + f.kv })
	own := limitsOf(all, func(f floors) float64 { return f.renewal })
	over := ratio(renewed[accessKeys], floor)
	r := atMost("access_key renewal over one call, the server's own renewal and a kv write"+where, 1.1, " x", over...).
		because("A lease of a plugin is renewed by way of it: where the plugin does nothing at all that takes %.2f ms, and the renewal of a "+
			"token %.2f ms.",
			median(renewed[noCloud]), median(own))
	if storage == onRaft {
		r = r.onPage(head{
			What: "a renewal, storage " + storage + ", p50", Unit: "ms", Ours: median(renewed[accessKeys]),
			Limit: median(floor), LimitIs: "a call, a token's renewal, a write", Over: overLimit,
		})
	}
	b.add(r)
	b.add(toldOf("auth/token/renew"+where, " ms", own...))
}

func limitsOf(all []floors, floor func(floors) float64) []float64 {
	limits := make([]float64, len(all))
	for i, f := range all {
		limits[i] = floor(f)
	}
	return limits
}

// lifeOf issues, renews and revokes the leases of one client, and tells what the first two take.
func (s *stage) lifeOf(ctx context.Context, e engine) (issue, renewal float64, err error) {
	s.setLatency(cloudLatency)
	ids, issued, err := s.leases(ctx, e, 1, oneClient)
	if err != nil {
		return 0, 0, err
	}
	renewed, err := s.renew(ctx, ids, 1)
	if err != nil {
		return 0, 0, err
	}
	return p50(issued), p50(renewed), s.cleanUp(ctx, ids)
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

// throughput runs the engines one after the other with many clients.
func (b *bench) throughput(ctx context.Context, s *stage, storage string) error {
	const clients = 64
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	engines := []engine{accessKeys, iamUsers, awsUsers, noCloud, noCloudRecorded}
	rates, ends := map[engine][]float64{}, map[engine][]float64{}
	middle, late := map[engine][]float64{}, map[engine][]float64{}
	for range b.runs {
		for _, e := range engines {
			s.setLatency(cloudLatency)
			ids, l, err := s.leases(ctx, e, clients, manyClients)
			if err != nil {
				return err
			}
			ended, err := s.revoke(ctx, ids, clients)
			if err != nil {
				return err
			}
			s.sim.ResetCalls()
			rates[e], ends[e] = append(rates[e], l.perSecond()), append(ends[e], ended.perSecond())
			middle[e], late[e] = append(middle[e], p50(l)), append(late[e], milliseconds(l.percentile(99)))
		}
	}
	where := fmt.Sprintf("20 ms cloud, %d clients, storage %s", clients, storage)
	for _, e := range engines {
		b.add(row{
			Measure: fmt.Sprintf("%s, %s: leases/s, p50, p99, revokes/s", e.name, where),
			Figure:  fmt.Sprintf("%.0f/s, %.1f ms, %.1f ms, %.0f/s", median(rates[e]), median(middle[e]), median(late[e]), median(ends[e])),
			Value:   median(rates[e]), Runs: rates[e],
		})
	}
	keys, users := 2.0, 1.3
	if storage == onRaft {
		keys, users = 1.5, 1.15
	}
	most := ratio(rates[noCloudRecorded], rates[awsUsers])
	b.add(atLeast("leases/s over the AWS engine's, access_key, "+where, keys, " x", ratio(rates[accessKeys], rates[awsUsers])...).because(
		"Clients, server, plugins and clouds share the machine's processors, so that the work of a lease decides here and not its calls. "+
			"An engine without a cloud that makes two writes a lease reaches %.2f x; ours makes a call as well, and an event.", median(most)).
		onPage(head{
			What: fmt.Sprintf("leases of %d clients, storage %s", clients, storage), Unit: "/s", Ours: median(rates[accessKeys]),
			AWS: median(rates[awsUsers]), Limit: median(rates[noCloudRecorded]), LimitIs: "two writes, no call", Over: overAWS,
		}))
	ofUsers := atLeast("leases/s over the AWS engine's, iam_user, "+where, users, " x", ratio(rates[iamUsers], rates[awsUsers])...).because(
		"Both engines make three calls one after the other, which are most of a lease where the cloud is slow.")
	if storage == onRaft {
		ofUsers = ofUsers.onPage(head{
			What: fmt.Sprintf("the same, each with a user of its own, storage %s", storage), Unit: "/s", Ours: median(rates[iamUsers]),
			AWS: median(rates[awsUsers]), Over: overAWS,
		})
	}
	b.add(ofUsers)
	b.add(toldOf("leases/s over the AWS engine's, of one without a cloud and with two writes, "+where, " x", most...))
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
	over := ratio(costs[accessKeys], costs[awsUsers])
	b.add(atMost("plugin CPU per 1,000 leases over the AWS engine's, access_key", 0.4, " x", over...).onPage(head{
		What: "processor time of the plugin for 1,000 leases", Unit: "s", Ours: median(costs[accessKeys]), AWS: median(costs[awsUsers]),
		Limit: median(costs[noCloudRecorded]), LimitIs: "two writes, no call", Over: overAWS,
	}).because(
		"An engine without a cloud that makes two writes a lease takes %.2f x: that much is Vault's plugin protocol. The rest is a signed "+
			"call and an event.", median(costs[noCloudRecorded])/median(costs[awsUsers])))
	return nil
}
