// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

// huaweiOperations are all that the engine does on Huawei Cloud.
func huaweiOperations() []operation {
	return slices.Concat(leaseOperations(), userOperations(), sessionOperations(), keyOperations(), rotationOperations(),
		staticOperations(), configOperations())
}

func faultyHuawei() *faultyCloud {
	return &faultyCloud{
		name:      clouds.Huawei,
		mount:     newHuaweiVault,
		neverEnds: true,
		configure: func(s *scene) {
			s.t.Helper()
			s.addUser("app-2") // a user has room for two keys, and what a fault leaves takes it for minutes
			s.addUser("long")
			s.write("config/default", s.accountFields()...)
			s.write("roles/app", "user_names=app,app-2", "ttl="+sceneTTL.String(), "max_ttl=1h")
			s.write("roles/long", "user_names=long", "ttl=3h")
		},
		call: faulttest.HuaweiCall,
		refusals: []refusal{
			huaweiRefusal("denied", 403, "IAM.0002"),
			huaweiRefusal("invalid", 400, "IAM.0011"),
			huaweiRefusal("conflict", 409, "IAM.0006"),
			huaweiRefusal("not found", 404, "IAM.0004"),
			huaweiRefusal("the key is refused", 401, "APIGW.0301"),
			huaweiRefusal("throttled (429)", 429, "APIGW.0308"),
			huaweiRefusal("throttled (503)", 503, "APIGW.0308"),
			huaweiRefusal("a 500 of the API", 500, "IAM.0006"),
		},
		users:      (*testVault).userLabels,
		operations: huaweiOperations(),
		sign: func(s *scene, data map[string]any) error {
			config := s.liveAccess(clouds.Huawei)
			config.Region, config.DomainID = "ap-southeast-1", s.domain.ID()
			config.AccessKey, config.SecretKey = data["access_key"].(string), provider.Secret(data["secret_key"].(string))
			if token, ok := data["security_token"].(string); ok {
				config.SecurityToken = provider.Secret(token)
			}
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

func huaweiRefusal(name string, status int, code string) refusal {
	return refusal{name: name, status: status, body: `{"error_msg":"injected","error_code":"` + code + `"}`}
}
