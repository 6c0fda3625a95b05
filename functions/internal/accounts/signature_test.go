// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package accounts

import (
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestACloudOfTheOTCFamilyIsSignedForItsOwnWay(t *testing.T) {
	sim := cloudsim.New(cloudsim.WithHuaweiRules(cloudsim.HuaweiRules{OldDialectOnly: true}))
	key := sim.AddDomain("acme").RootKey()
	env := map[string]string{
		"HUAWEICLOUD_SDK_AK": key.AccessKey, "HUAWEICLOUD_SDK_SK": key.SecretKey, "HUAWEICLOUD_SDK_REGION": "eu-de",
		"HUAWEICLOUD_SDK_IAM_ENDPOINT": sim.StartHuawei(t),
	}
	for signature, says := range map[string]string{"otc": "", "": "refused", "sdk": "refused", "v4": "sdk, or otc"} {
		t.Run("signature "+signature, func(t *testing.T) {
			env["HUAWEI_SIGNATURE"] = signature
			account, err := FromEnvironment(environment(env))
			if err != nil {
				t.Fatal(err)
			}
			client, err := clouds.Open(account.Config)
			if err == nil {
				defer client.Close()
				_, err = client.WhoAmI(t.Context())
			}
			switch {
			case says == "" && err != nil:
				t.Error(err)
			case says != "" && err == nil:
				t.Error("accepted")
			case says == "sdk, or otc" && !strings.Contains(err.Error(), says):
				t.Errorf("%v does not say %q", err, says)
			}
		})
	}
}
