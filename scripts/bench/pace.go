// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// paceRows measure leases that come at once, at a cloud that takes few calls a second, from an engine whose pace is set to more.
func (b *bench) paceRows(ctx context.Context) error {
	const (
		together = 15
		takes    = 5 // calls a second
		rounds   = 5
		set      = "200"
	)
	ideal := time.Duration(together-takes) * time.Second / takes // the cloud lets as many pass at once as it takes in a second
	var over []float64
	var took time.Duration
	for range rounds {
		one, err := throttledLeases(ctx, together, takes, set)
		if err != nil {
			return err
		}
		over, took = append(over, one.Seconds()/ideal.Seconds()), max(took, one)
	}
	worst := over[0]
	for _, o := range over {
		worst = max(worst, o)
	}
	what := fmt.Sprintf("%d leases at once, a cloud that takes %d calls a second", together, takes)
	r := atMost(what+", a pace of "+set+": all served, the slowest of five rounds over the ideal "+ideal.String(), 1.3, " x", worst).because(
		"A call that the cloud throttles is sent again after a pause that is random, so that one round of five may end later: their median "+
			"is %.2f x.", median(over))
	r.Runs = over
	b.add(r.onPage(head{
		What: what + ": all served", Unit: "s", Ours: took.Seconds(), Over: overYardstick,
		Yardstick: ideal.Seconds(), YardstickIs: "computed: the cloud's pace",
		But: "the slowest of five rounds, in one process without a server, no wait of 20 ms",
	}))
	return nil
}

// throttledLeases is how long it takes until all of them are served, by a new process.
func throttledLeases(ctx context.Context, together, takes int, set string) (time.Duration, error) {
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20))
	server := httptest.NewServer(sim)
	defer server.Close()
	p, err := newInProcess(ctx, sim, server.URL)
	if err != nil {
		return 0, err
	}
	defer p.backend.Cleanup(ctx)
	if _, err := p.ask(ctx, logical.UpdateOperation, "config/default", map[string]any{"max_requests_per_second": set}); err != nil {
		return 0, err
	}
	sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: float64(takes)})
	l, err := run(ctx, together, together, func(ctx context.Context, _ int) error {
		_, err := p.ask(ctx, logical.ReadOperation, "creds/app", nil)
		return err
	})
	return l.took, err
}
