// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command huaweisdk asks Huawei Cloud for an access key, as an application with the vendor's SDK does: it signs with the key in
// HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, and asks for that one. It is for tests, and a module of its own, since the SDK's is large.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/provider"
	iam "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/iam/v3"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/iam/v3/model"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: huaweisdk <endpoint>")
		os.Exit(2)
	}
	if err := show(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "huaweisdk:", err)
		os.Exit(1)
	}
}

// show prints the key that signs, without its secret.
func show(endpoint string) error {
	credential, err := provider.GlobalCredentialEnvProvider().GetCredentials()
	if err != nil {
		return fmt.Errorf("reading the environment: %w", err)
	}
	http, err := iam.IamClientBuilder().WithEndpoint(endpoint).WithCredential(credential).SafeBuild()
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	answer, err := iam.NewIamClient(http).
		ShowPermanentAccessKey(&model.ShowPermanentAccessKeyRequest{AccessKey: os.Getenv("HUAWEICLOUD_SDK_AK")})
	if err != nil {
		return fmt.Errorf("ShowPermanentAccessKey: %w", err)
	}
	if answer.Credential == nil {
		return errors.New("ShowPermanentAccessKey: the answer has no key")
	}
	return json.NewEncoder(os.Stdout).Encode(answer.Credential)
}
