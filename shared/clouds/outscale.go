// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"cmp"
	"fmt"
	"regexp"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/outscale"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// Outscale is the value of the provider field of OUTSCALE's accounts.
const Outscale = outscale.Name

// outscaleUsers is the rule of CreateUser.
var outscaleUsers = nameRule{
	pattern: regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`),
	other:   regexp.MustCompile(`[^A-Za-z0-9+=,.@_-]`),
	text:    "1 to 64 letters, digits and +=,.@_-",
}

func outscaleCloud() Cloud {
	return Cloud{
		Name:              outscale.Name,
		Title:             "OUTSCALE",
		Region:            outscale.DefaultRegion,
		CredentialTypes:   []string{AccessKey, IAMUser},
		SignsIn:           true,
		LeasesOwnIdentity: true,
		PolicyFiles:       "docs/examples/policies/outscale-engine.json, for iam_user roles with outscale-engine-users.json",
		FindsItself: "permit the calls ReadUsers and ReadAccessKeys to that user; " +
			"in an account with more than 50 users the search takes a while, and goes on by itself",
		users:    outscaleUsers,
		endpoint: outscale.Endpoint,
		open: func(c provider.Config) (Client, error) {
			client, err := outscale.New(c)
			if err != nil {
				return nil, err // a nil *Client in the interface would not be nil
			}
			return client, nil
		},
		signer: func(c provider.Config) (transport.Signer, error) {
			return outscale.Signer(c.AccessKey, c.SecretKey, c.Region), nil
		},
		permission: func(operation string) string { return "api:" + operation },
		checkAccount: func(c provider.Config) error {
			return cmp.Or(none("domain_id", c.DomainID, "Huawei Cloud"), none("signature", c.Signature, "Huawei Cloud"))
		},
		checkRole: checkOutscaleRole,
	}
}

func checkOutscaleRole(r Role) error {
	if r.UserPath != "" {
		if err := outscale.CheckUserPath(r.UserPath); err != nil {
			return fmt.Errorf("user_path: %w", err)
		}
	}
	if err := checkEach("policy_orns", r.PolicyORNs, outscale.CheckPolicyORN); err != nil {
		return err
	}
	if err := checkEach("groups", r.Groups, outscale.CheckGroup); err != nil {
		return err
	}
	if r.PolicyDocument == "" {
		return nil
	}
	if err := checkPolicyDocument(r.PolicyDocument); err != nil {
		return fmt.Errorf("policy_document: %w", err)
	}
	return nil
}
