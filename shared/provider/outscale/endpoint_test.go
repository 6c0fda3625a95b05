// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"strings"
	"testing"
)

func TestEndpoint(t *testing.T) {
	const region = "cloudgouv-eu-west-1"
	cases := map[string]struct {
		region, endpoint string
		want             string // an address, or the reason of a refusal
		refused          bool
	}{
		"the region's own":                   {region: region, want: "https://api.cloudgouv-eu-west-1.outscale.com/api/v1"},
		"another region's own":               {region: "eu-west-2", want: "https://api.eu-west-2.outscale.com/api/v1"},
		"one that is given":                  {region, "https://api.example.com/api/v1", "https://api.example.com/api/v1", false},
		"with a slash at the end":            {region, "https://api.example.com/api/v1/", "https://api.example.com/api/v1", false},
		"with a port":                        {region, "https://api.example.com:8443/api/v1", "https://api.example.com:8443/api/v1", false},
		"behind a prefix":                    {region, "https://proxy.example.com/osc/api/v1", "https://proxy.example.com/osc/api/v1", false},
		"http on 127.0.0.1":                  {region, "http://127.0.0.1:8080/api/v1", "http://127.0.0.1:8080/api/v1", false},
		"http on another 127 address":        {region, "http://127.8.9.10/api/v1", "http://127.8.9.10/api/v1", false},
		"http on ::1":                        {region, "http://[::1]:8080/api/v1", "http://[::1]:8080/api/v1", false},
		"http on localhost":                  {region, "http://localhost:8080/api/v1", "http://localhost:8080/api/v1", false},
		"http on another host":               {region, "http://api.example.com/api/v1", "loopback", true},
		"http on a name like a loopback":     {region, "http://127.0.0.1.example.com/api/v1", "loopback", true},
		"http on a name that starts so":      {region, "http://localhost.example.com/api/v1", "loopback", true},
		"http on a private address":          {region, "http://10.0.0.1/api/v1", "loopback", true},
		"another scheme":                     {region, "ftp://127.0.0.1/api/v1", "scheme", true},
		"no scheme, as in older profiles":    {region, "api.example.com/api/v1", "https://api.example.com/api/v1", false},
		"a host alone":                       {region, "api.eu-west-2.outscale.com", "https://api.eu-west-2.outscale.com/api/v1", false},
		"a host and a port":                  {region, "api.example.com:8443", "https://api.example.com:8443/api/v1", false},
		"a loopback address without scheme":  {region, "127.0.0.1:8080/api/v1", "URL", true},
		"as OSC_ENDPOINT_API is specified":   {region, "https://api.eu-west-2.outscale.com", "https://api.eu-west-2.outscale.com/api/v1", false},
		"without a path, with a slash":       {region, "https://api.eu-west-2.outscale.com/", "https://api.eu-west-2.outscale.com/api/v1", false},
		"a mail address":                     {region, "me@api.example.com", "password", true},
		"a path alone":                       {region, "/api/v1", "URL", true},
		"a port without a host":              {region, "https://:443/api/v1", "URL", true},
		"something that is no URL":           {region, "https://[::1/api/v1", "URL", true},
		"a control character":                {region, "https://api.example.com/api/v1\n", "URL", true},
		"with half of the path":              {region, "https://api.example.com/api", "/api/v1", true},
		"behind a prefix without the path":   {region, "https://proxy.example.com/osc", "/api/v1", true},
		"with another version":               {region, "https://api.example.com/api/latest", "/api/v1", true},
		"with two slashes at the end":        {region, "https://api.example.com/api/v1//", "/api/v1", true},
		"with a query":                       {region, "https://api.example.com/api/v1?x=/api/v1", "query", true},
		"with an empty query":                {region, "https://api.example.com/api/v1?", "query", true},
		"with a fragment":                    {region, "https://api.example.com/api/v1#x", "query", true},
		"with an empty fragment":             {region, "https://api.example.com/api/v1#", "query", true},
		"with a password":                    {region, "https://me:hunter2@api.example.com/api/v1", "password", true},
		"with a password that is badly made": {region, "https://me:hunter2%zz@api.example.com/api/v1", "password", true},
		"no region, as for OUTSCALE's tools": {region: "", want: "https://api.eu-west-2.outscale.com/api/v1"},
		"a region with a dot":                {region: "eu-west-2.example.com/x", want: "region", refused: true},
		"a region in capitals":               {region: "EU-WEST-2", want: "region", refused: true},
		"a region of one word":               {region: "europe", want: "region", refused: true},
		"a region with a line break":         {region: "eu-west-2\n", want: "region", refused: true},
		"a bad region beside an endpoint":    {"eu west", "https://api.example.com/api/v1", "region", true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Endpoint(test.region, test.endpoint)
			if !test.refused {
				if err != nil || got != test.want {
					t.Errorf("got %q and error %v, want %q", got, err, test.want)
				}
				return
			}
			if err == nil || got != "" || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %q and error %v, want one about %q", got, err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
