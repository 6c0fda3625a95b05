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
)

// Archive is a place for files: a bucket, or a directory.
type Archive interface {
	// Put stores what write writes, and returns where it stands. It is streamed: a report
	// may be larger than the function's memory.
	Put(ctx context.Context, name, contentType string, write func(io.Writer) error) (string, error)

	// Get returns what was stored; nil where there is nothing of that name.
	Get(ctx context.Context, name string) ([]byte, error)
}

// State keeps a function's state of each account in an archive. It implements fleet.Store.
type State[S any] struct {
	Archive Archive
	Folder  string // ends in /
}

// Load returns the zero state where there is none yet.
func (s State[S]) Load(ctx context.Context, account string) (state S, err error) {
	text, err := s.Archive.Get(ctx, s.name(account))
	if err != nil || text == nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		var none S
		return none, fmt.Errorf("%s is damaged, delete it to begin anew: %w", s.name(account), err)
	}
	return state, nil
}

// Save replaces an account's state.
func (s State[S]) Save(ctx context.Context, account string, state S) error {
	_, err := s.Archive.Put(ctx, s.name(account), "application/json", func(w io.Writer) error {
		return json.NewEncoder(w).Encode(state)
	})
	return err
}

func (s State[S]) name(account string) string { return s.Folder + url.PathEscape(account) + ".json" }
