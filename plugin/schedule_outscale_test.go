// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"path"
	"slices"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// faultyCloud is a cloud as the fault schedules see it.
type faultyCloud struct {
	name       string
	mount      func(t *testing.T) *testVault
	configure  func(s *scene)                            // account "default", leasing roles "app" and "long"
	call       func(req *http.Request) string            // the name of a call
	refusals   []refusal                                 // how it says no
	users      func(v *testVault) map[string]string      // label by name of those that this software made
	sign       func(s *scene, data map[string]any) error // nil where it knows the leased key
	neverEnds  bool                                      // its keys work on after their expiration date, until they are deleted
	operations []operation
}

// faultyClouds are those that the schedules run on.
func faultyClouds() []*faultyCloud {
	outscale, huawei := faultyOutscale(), faultyHuawei()
	return []*faultyCloud{outscale, outscale.overGRPC(), huawei, huawei.overGRPC()}
}

// overGRPC is the same cloud with the engine behind a plugin's wire.
func (c *faultyCloud) overGRPC() *faultyCloud {
	wired := *c
	wired.name += " over gRPC"
	wired.operations = wireOperations(slices.Clone(c.operations))
	wired.mount = func(t *testing.T) *testVault {
		v := c.mount(t)
		v.overGRPC = true
		return v
	}
	return &wired
}

// keys are all that are in the cloud. Where it does not end them, their date is the one that
// the engine has written beside the label.
func (c *faultyCloud) keys(v *testVault) (keys []provider.Key) {
	for _, k := range v.keys() {
		keys = append(keys, provider.Key{
			ID: k.ID, User: k.User, Label: k.Tag, Active: k.State == cloudsim.Active, Created: k.Created,
			Expires: k.Expires,
		})
	}
	return keys
}

// whetherKnown tells whether the cloud knows the key that made a call: also where it says
// what the key's user may not do.
func whetherKnown(err error) error {
	if provider.KindOf(err) == provider.KindDenied {
		return nil
	}
	return err
}

func faultyOutscale() *faultyCloud {
	return &faultyCloud{
		name:  clouds.Outscale,
		mount: newTestVault,
		configure: func(s *scene) {
			s.t.Helper()
			s.write("config/default", s.accountFields()...)
			s.write("roles/app", "user_names=app", "ttl="+sceneTTL.String(), "max_ttl=1h")
			s.write("roles/long", "user_names=app", "ttl=3h")
		},
		call: func(req *http.Request) string { return path.Base(req.URL.Path) },
		refusals: []refusal{
			outscaleRefusal("denied", 401, "AccessDenied", "7"),
			outscaleRefusal("invalid", 400, "InvalidParameterValue", "4110"),
			outscaleRefusal("conflict", 409, "ResourceConflict", "9018"),
			outscaleRefusal("the key is refused", 401, "AccessDenied", "1"),
			outscaleRefusal("the key is unclear (4120)", 400, "InvalidParameterValue", "4120"),
			outscaleRefusal("throttled (429)", 429, "AccessDenied", "24"),
			outscaleRefusal("throttled (503)", 503, "ServiceUnavailable", "6"),
			outscaleRefusal("a 500 of the API", 500, "InternalError", "2000"),
		},
		users:      (*testVault).userLabels,
		operations: outscaleOperations(),
		sign: func(s *scene, data map[string]any) error {
			config := s.liveAccess(clouds.Outscale)
			config.Region, config.Endpoint = testRegion, testEndpoint
			config.AccessKey, config.SecretKey = data["access_key"].(string), provider.Secret(data["secret_key"].(string))
			client, err := clouds.Open(config)
			if err != nil {
				return err
			}
			defer client.Close()
			_, err = client.OwnKey(s.t.Context())
			return whetherKnown(err)
		},
	}
}

func outscaleRefusal(name string, status int, errorType, code string) refusal {
	return refusal{name: name, status: status, body: `{"Errors":[{"Type":"` + errorType + `","Details":"","Code":"` + code +
		`"}],"ResponseContext":{"RequestId":"injected"}}`}
}
