// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"

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

// storageRows count what a lease writes.
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
	return nil
}

// rollback is a tick of the engine's periodic work.
func rollback(ctx context.Context, p *mount) error {
	_, err := p.ask(ctx, logical.RollbackOperation, "", map[string]any{"immediate": false})
	if err != nil && strings.Contains(err.Error(), "unsupported") { // what the framework says after it: it has no WAL to look at
		return nil
	}
	return err
}

const ledgerPrefix = "ledger/"

// One user of the records that are filled in has ten keys; the others share the rest.
const (
	listedUser = "listed"
	listedKeys = 10
)

// fill adds records of an account to storage: copies of one that the engine has written, under other labels. listed of them are the
// listed user's, the others' users have a hundred each.
func (p *mount) fill(ctx context.Context, account string, n, listed int) error {
	names, err := p.storage.List(ctx, ledgerPrefix+"default/")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("the ledger has no record to copy")
	}
	entry, err := p.storage.Get(ctx, ledgerPrefix+"default/"+names[0])
	if err != nil {
		return err
	}
	var record map[string]any
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return err
	}
	label, err := keylabel.Parse(names[0])
	if err != nil {
		return err
	}
	for i := range n {
		label.Nonce = keylabel.NewID()
		record["account"], record["label"], record["access_key"] = account, label.String(), "BENCH"+keylabel.NewID()
		record["user"] = fmt.Sprintf("user-%d", i/100)
		if i < listed {
			record["user"] = listedUser
		}
		value, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if err := p.storage.Put(ctx, &logical.StorageEntry{Key: ledgerPrefix + account + "/" + label.String(), Value: value}); err != nil {
			return err
		}
	}
	return nil
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
