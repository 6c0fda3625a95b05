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
	manyClients = 2800 // leases, of which the pool has room for all with a fifth to spare
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

// parts are what the runs have measured of the parts of a lease, each alone, in milliseconds.
type parts struct {
	kv, trip []float64 // a write of Vault's own; a call to the cloud, as a client that does nothing else sees it
	token    []float64 // a lease of Vault's own, without a plugin: auth/token/create
	renewal  []float64 // the renewal of that lease
}

// measure adds a run.
func (p *parts) measure(ctx context.Context, s *stage) error {
	s.setLatency(0)
	kv, err := s.keyValues(ctx, 1, oneClient)
	if err != nil {
		return err
	}
	tokens, created, err := s.tokens(ctx, oneClient)
	if err != nil {
		return err
	}
	renewed, err := s.renewTokens(ctx, tokens)
	if err != nil {
		return err
	}
	s.setLatency(cloudLatency)
	trip, err := s.bareCalls(ctx, oneClient)
	if err != nil {
		return err
	}
	p.kv, p.trip = append(p.kv, p50(kv)), append(p.trip, p50(trip))
	p.token, p.renewal = append(p.token, p50(created)), append(p.renewal, p50(renewed))
	return nil
}

// lease is the parts of a lease together, of medians as all figures are.
func (p *parts) lease(calls float64) float64 {
	return calls*median(p.trip) + median(p.token) + median(p.kv)
}

func p50(l load) float64 { return milliseconds(l.percentile(50)) }

// latencies measures one client against these parts.
func (b *bench) latencies(ctx context.Context, s *stage, storage string) error {
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	engines := []engine{accessKeys, iamUsers, awsUsers, noCloud, noCloudRecorded}
	issued, renewed := map[engine][]float64{}, map[engine][]float64{}
	var alone parts
	for range b.runs {
		if err := alone.measure(ctx, s); err != nil {
			return err
		}
		for _, e := range engines {
			issue, renewal, err := s.lifeOf(ctx, e)
			if err != nil {
				return err
			}
			issued[e], renewed[e] = append(issued[e], issue), append(renewed[e], renewal)
		}
	}
	b.leaseRows(storage, &alone, issued)
	b.renewalRows(storage, &alone, renewed)
	where := where(storage)
	for _, e := range engines {
		b.add(toldOf(e.name+" issue"+where, " ms", issued[e]...))
		b.add(toldOf(e.name+" renewal"+where, " ms", renewed[e]...))
	}
	return nil
}

func where(storage string) string { return ", 20 ms cloud, 1 client, p50, storage " + storage }

// leaseRows hold an issue against one call, or three of them, a lease of Vault's own and a write.
func (b *bench) leaseRows(storage string, alone *parts, issued map[engine][]float64) {
	where := where(storage)
	ours, one, three := median(issued[accessKeys]), alone.lease(1), alone.lease(3)
	least := median(issued[noCloudRecorded]) + median(alone.trip)
	b.add(atMost("access_key issue over one call, auth/token/create and a kv write"+where, 1.08, " x", ours/one).
		because("An engine that does nothing else than two durable writes takes %.1f ms with one call added, which is %.2f x. What the other "+
			"%.1f ms of ours are, no figure explains.", least, least/one, ours-least).
		onPage(head{
			What: "a lease, storage " + storage + ", p50", Unit: "ms", Ours: ours, AWS: median(issued[awsUsers]),
			Yardstick: one, YardstickIs: "a call, a token, a write", Over: overYardstick,
		}))
	b.add(toldOf("an engine that makes one call and two writes, over the same"+where, " x", least/one))
	b.add(toldOf("iam_user issue over three calls, auth/token/create and a kv write"+where, " x", median(issued[iamUsers])/three))
	b.add(toldOf("AWS iam_user issue over the same"+where, " x", median(issued[awsUsers])/three))
	b.add(toldOf("a call to the fake cloud with nothing around it"+where, " ms", alone.trip...))
	b.add(toldOf("kv write of Vault's own"+where, " ms", alone.kv...))
	b.add(toldOf("auth/token/create"+where, " ms", alone.token...))
}

// renewalRows hold a renewal against one call, the server's own renewal and a write.
func (b *bench) renewalRows(storage string, alone *parts, renewed map[engine][]float64) {
	where := where(storage)
	ours, own := median(renewed[accessKeys]), median(alone.renewal)
	yardstick := median(alone.trip) + own + median(alone.kv)
	byPlugin := median(renewed[noCloud]) - own
	r := atMost("access_key renewal over one call, the server's own renewal and a kv write"+where, 1.1, " x", ours/yardstick).
		because("It takes %.2f ms more. A lease of a plugin is renewed by way of it, which is %.2f of them: where the plugin does nothing at "+
			"all a renewal takes %.2f ms, and that of a token %.2f. What the other %.2f ms are, no figure explains.",
			ours-yardstick, byPlugin, median(renewed[noCloud]), own, ours-yardstick-byPlugin)
	if storage == onRaft {
		r = r.onPage(head{
			What: "a renewal, storage " + storage + ", p50", Unit: "ms", Ours: ours, AWS: median(renewed[awsUsers]),
			But:       "ours moves the key's date in the cloud; AWS's makes no call, since its keys have no end there",
			Yardstick: yardstick, YardstickIs: "a call, a token's renewal, a write", Over: overYardstick,
		})
	}
	b.add(r)
	b.add(toldOf("auth/token/renew"+where, " ms", alone.renewal...))
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

// loads are what the runs have measured of an engine with many clients.
type loads struct {
	rate, ends   []float64 // leases and revocations a second
	middle, late []float64 // p50 and p99 of a lease, in milliseconds
	cpu          []float64 // of the plugin's process, in seconds for 1,000 leases
}

// measure adds a run.
func (l *loads) measure(ctx context.Context, s *stage, e engine, clients int) error {
	p, err := s.process(e)
	if err != nil {
		return err
	}
	before, err := p.cpu()
	if err != nil {
		return err
	}
	ids, issued, err := s.leases(ctx, e, clients, manyClients)
	if err != nil {
		return err
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	ended, err := s.revoke(ctx, ids, clients)
	if err != nil {
		return err
	}
	s.sim.ResetCalls()
	l.rate, l.ends = append(l.rate, issued.perSecond()), append(l.ends, ended.perSecond())
	l.middle, l.late = append(l.middle, p50(issued)), append(l.late, milliseconds(issued.percentile(99)))
	l.cpu = append(l.cpu, (after-before).Seconds()*1000/manyClients)
	return nil
}

// throughput runs the engines one after the other with many clients.
func (b *bench) throughput(ctx context.Context, s *stage, storage string) error {
	const clients = 64
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	s.setLatency(cloudLatency)
	engines := []engine{accessKeys, iamUsers, awsUsers, noCloud, noCloudRecorded}
	measured := map[engine]*loads{}
	for range b.runs {
		for _, e := range engines {
			if measured[e] == nil {
				measured[e] = &loads{}
			}
			if err := measured[e].measure(ctx, s, e, clients); err != nil {
				return err
			}
		}
	}
	where := fmt.Sprintf("20 ms cloud, %d clients, storage %s", clients, storage)
	for _, e := range engines {
		l := measured[e]
		b.add(row{
			Measure: fmt.Sprintf("%s, %s: leases/s, p50, p99, revokes/s", e.name, where),
			Figure:  fmt.Sprintf("%.0f/s, %.1f ms, %.1f ms, %.0f/s", median(l.rate), median(l.middle), median(l.late), median(l.ends)),
			Value:   median(l.rate), Runs: l.rate,
		})
		b.add(toldOf("plugin CPU per 1,000 leases, "+e.name+", "+where, " s", l.cpu...))
	}
	b.rateRows(storage, where, clients, measured)
	if storage == inMemory {
		b.processorRow(where, measured)
	}
	return nil
}

// rateRows compare the leases a second.
func (b *bench) rateRows(storage, where string, clients int, measured map[engine]*loads) {
	keys, users := 2.0, 1.3
	if storage == onRaft {
		keys, users = 1.5, 1.15
	}
	rate := func(e engine) float64 { return median(measured[e].rate) }
	b.add(atLeast("leases/s over the AWS engine's, access_key, "+where, keys, " x", rate(accessKeys)/rate(awsUsers)).
		because("%s An engine without a cloud that makes two writes a lease takes %.1f ms with as many clients.",
			callsOfTheP50(measured, accessKeys, 1), median(measured[noCloudRecorded].middle)).
		onPage(head{
			What: fmt.Sprintf("leases of %d clients, storage %s", clients, storage), Unit: "/s", Ours: rate(accessKeys),
			AWS: rate(awsUsers), Yardstick: rate(noCloudRecorded), YardstickIs: "two writes, no call", Over: overAWS,
		}))
	ofUsers := atLeast("leases/s over the AWS engine's, iam_user, "+where, users, " x", rate(iamUsers)/rate(awsUsers)).
		because("%s", callsOfTheP50(measured, iamUsers, 3))
	if storage == onRaft {
		ofUsers = ofUsers.onPage(head{
			What: fmt.Sprintf("the same, each with a user of its own, storage %s", storage), Unit: "/s", Ours: rate(iamUsers),
			AWS: rate(awsUsers), Over: overAWS,
		})
	}
	b.add(ofUsers)
	b.add(toldOf("leases/s over the AWS engine's, of one without a cloud and with two writes, "+where, " x",
		rate(noCloudRecorded)/rate(awsUsers)))
}

// callsOfTheP50 says how much of a lease the calls are, of ours and of the AWS engine's, which makes three.
func callsOfTheP50(measured map[engine]*loads, ours engine, calls int) string {
	each := milliseconds(cloudLatency)
	us, them := median(measured[ours].middle), median(measured[awsUsers].middle)
	ourCalls, theirCalls := float64(calls)*each, 3*each
	return fmt.Sprintf("The cloud takes %.0f ms of the %.1f of a lease of ours, p50, and %.0f of the AWS engine's %.1f. What the other %.1f ms and "+
		"%.1f ms are, no figure explains: clients, server, plugins and clouds share the machine's processors.",
		ourCalls, us, theirCalls, them, us-ourCalls, them-theirCalls)
}

// processorRow compares the CPU time of the plugins' processes.
func (b *bench) processorRow(where string, measured map[engine]*loads) {
	cost := func(e engine) float64 { return median(measured[e].cpu) }
	ours, aws, least := cost(accessKeys), cost(awsUsers), cost(noCloudRecorded)
	b.add(atMost("plugin CPU per 1,000 leases over the AWS engine's, access_key, "+where, 0.4, " x", ours/aws).
		because("An engine without a cloud that makes two writes a lease takes %.2f s, which is %.2f x: Vault's plugin protocol and these writes. "+
			"What the other %.2f s of ours are, no figure explains; make bench-profile shows where they go.", least, least/aws, ours-least).
		onPage(head{
			What: "processor time of the plugin for 1,000 leases of many clients, storage " + inMemory, Unit: "s", Ours: ours, AWS: aws,
			Yardstick: least, YardstickIs: "two writes, no call", Over: overAWS,
		}))
}
