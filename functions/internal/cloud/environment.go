// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloud

import (
	"errors"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Environment names what FromEnvironment reads: the variables of the clouds' own tools.
func Environment() []string {
	return []string{
		"OSC_ACCESS_KEY", "OSC_SECRET_KEY", "OSC_REGION", "OSC_ENDPOINT_API",
		"HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN", "HUAWEICLOUD_SDK_DOMAIN_ID",
		"HUAWEICLOUD_SDK_REGION", "HUAWEICLOUD_SDK_IAM_ENDPOINT", "HUAWEI_SIGNATURE", "ENGINE_INSTANCE",
	}
}

// FromEnvironment describes the one account whose key is in the environment, for runs
// without Vault.
func FromEnvironment(getenv func(string) string) (Account, error) {
	onOutscale, onHuawei := getenv("OSC_ACCESS_KEY") != "", getenv("HUAWEICLOUD_SDK_AK") != ""
	switch {
	case onOutscale && onHuawei:
		return Account{}, errors.New("both OSC_ACCESS_KEY and HUAWEICLOUD_SDK_AK are in the environment: a run without Vault is of one account, so leave one out")
	case onOutscale:
		return fromOutscale(getenv), nil
	case !onHuawei:
		return Account{}, errors.New("there is no VAULT_ADDR, OSC_ACCESS_KEY or HUAWEICLOUD_SDK_AK in the environment: name a Vault, or give a key")
	case getenv("HUAWEICLOUD_SDK_REGION") == "":
		return Account{}, errors.New("HUAWEICLOUD_SDK_REGION is empty: name a region of the account, such as ap-southeast-1 or eu-west-101")
	default:
		return fromHuawei(getenv), nil
	}
}

func fromOutscale(getenv func(string) string) Account {
	return Account{
		Provider: clouds.Outscale, Region: getenv("OSC_REGION"), Endpoint: getenv("OSC_ENDPOINT_API"),
		AccessKey: getenv("OSC_ACCESS_KEY"), Secret: provider.Secret(getenv("OSC_SECRET_KEY")), MaxRetries: clouds.DefaultMaxRetries,
		Instance: getenv("ENGINE_INSTANCE"),
	}
}

// fromHuawei needs a region, which most of Huawei's tools take from their code: it tells
// which of the family's clouds has the account.
func fromHuawei(getenv func(string) string) Account {
	return Account{
		Provider: clouds.Huawei, Region: getenv("HUAWEICLOUD_SDK_REGION"), Endpoint: getenv("HUAWEICLOUD_SDK_IAM_ENDPOINT"),
		DomainID: getenv("HUAWEICLOUD_SDK_DOMAIN_ID"), AccessKey: getenv("HUAWEICLOUD_SDK_AK"), Secret: provider.Secret(getenv("HUAWEICLOUD_SDK_SK")),
		Token: provider.Secret(getenv("HUAWEICLOUD_SDK_SECURITY_TOKEN")), Signature: getenv("HUAWEI_SIGNATURE"), MaxRetries: clouds.DefaultMaxRetries,
		Instance: getenv("ENGINE_INSTANCE"),
	}
}
