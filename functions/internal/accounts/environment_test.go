// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package accounts

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestTheAccountOfTheEnvironment(t *testing.T) {
	onOutscale := map[string]string{
		"OSC_ACCESS_KEY": "AK", "OSC_SECRET_KEY": "SK", "OSC_REGION": "eu-west-2", "OSC_ENDPOINT_API": "https://api.example.com/api/v1",
	}
	onHuawei := map[string]string{
		"HUAWEICLOUD_SDK_AK": "AK", "HUAWEICLOUD_SDK_SK": "SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN": "ST", "HUAWEICLOUD_SDK_DOMAIN_ID": "d0",
		"HUAWEICLOUD_SDK_REGION": "eu-west-101", "HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://iam.example.com",
	}
	cases := map[string]struct {
		env  map[string]string
		want fleet.Account
		says string // in the error; empty: accepted
	}{
		"one of OUTSCALE": {onOutscale, fleet.Account{Name: "environment", Config: provider.Config{
			Provider: "outscale", Region: "eu-west-2", Endpoint: "https://api.example.com/api/v1", AccessKey: "AK", SecretKey: "SK",
			MaxRetries: clouds.DefaultMaxRetries,
		}}, ""},
		"one of Huawei Cloud, by a temporary key": {onHuawei, fleet.Account{Name: "environment", Config: provider.Config{
			Provider: "huawei", Region: "eu-west-101", Endpoint: "https://iam.example.com", DomainID: "d0", AccessKey: "AK", SecretKey: "SK",
			SecurityToken: "ST",
			MaxRetries:    clouds.DefaultMaxRetries,
		}}, ""},
		"none":                      {nil, fleet.Account{}, "HUAWEICLOUD_SDK_AK"},
		"both":                      {map[string]string{"OSC_ACCESS_KEY": "AK", "HUAWEICLOUD_SDK_AK": "AK"}, fleet.Account{}, "leave one out"},
		"Huawei without its region": {map[string]string{"HUAWEICLOUD_SDK_AK": "AK"}, fleet.Account{}, "HUAWEICLOUD_SDK_REGION is empty"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := FromEnvironment(environment(test.env))
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, want %q in it", err, test.says)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v and error %v, want %+v", got, err, test.want)
			}
			client, err := clouds.Open(got.Config)
			if err != nil {
				t.Fatal(err)
			}
			client.Close()
		})
	}
}

func TestAnUnknownCloudIsRefused(t *testing.T) {
	_, _, err := (&Access{getenv: func(string) string { return "" }}).Connect(t.Context(),
		fleet.Account{Config: provider.Config{Provider: "elsewhere"}})
	if err == nil || !strings.Contains(err.Error(), `"elsewhere"`) {
		t.Errorf("got %v", err)
	}
}
