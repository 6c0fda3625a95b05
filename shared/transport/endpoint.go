// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// regionName is how clouds write their regions: eu-west-2, cloudgouv-eu-west-1, eu-de.
var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// IsRegion tells whether a text can be a region's name. It becomes part of a host name, so
// nothing else may pass.
func IsRegion(name string) bool { return regionName.MatchString(name) }

// CheckEndpoint says why an address of an API, as an operator gave it, cannot be used; nil: it can.
// Plain http is for tests on the same machine only. What a path must look like differs from cloud
// to cloud, as the example does that the error gives.
func CheckEndpoint(endpoint, example string, checkPath func(path string) error) error {
	if strings.Contains(endpoint, "@") {
		return errors.New("endpoint holds a user name or password: leave them out") // and do not repeat them
	}
	if err := checkAddress(endpoint, checkPath); err != nil {
		return fmt.Errorf("endpoint %q cannot be used: %w; give one such as %s", endpoint, err, example)
	}
	return nil
}

func checkAddress(endpoint string, checkPath func(path string) error) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "":
		return errors.New("it is not a URL with a host")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("plain http is accepted on loopback addresses only")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("its scheme is not https")
	case strings.ContainsAny(endpoint, "?#"): // also empty ones: the call's path is appended
		return errors.New("it has a query or a fragment")
	default:
		return checkPath(u.Path)
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
