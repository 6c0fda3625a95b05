// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestPatch(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a field that is given changes and the others stay": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			before := v.read("config/default")
			v.patch("config/default", map[string]any{"max_ttl": "2h"})
			v.patch("roles/app", map[string]any{"ttl": 60})
			after := v.read("config/default")
			if after["max_ttl"] != int64(7200) {
				t.Errorf("max_ttl %v", after["max_ttl"])
			}
			for field, value := range before {
				if field != "max_ttl" && !reflect.DeepEqual(after[field], value) {
					t.Errorf("%s was %v, is %v", field, value, after[field])
				}
			}
			role := v.read("roles/app")
			if role["ttl"] != int64(60) || role["max_ttl"] != int64(3600) || !slices.Equal(role["user_names"].([]string), []string{"app"}) {
				t.Errorf("%v", role)
			}
			v.lease("app")
		},
		"null resets a field to its default, not to nothing": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_ttl=1h")
			v.write("config/default", "expiry_grace=30s", "max_ttl=1h", "request_timeout=5s", "allow_root_identity=true")
			v.patch("config/default", map[string]any{
				"expiry_grace": nil, "max_ttl": nil, "request_timeout": nil, "max_requests_per_second": nil, "max_retries": nil,
				"allow_root_identity": nil,
			})
			config := v.read("config/default")
			for field, want := range map[string]any{
				"expiry_grace": int64(60), "max_ttl": int64(0), "request_timeout": int64(15), "max_requests_per_second": 5.0,
				"max_retries": 3, "allow_root_identity": false, "region": testRegion,
			} {
				if !reflect.DeepEqual(config[field], want) {
					t.Errorf("%s: got %v, want %v", field, config[field], want)
				}
			}
			v.patch("roles/app", map[string]any{"max_ttl": nil, "credential_type": nil, "account": nil})
			if role := v.read("roles/app"); role["max_ttl"] != int64(0) || role["credential_type"] != "access_key" || role["account"] != "default" {
				t.Errorf("%v", role)
			}
		},
		"what is missing is a 404 and is not made": func(t *testing.T, v *testVault) {
			v.configure()
			for _, path := range []string{"config/nope", "roles/nope"} {
				_, err := v.send(t.Context(), logical.PatchOperation, path, map[string]any{"ttl": 60})
				var coded logical.HTTPCodedError
				if !errors.As(err, &coded) || coded.Code() != http.StatusNotFound {
					t.Fatalf("%s: %v", path, err)
				}
				mustHold(t, err.Error(), path, "does not exist")
				if resp, err := v.try(logical.ReadOperation, path); err != nil || resp != nil {
					t.Errorf("%s: %v %v", path, resp, err)
				}
			}
		},
		"key material is tried against the cloud as in a write": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRefusePatch("config/default", map[string]any{"secret_key": strings.Repeat("x", 40)}, "refuses the access key")
			v.lease("app")
			second := v.account.AddKey(cloudsim.KeySpec{})
			v.patch("config/default", map[string]any{"access_key": second.AccessKey, "secret_key": second.SecretKey})
			if got := v.read("config/default")["access_key"]; got != second.AccessKey {
				t.Errorf("access_key %v", got)
			}
			other := v.sim.AddAccount("999999999999").RootKey()
			v.mustRefusePatch("config/default", map[string]any{"access_key": other.AccessKey, "secret_key": other.SecretKey}, "in use",
				"999999999999")
		},
		"what a write refuses a patch refuses": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustRefusePatch("config/default", map[string]any{"secret_key": nil}, "access_key and secret_key are both needed")
			v.mustRefusePatch("config/default", map[string]any{"provider": nil}, "cannot be changed")
			v.mustRefusePatch("roles/app", map[string]any{"user_names": nil}, "allow_root_identity")
			v.mustRefusePatch("roles/app", map[string]any{"ttl": "2h", "max_ttl": "1h"}, "longer than max_ttl")
		},
		"a patch answers with the warnings of a write, and no secret": func(t *testing.T, v *testVault) {
			v.configure()
			warnings := strings.Join(v.patch("config/default", map[string]any{"allow_root_identity": true}), "\n")
			mustHold(t, warnings, "allow_root_identity")
			v.mustHideSecrets(warnings)
		},
		"a standby and a secondary forward it": func(t *testing.T, v *testVault) {
			v.configure()
			for _, state := range []consts.ReplicationState{consts.ReplicationPerformanceStandby, consts.ReplicationPerformanceSecondary} {
				v.system.become(state)
				if _, err := v.send(t.Context(), logical.PatchOperation, "roles/app", map[string]any{"ttl": 60}); !errors.Is(err, logical.ErrReadOnly) {
					t.Errorf("%s: %v", state.GetPerformanceString(), err)
				}
			}
		},
	})
}
