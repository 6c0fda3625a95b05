// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// regionName is how OUTSCALE writes its regions: eu-west-2, cloudgouv-eu-west-1.
// It becomes part of a host name, so nothing else may pass.
var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// Endpoint returns the address of the API: the one given, or the region's public
// one. Plain http is for tests on the same machine only.
func Endpoint(region, endpoint string) (string, error) {
	if !regionName.MatchString(region) {
		return "", fmt.Errorf("region %q is not an OUTSCALE region: give one such as eu-west-2 or cloudgouv-eu-west-1", region)
	}
	if endpoint == "" {
		return "https://api." + region + ".outscale.com/api/v1", nil
	}
	if strings.Contains(endpoint, "@") {
		return "", fmt.Errorf("endpoint holds a user name or password: leave them out") // and do not repeat them
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return "", malformed(endpoint, "it is not a URL with a host")
	}
	switch {
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", malformed(endpoint, "plain http is accepted on loopback addresses only")
	case u.Scheme != "https" && u.Scheme != "http":
		return "", malformed(endpoint, "its scheme is not https")
	case strings.ContainsAny(endpoint, "?#"): // also empty ones: the call's name is appended
		return "", malformed(endpoint, "it has a query or a fragment")
	case !strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/api/v1"):
		return "", malformed(endpoint, "its path does not end in /api/v1, without which OUTSCALE answers 404")
	}
	return strings.TrimSuffix(endpoint, "/"), nil
}

func malformed(endpoint, why string) error {
	return fmt.Errorf("endpoint %q cannot be used: %s; give one such as https://api.eu-west-2.outscale.com/api/v1", endpoint, why)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
