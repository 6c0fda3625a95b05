// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloud

import (
	"errors"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/outscale"
)

// Environment names what FromEnvironment reads: the variables of OUTSCALE's own tools.
func Environment() []string {
	return []string{"OSC_ACCESS_KEY", "OSC_SECRET_KEY", "OSC_REGION", "OSC_ENDPOINT_API"}
}

// FromEnvironment describes the one account whose key is in the environment, for runs
// without Vault.
func FromEnvironment(getenv func(string) string) (Account, error) {
	if getenv("OSC_ACCESS_KEY") == "" {
		return Account{}, errors.New("there is neither VAULT_ADDR nor OSC_ACCESS_KEY in the environment: name a Vault, or give a key")
	}
	return Account{
		Provider: outscale.Name, Region: getenv("OSC_REGION"), Endpoint: getenv("OSC_ENDPOINT_API"),
		AccessKey: getenv("OSC_ACCESS_KEY"), Secret: provider.Secret(getenv("OSC_SECRET_KEY")), MaxRetries: defaultRetries,
	}, nil
}
