// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// ProbePermissions implements provider.PermissionProber as far as the cloud lets it. It tells
// of no permission but by the call itself, so only those to read are tried: who may not
// create, change or delete learns it when that is first needed.
func (c *Client) ProbePermissions(ctx context.Context, uses ...provider.Use) []error {
	probes := map[provider.Use]func() error{
		provider.UseUsers: func() error {
			_, err := c.listUsers(ctx, "", "true")
			return err
		},
		provider.UseGroups: func() error {
			_, err := c.groupIDs(ctx)
			return err
		},
	}
	var problems []error
	for _, use := range slices.Compact(slices.Sorted(slices.Values(uses))) {
		if probe, ok := probes[use]; ok {
			if err := probe(); err != nil {
				problems = append(problems, err)
			}
		}
	}
	return problems
}
