// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// load is what a number of clients saw.
type load struct {
	took    time.Duration
	latency []time.Duration // sorted
}

// run has clients do n pieces of work, as fast as they are answered.
func run(ctx context.Context, clients, n int, work func(ctx context.Context, i int) error) (load, error) {
	orders := make(chan int)
	latency := make([]time.Duration, n)
	failures := make([]error, n)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range orders {
				started := time.Now()
				failures[i] = work(ctx, i)
				latency[i] = time.Since(started)
			}
		})
	}
	started := time.Now()
	for i := range n {
		orders <- i
	}
	close(orders)
	wg.Wait()
	took := time.Since(started)
	for _, err := range failures {
		if err != nil {
			return load{}, fmt.Errorf("one of %d requests failed: %w", n, errors.Join(err))
		}
	}
	slices.Sort(latency)
	return load{took: took, latency: latency}, nil
}

func (l load) perSecond() float64 { return float64(len(l.latency)) / l.took.Seconds() }

func (l load) percentile(p int) time.Duration {
	return l.latency[min(len(l.latency)-1, len(l.latency)*p/100)]
}

// median of several runs' figures; the machine is shared, and one run says little.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values)) // a copy: runs are paired by their order
	return sorted[len(sorted)/2]
}

// spread is how far the runs lie apart, as a part of their median.
func spread(values []float64) float64 {
	return (slices.Max(values) - slices.Min(values)) / median(values)
}
