// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"
)

// load reads a JSON entry from storage; nil where there is none.
func load[T any](ctx context.Context, s logical.Storage, path string) (*T, error) {
	raw, err := s.Get(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("reading %s from storage: %w", path, err)
	}
	if raw == nil {
		return nil, nil
	}
	var value T
	if err := json.Unmarshal(raw.Value, &value); err != nil {
		return nil, fmt.Errorf("decoding %s from storage: %w", path, err)
	}
	return &value, nil
}

// save writes a JSON entry to storage.
func save(ctx context.Context, s logical.Storage, path string, value any) error {
	entry, err := logical.StorageEntryJSON(path, value)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	if err := s.Put(ctx, entry); err != nil {
		return fmt.Errorf("writing %s to storage: %w", path, err)
	}
	return nil
}

// remove deletes an entry from storage; one that is not there is a success.
func remove(ctx context.Context, s logical.Storage, path string) error {
	if err := s.Delete(ctx, path); err != nil {
		return fmt.Errorf("deleting %s from storage: %w", path, err)
	}
	return nil
}
