// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package azure stands for a plugin that is built into Vault 1.14. No test mounts it, and
// the SDK which it needs takes longer to compile than the rest of Vault.
package azure

import (
	"context"
	"errors"

	"github.com/hashicorp/vault/sdk/logical"
)

// Factory refuses the mount.
func Factory(context.Context, *logical.BackendConfig) (logical.Backend, error) {
	return nil, errors.New("this Vault was built for tests, without the plugin: mount another one")
}
