// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// countingStorage counts what a server would write to disk.
type countingStorage struct {
	logical.Storage
	writes atomic.Int64
	reads  atomic.Int64
}

func (c *countingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	c.writes.Add(1)
	return c.Storage.Put(ctx, entry)
}

func (c *countingStorage) Delete(ctx context.Context, key string) error {
	c.writes.Add(1)
	return c.Storage.Delete(ctx, key)
}

func (c *countingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	c.reads.Add(1)
	return c.Storage.Get(ctx, key)
}

// storageRows count writes, and time the periodic work over a large ledger.
func (b *bench) storageRows(ctx context.Context) error {
	sim := cloudsim.New(cloudsim.WithQuota(1 << 20)) // one user has all keys
	server := httptest.NewServer(sim)
	defer server.Close()
	p, err := newInProcess(ctx, sim, server.URL)
	if err != nil {
		return err
	}
	defer p.backend.Cleanup(ctx)
	if _, err := p.ask(ctx, logical.ReadOperation, "creds/app", nil); err != nil { // the first makes the instance's id
		return err
	}
	const n = 20
	before := p.storage.writes.Load()
	for range n {
		if _, err := p.ask(ctx, logical.ReadOperation, "creds/app", nil); err != nil {
			return err
		}
	}
	b.add(atMost("storage writes of the engine, per access_key lease issued", 2, "", float64(p.storage.writes.Load()-before)/n))
	return b.periodic(ctx, p)
}

// periodic times the engine's periodic work with many entries in the ledger, none of them due.
func (b *bench) periodic(ctx context.Context, p *inProcess) error {
	const entries = 100000
	if err := p.fillLedger(ctx, entries); err != nil {
		return err
	}
	const ticks = 3
	var longest time.Duration
	before, err := ownCPU()
	if err != nil {
		return err
	}
	for range ticks {
		started := time.Now()
		if _, err := p.ask(ctx, logical.RollbackOperation, "", map[string]any{"immediate": false}); err != nil && !strings.Contains(err.Error(), "unsupported") {
			return err
		}
		longest = max(longest, time.Since(started))
	}
	after, err := ownCPU()
	if err != nil {
		return err
	}
	b.add(atMost(fmt.Sprintf("periodic work with %d ledger entries, CPU a minute", entries), 1, " s", (after-before).Seconds()/ticks))
	b.add(atMost("periodic work: longest tick", 10, " s", longest.Seconds()))
	return nil
}

// fillLedger copies an entry that the engine wrote under other keys' labels.
func (p *inProcess) fillLedger(ctx context.Context, n int) error {
	const ledger = "ledger/default/"
	names, err := p.storage.List(ctx, ledger)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("the ledger has no entry at %s to copy", ledger)
	}
	entry, err := p.storage.Get(ctx, ledger+names[0])
	if err != nil {
		return err
	}
	var record map[string]any
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return err
	}
	for i := range n {
		label, err := keylabel.Parse(names[0])
		if err != nil {
			return err
		}
		label.Nonce = keylabel.NewID()
		record["label"], record["access_key"] = label.String(), fmt.Sprintf("BENCH%015d", i)
		record["user"] = fmt.Sprintf("app-%d", i%1000)
		value, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if err := p.storage.Put(ctx, &logical.StorageEntry{Key: ledger + label.String(), Value: value}); err != nil {
			return err
		}
	}
	return nil
}

// ownCPU is the time that this process has spent on a processor.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// binarySize is a row of the plugin's file.
func (b *bench) binarySize(plugin string) error {
	info, err := os.Stat(plugin)
	if err != nil {
		return err
	}
	b.add(atMost("plugin binary, stripped", 33, " MB", float64(info.Size())/1e6))
	return nil
}
