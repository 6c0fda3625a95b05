// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

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
	if !transport.IsRegion(region) {
		return "", fmt.Errorf("region %q is not a region of Huawei Cloud: give one such as ap-southeast-1, cn-north-4 or eu-west-101", region)
	}
	if endpoint == "" {
		if own, ok := endpoints[region]; ok {
			return own, nil
		}
		return defaultEndpoint, nil
	}
	if err := transport.CheckEndpoint(endpoint, "https://iam.eu-de.otc.t-systems.com", checkPath); err != nil {
		return "", err
	}
	return strings.TrimRight(endpoint, "/"), nil
}

func checkPath(path string) error {
	if strings.Trim(path, "/") != "" {
		return errors.New("it has a path, such as the /v3 of an OpenStack address; the API's versions are added by themselves")
	}
	return nil
}
