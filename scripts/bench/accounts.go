// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const manyAccounts = 2000

// accountRows measure the periodic work for many accounts and records, of which none is due. The policy of every account is read
// each five minutes, and so by the first ticks of a process: a fifth of what they take without records is a minute's.
func (b *bench) accountRows(ctx context.Context, bin string) error {
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20))
	server := httptest.NewServer(sim)
	defer server.Close()
	m, err := newInProcess(ctx, sim, server.URL)
	if err != nil {
		return err
	}
	defer m.backend.Cleanup(ctx)
	if err := m.copyAccount(ctx, manyAccounts); err != nil {
		return err
	}
	h, policies, longestOfPolicies, err := settled(ctx, bin, m.storage, sim)
	if err != nil {
		return err
	}
	h.stop(ctx)
	if _, err := m.ask(ctx, logical.ReadOperation, "creds/app", nil); err != nil { // a record to copy
		return err
	}
	for i := range manyAccounts {
		if err := m.fill(ctx, accountName(i), manyRecords/manyAccounts, 0); err != nil {
			return err
		}
	}
	h, index, longestOfIndex, err := settled(ctx, bin, m.storage, sim)
	if err != nil {
		return err
	}
	defer h.stop(ctx)
	var quiet []float64
	var longest time.Duration
	for range 3 * b.runs {
		spent, took, err := h.tick(ctx)
		if err != nil {
			return err
		}
		quiet, longest = append(quiet, spent.Seconds()), max(longest, took)
	}
	what := fmt.Sprintf("periodic work for %d accounts and %d records", manyAccounts, manyRecords)
	b.add(toldOf(what+": CPU of the first ticks, which read all policies, without records", " s", policies.Seconds()))
	b.add(toldOf(what+": CPU of the first ticks, which fill the index", " s", index.Seconds()))
	b.add(toldOf(what+": CPU of a tick in which nothing is due", " s", quiet...))
	b.add(atMost(what+", CPU a minute", 0.5, " s", median(quiet)+policies.Seconds()/5).because(
		"%.2f s of it are the calls that read the policies of %d accounts, each every five minutes.", policies.Seconds()/5, manyAccounts))
	b.add(atMost("periodic work: longest tick in which nothing is due", 10, " s", longest.Seconds()))
	// The engine gives a tick ten seconds, and eight more for what must not wait.
	b.add(atMost("periodic work: longest of a process's first ticks", 18, " s", max(longestOfPolicies, longestOfIndex).Seconds()))
	return nil
}

// settled is a new process after its first ticks, with what they took of the processor, and the longest of them of time: all is done
// when a tick reads little and calls no cloud. One ends after ten seconds, with an error of what it has not come to.
func settled(
	ctx context.Context, bin string, storage *countingStorage, sim *cloudsim.Cloud,
) (h *host, spent, longest time.Duration, err error) {
	if h, err = startHost(ctx, filepath.Join(bin, pluginFile), storage); err != nil {
		return nil, 0, 0, err
	}
	for busy := true; busy; {
		calls, reads := len(sim.Calls()), storage.reads.Load()
		one, took, err := h.tick(ctx)
		if ctx.Err() != nil {
			h.stop(ctx)
			return nil, 0, 0, ctx.Err()
		}
		spent, longest = spent+one, max(longest, took)
		busy = err != nil || len(sim.Calls()) > calls || storage.reads.Load() > reads+manyAccounts
	}
	return h, spent, longest, nil
}

func accountName(i int) string { return fmt.Sprintf("account-%04d", i) }

// copyAccount stores the configured account under other names, as many operators would write it.
func (p *mount) copyAccount(ctx context.Context, n int) error {
	for i := range n {
		entry, err := p.storage.Get(ctx, "config/default")
		if err != nil {
			return err
		}
		entry.Key = "config/" + accountName(i)
		if err := p.storage.Put(ctx, entry); err != nil {
			return err
		}
	}
	return nil
}

// tick is one run of the periodic work: what it takes of the processor, and of time.
func (h *host) tick(ctx context.Context) (spent, took time.Duration, err error) {
	before, err := h.process.cpu()
	if err != nil {
		return 0, 0, err
	}
	started := time.Now()
	failed := rollback(ctx, &h.mount)
	took = time.Since(started)
	after, err := h.process.cpu()
	return after - before, took, errors.Join(failed, err)
}
