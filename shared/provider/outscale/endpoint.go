// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// Endpoint returns the address of the API: the one given, or the region's public
// one. Plain http is for tests on the same machine only.
func Endpoint(region, endpoint string) (string, error) {
	if !transport.IsRegion(region) {
		return "", fmt.Errorf("region %q is not an OUTSCALE region: give one such as eu-west-2 or cloudgouv-eu-west-1", region)
	}
	if endpoint == "" {
		return "https://api." + region + ".outscale.com/api/v1", nil
	}
	if err := transport.CheckEndpoint(endpoint, "https://api.eu-west-2.outscale.com/api/v1", checkPath); err != nil {
		return "", err
	}
	return strings.TrimSuffix(endpoint, "/"), nil
}

func checkPath(path string) error {
	if !strings.HasSuffix(strings.TrimSuffix(path, "/"), "/api/v1") {
		return errors.New("its path does not end in /api/v1, without which OUTSCALE answers 404")
	}
	return nil
}
