// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	manyRecords = 100_000
	fewRecords  = 1_000
)

// cloudLatency is what the fake clouds take for a call where a client's wait is measured.
const cloudLatency = 20 * time.Millisecond

// indexRows measure what the ledger's index takes of time and memory where many keys are out. The storage is this process's memory, behind
// the plugin protocol, so that it holds the records at once.
func (b *bench) indexRows(ctx context.Context, bin string) error {
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20)) // one user can have all keys
	server := httptest.NewServer(sim)
	defer server.Close()
	m, err := newInProcess(ctx, sim, server.URL)
	if err != nil {
		return err
	}
	if _, err := m.ask(ctx, logical.ReadOperation, "creds/app", nil); err != nil { // a record to copy
		return err
	}
	few, err := m.filled(ctx, fewRecords, listedKeys)
	if err != nil {
		return err
	}
	fewLists, err := few.listOfOne(ctx)
	if err != nil {
		return err
	}
	many, err := few.filled(ctx, manyRecords-fewRecords, 0)
	if err != nil {
		return err
	}
	if err := b.indexMemory(ctx, many); err != nil {
		return err
	}
	manyLists, err := many.listOfOne(ctx)
	if err != nil {
		return err
	}
	many.backend.Cleanup(ctx)
	b.add(atMost(fmt.Sprintf("LIST keys?user= of a user with ten keys, %d records over %d, p50", manyRecords, fewRecords), 2, " x",
		milliseconds(manyLists)/milliseconds(fewLists)))
	defer sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: cloudLatency})()
	return b.restarts(ctx, bin, many.storage)
}

// filled is a new process on a mount's storage, with more records.
func (p *mount) filled(ctx context.Context, records, listed int) (*mount, error) {
	if err := p.fill(ctx, "default", records, listed); err != nil {
		return nil, err
	}
	p.backend.Cleanup(ctx)
	return inProcessOn(ctx, p.storage)
}

// listOfOne is the p50 of a list of one user's keys, from an index that is filled.
func (p *mount) listOfOne(ctx context.Context) (time.Duration, error) {
	l, err := run(ctx, 1, 200, func(ctx context.Context, _ int) error {
		resp, err := p.ask(ctx, logical.ListOperation, "keys/", map[string]any{"user": listedUser})
		if err != nil {
			return err
		}
		if keys, _ := resp.Data["keys"].([]string); len(keys) != listedKeys {
			return fmt.Errorf("user %s is listed with %d keys, not %d", listedUser, len(keys), listedKeys)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return l.percentile(50), nil
}

// indexMemory weighs the index by what it adds to the heap.
func (b *bench) indexMemory(ctx context.Context, p *mount) error {
	before := heap()
	if _, err := p.ask(ctx, logical.ReadOperation, "creds/capped", nil); err != nil {
		return err
	}
	after := heap()
	runtime.KeepAlive(p)
	b.add(atMost(fmt.Sprintf("memory of the index at %d records", manyRecords), 40, " MB", float64(after-before)/1e6))
	return nil
}

// heap is what lives in this process's heap.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // the first only empties pools into their second half
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// restarts measure the first leases of a new process beside those that follow, and beside a plugin that does nothing else than read
// all records through its storage.
func (b *bench) restarts(ctx context.Context, bin string, storage *countingStorage) error {
	var uncapped, usual, capped, bare []float64
	for range b.runs {
		one, err := firstLease(ctx, bin, storage, "creds/app")
		if err != nil {
			return err
		}
		other, err := firstLease(ctx, bin, storage, "creds/capped")
		if err != nil {
			return err
		}
		read, err := bareRead(ctx, bin, storage)
		if err != nil {
			return err
		}
		uncapped, usual = append(uncapped, one.first), append(usual, one.usual)
		capped, bare = append(capped, other.first), append(bare, read)
	}
	after := fmt.Sprintf("after a restart with %d records: first ", manyRecords)
	b.add(atMost(after+"lease without a cap, over a lease, 20 ms cloud", 1.5, " x", median(uncapped)/median(usual)).because(
		"It takes %.1f ms more than the %.1f of a lease. The cloud takes %.0f of them for a second call, once after a restart, which lists the "+
			"account's users: a name that is another user since the role was written gets no key. What the other %.1f ms are, no figure explains.",
		median(uncapped)-median(usual), median(usual), milliseconds(cloudLatency), median(uncapped)-median(usual)-milliseconds(cloudLatency)))
	first, read := median(capped)/1000, median(bare)/1000
	r := atMost(after+"lease with a cap, over a bare read of all records", 1.2, " x", first/read).because(
		"Of %.1f s the reading is %.1f. In the other %.1f s the records are decoded, and the index is built by which a role's keys are counted: "+
			"no figure tells how much is which.", first, read, first-read)
	b.add(r.onPage(head{
		What: fmt.Sprintf("first lease of a capped role after a restart, %d keys leased", manyRecords), Unit: "s", Ours: first,
		But: "the plugin's process without a server, storage a map in memory", Over: overYardstick,
		Yardstick: read, YardstickIs: "a plugin that reads all records, one after the other",
	}))
	return nil
}

// firsts are the times of a process's first lease and of those after it, in milliseconds.
type firsts struct{ first, usual float64 }

func firstLease(ctx context.Context, bin string, storage *countingStorage, path string) (firsts, error) {
	h, err := startHost(ctx, filepath.Join(bin, pluginFile), storage)
	if err != nil {
		return firsts{}, err
	}
	defer h.stop(ctx)
	lease := func(ctx context.Context, _ int) error {
		_, err := h.ask(ctx, logical.ReadOperation, path, nil)
		return err
	}
	first, err := run(ctx, 1, 1, lease)
	if err != nil {
		return firsts{}, err
	}
	usual, err := run(ctx, 1, oneClient, lease)
	if err != nil {
		return firsts{}, err
	}
	return firsts{milliseconds(first.percentile(50)), milliseconds(usual.percentile(50))}, nil
}

// bareRead is how long the plugin that does nothing takes to read all records, in milliseconds.
func bareRead(ctx context.Context, bin string, storage *countingStorage) (float64, error) {
	h, err := startHost(ctx, filepath.Join(bin, nullFile), storage)
	if err != nil {
		return 0, err
	}
	defer h.stop(ctx)
	started := time.Now()
	if _, err := h.ask(ctx, logical.ReadOperation, "records", map[string]any{"prefix": ledgerPrefix}); err != nil {
		return 0, err
	}
	return milliseconds(time.Since(started)), nil
}
