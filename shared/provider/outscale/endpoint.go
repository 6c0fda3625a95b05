// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// DefaultRegion is the one that OUTSCALE's own tools call where none is named.
const DefaultRegion = "eu-west-2"

// apiPath is the version of the API, without which OUTSCALE answers 404.
const apiPath = "/api/v1"

// Endpoint returns the address of the API: the one given, or the region's public
// one. It takes what OUTSCALE's own tools take: OSC_ENDPOINT_API has no path, and older profiles
// have no scheme. Plain http is for tests on the same machine only.
func Endpoint(region, endpoint string) (string, error) {
	region = cmp.Or(region, DefaultRegion)
	if !transport.IsRegion(region) {
		return "", fmt.Errorf("region %q is not an OUTSCALE region: give one such as eu-west-2 or cloudgouv-eu-west-1", region)
	}
	if endpoint == "" {
		return "https://api." + region + ".outscale.com" + apiPath, nil
	}
	address := endpoint
	if schemeless.MatchString(address) {
		address = "https://" + address
	}
	if err := transport.CheckEndpoint(address, "https://api.eu-west-2.outscale.com", checkPath); err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(address, "/"), apiPath) + apiPath, nil
}

// schemeless is a host with at most a port and a path.
var schemeless = regexp.MustCompile(`^[A-Za-z0-9.-]+\.[A-Za-z]+(:[0-9]+)?(/[^/].*)?/?$`)

func checkPath(path string) error {
	if trimmed := strings.TrimSuffix(path, "/"); trimmed != "" && !strings.HasSuffix(trimmed, apiPath) {
		return errors.New("its path is neither empty nor ends in /api/v1, without which OUTSCALE answers 404")
	}
	return nil
}
