// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// instancePath holds the id of this instance of the engine, in local storage: a
// performance secondary is an instance of its own.
const (
	instancePrefix = "instance/"
	instancePath   = instancePrefix + "id"
)

type instance struct {
	ID string `json:"id"`
}

// instanceID returns the id that stands in the label of every key this engine
// makes. It is made once and never changes: clean-up recognises its own keys by
// it, and never touches those of another mount, another Vault or a person.
func (b *backend) instanceID(ctx context.Context, s logical.Storage) (string, error) {
	b.instanceLock.Lock()
	defer b.instanceLock.Unlock()
	if b.instance != "" {
		return b.instance, nil
	}
	stored, err := load[instance](ctx, s, instancePath)
	if err != nil {
		return "", err
	}
	if stored == nil {
		stored = &instance{ID: keylabel.NewID()}
		if err := save(ctx, s, instancePath, stored); err != nil {
			return "", fmt.Errorf("storing the instance id: %w", err)
		}
	}
	b.instance = stored.ID
	return b.instance, nil
}

// isOurs tells whether a key was made by the instance.
func isOurs(key provider.Key, instance string) bool {
	label, err := keylabel.Parse(key.Label)
	return err == nil && label.Instance == instance
}
