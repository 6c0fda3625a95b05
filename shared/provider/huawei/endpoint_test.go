// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"strings"
	"testing"
)

func TestEndpoint(t *testing.T) {
	cases := map[string]struct{ region, endpoint, want string }{
		"the international site":     {"ap-southeast-1", "", "https://iam.myhuaweicloud.com"},
		"the Chinese site":           {"cn-north-4", "", "https://iam.myhuaweicloud.com"},
		"Europe":                     {"eu-west-101", "", "https://iam.myhuaweicloud.eu"},
		"a partner in Europe":        {"eu-west-0", "", "https://iam.eu-west-0.myhuaweicloud.com"},
		"Open Telekom Cloud":         {"eu-de", "", "https://iam.eu-de.otc.t-systems.com"},
		"its Swiss relative":         {"eu-ch2", "", "https://iam-pub.eu-ch2.sc.otc.t-systems.com"},
		"a regional one, given":      {"eu-west-101", "https://iam.eu-west-101.myhuaweicloud.eu", "https://iam.eu-west-101.myhuaweicloud.eu"},
		"another cloud, given":       {"eu-ch2", "https://iam-pub.eu-ch2.sc.otc.t-systems.com/", "https://iam-pub.eu-ch2.sc.otc.t-systems.com"},
		"a port":                     {"eu-ch2", "https://iam.example:8443", "https://iam.example:8443"},
		"a test on the same machine": {"eu-ch2", "http://127.0.0.1:8200", "http://127.0.0.1:8200"},
		"the same by name":           {"eu-ch2", "http://localhost:8200", "http://localhost:8200"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Endpoint(test.region, test.endpoint)
			if err != nil || got != test.want {
				t.Errorf("got %q and %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestEndpointRefusesWhatWouldGoElsewhere(t *testing.T) {
	cases := map[string]struct{ region, endpoint, want string }{
		"no region":               {"", "", "region"},
		"a region with a host":    {"eu.evil.example/", "", "region"},
		"a region in capitals":    {"EU-WEST-101", "", "region"},
		"plain http":              {"eu-west-101", "http://iam.myhuaweicloud.eu", "loopback"},
		"no scheme":               {"eu-west-101", "iam.myhuaweicloud.eu", "URL"},
		"another scheme":          {"eu-west-101", "ftp://iam.myhuaweicloud.eu", "https"},
		"a path":                  {"eu-west-101", "https://iam.eu-de.otc.t-systems.com/v3", "path"},
		"a query":                 {"eu-west-101", "https://iam.myhuaweicloud.eu?x=1", "query"},
		"a fragment":              {"eu-west-101", "https://iam.myhuaweicloud.eu#x", "fragment"},
		"a password":              {"eu-west-101", "https://user:hunter2@iam.myhuaweicloud.eu", "password"},
		"rubbish":                 {"eu-west-101", "://", "URL"},
		"a loopback that is none": {"eu-west-101", "http://127.0.0.1.evil.example", "loopback"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Endpoint(test.region, test.endpoint)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %q and %v, want an error about %s", got, err, test.want)
			}
		})
	}
}
