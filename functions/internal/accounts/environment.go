// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package accounts

import (
	"errors"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Environment names what FromEnvironment reads: the variables of the clouds' own tools.
func Environment() []string {
	return []string{
		"OSC_ACCESS_KEY", "OSC_SECRET_KEY", "OSC_REGION", "OSC_ENDPOINT_API",
		"HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN", "HUAWEICLOUD_SDK_DOMAIN_ID",
		"HUAWEICLOUD_SDK_REGION", "HUAWEICLOUD_SDK_IAM_ENDPOINT", "HUAWEI_SIGNATURE", "ENGINE_INSTANCE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE",
	}
}

// FromEnvironment describes the one account whose key is in the environment, for runs
// without Vault. Huawei Cloud needs a region, which most of its tools take from their code: it
// tells which of the family's clouds has the account.
func FromEnvironment(getenv func(string) string) (fleet.Account, error) {
	account := fleet.Account{Name: environmentAccount, Instance: getenv("ENGINE_INSTANCE")}
	onOutscale, onHuawei := getenv("OSC_ACCESS_KEY") != "", getenv("HUAWEICLOUD_SDK_AK") != ""
	switch {
	case onOutscale && onHuawei:
		return account, errors.New("both OSC_ACCESS_KEY and HUAWEICLOUD_SDK_AK are in the environment: a run without Vault is of one " +
			"account, so leave one out")
	case onOutscale:
		account.Config = provider.Config{
			Provider: clouds.Outscale, AccessKey: getenv("OSC_ACCESS_KEY"), SecretKey: provider.Secret(getenv("OSC_SECRET_KEY")),
			Region: getenv("OSC_REGION"), Endpoint: getenv("OSC_ENDPOINT_API"),
		}
	case !onHuawei:
		return account, errors.New("there is no VAULT_ADDR, OSC_ACCESS_KEY or HUAWEICLOUD_SDK_AK in the environment: name a Vault, or " +
			"give a key")
	case getenv("HUAWEICLOUD_SDK_REGION") == "":
		return account, errors.New("HUAWEICLOUD_SDK_REGION is empty: name a region of the account, such as ap-southeast-1 or eu-west-101")
	default:
		account.Config = provider.Config{
			Provider: clouds.Huawei, AccessKey: getenv("HUAWEICLOUD_SDK_AK"), SecretKey: provider.Secret(getenv("HUAWEICLOUD_SDK_SK")),
			SecurityToken: provider.Secret(getenv("HUAWEICLOUD_SDK_SECURITY_TOKEN")), DomainID: getenv("HUAWEICLOUD_SDK_DOMAIN_ID"),
			Region: getenv("HUAWEICLOUD_SDK_REGION"), Endpoint: getenv("HUAWEICLOUD_SDK_IAM_ENDPOINT"), Signature: getenv("HUAWEI_SIGNATURE"),
		}
	}
	account.MaxRetries = clouds.DefaultMaxRetries
	return account, nil
}
