// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"path"
	"slices"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/outscale"
)

// faultyCloud is a cloud as the fault schedules see it.
type faultyCloud struct {
	name       string
	mount      func(t *testing.T) *testVault
	configure  func(s *scene)                                 // account "default", leasing roles "app" and "long"
	call       func(req *http.Request) string                 // the name of a call
	refusals   []refusal                                      // how it says no
	keys       func(v *testVault) []provider.Key              // all that are in it
	users      func(v *testVault) map[string]string           // label by name of those that this software made
	sign       func(s *scene, accessKey, secret string) error // nil where it knows the key
	operations []operation
	inRealTime bool
}

// faultyClouds are those that the schedules run on.
func faultyClouds() []*faultyCloud {
	inProcess := faultyOutscale()
	inProcess.operations = outscaleOperations()
	overGRPC := faultyOutscale()
	overGRPC.name += " over gRPC"
	overGRPC.inRealTime, overGRPC.operations = true, wireOperations()
	overGRPC.mount = func(t *testing.T) *testVault {
		v := newTestVault(t)
		v.overGRPC = true
		return v
	}
	return []*faultyCloud{inProcess, overGRPC}
}

func faultyOutscale() *faultyCloud {
	return &faultyCloud{
		name:  outscale.Name,
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
		keys: func(v *testVault) (keys []provider.Key) {
			for _, k := range v.account.Keys() {
				keys = append(keys, provider.Key{ID: k.ID, User: k.User, Label: k.Tag, Active: k.State == "ACTIVE", Created: k.Created, Expires: k.Expires})
			}
			return keys
		},
		users: (*testVault).userLabels,
		sign: func(s *scene, accessKey, secret string) error {
			config := outscaleConfig(newAccountConfig(), "test", s.live)
			config.Region, config.Endpoint = testRegion, testEndpoint
			config.AccessKey, config.SecretKey = accessKey, provider.Secret(secret)
			client, err := outscale.New(config)
			if err != nil {
				return err
			}
			if _, err = client.OwnKey(s.t.Context()); provider.KindOf(err) == provider.KindDenied {
				return nil // it knows the key well enough to say what its user may not do
			}
			return err
		},
	}
}

func outscaleRefusal(name string, status int, errorType, code string) refusal {
	slow := slices.Contains([]string{"1", "4120", "24", "6"}, code)
	return refusal{slow: slow, name: name, status: status, body: `{"Errors":[{"Type":"` + errorType + `","Details":"","Code":"` + code + `"}],"ResponseContext":{"RequestId":"injected"}}`}
}
