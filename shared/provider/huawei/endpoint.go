// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// regionName is how the family's clouds write their regions: cn-north-4, eu-west-101.
var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// defaultEndpoint serves the accounts of the Chinese and of the international site.
const defaultEndpoint = "https://iam.myhuaweicloud.com"

// endpoints are those of the regions that are clouds of their own. Elsewhere one global
// host serves all regions: the regional ones have only a part of the calls.
var endpoints = map[string]string{
	"eu-west-101": "https://iam.myhuaweicloud.eu",
	"eu-west-0":   "https://iam.eu-west-0.myhuaweicloud.com",
	"eu-de":       "https://iam.eu-de.otc.t-systems.com",
	"eu-nl":       "https://iam.eu-nl.otc.t-systems.com",
	"eu-ch2":      "https://iam-pub.eu-ch2.sc.otc.t-systems.com",
}

// Endpoint returns the address of the IAM API: the one given, or the public one of the
// region's cloud. Plain http is for tests on the same machine only.
func Endpoint(region, endpoint string) (string, error) {
	if !regionName.MatchString(region) {
		return "", fmt.Errorf("region %q is not a region of Huawei Cloud: give one such as ap-southeast-1, cn-north-4 or eu-west-101", region)
	}
	if endpoint == "" {
		if own, ok := endpoints[region]; ok {
			return own, nil
		}
		return defaultEndpoint, nil
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
	case strings.ContainsAny(endpoint, "?#"): // also empty ones: the call's path is appended
		return "", malformed(endpoint, "it has a query or a fragment")
	case strings.Trim(u.Path, "/") != "":
		return "", malformed(endpoint, "it has a path, such as the /v3 of an OpenStack address; the API's versions are added by themselves")
	}
	return strings.TrimRight(endpoint, "/"), nil
}

func malformed(endpoint, why string) error {
	return fmt.Errorf("endpoint %q cannot be used: %s; give one such as https://iam.eu-de.otc.t-systems.com", endpoint, why)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
