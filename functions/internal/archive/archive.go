// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package archive keeps what outlives a run: its reports, and what the next run must know.
package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// Archive is a place for files: a bucket, or a directory.
type Archive interface {
	// Put stores what write writes, and returns where it stands. It is streamed: a report
	// may be larger than the function's memory.
	Put(ctx context.Context, name, contentType string, write func(io.Writer) error) (string, error)

	// Get returns what was stored; nil where there is nothing of that name.
	Get(ctx context.Context, name string) ([]byte, error)
}

// State keeps a sweep's state in an archive.
type State struct {
	Archive Archive
}

// Load implements sweep.Store.
func (s State) Load(ctx context.Context, account string) (sweep.State, error) {
	var state sweep.State
	text, err := s.Archive.Get(ctx, stateName(account))
	if err != nil || text == nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return sweep.State{}, fmt.Errorf("%s is damaged, delete it to begin anew: %w", stateName(account), err)
	}
	return state, nil
}

// Save implements sweep.Store.
func (s State) Save(ctx context.Context, account string, state sweep.State) error {
	_, err := s.Archive.Put(ctx, stateName(account), "application/json", func(w io.Writer) error {
		return json.NewEncoder(w).Encode(state)
	})
	return err
}

func stateName(account string) string { return "state/" + url.PathEscape(account) + ".json" }
