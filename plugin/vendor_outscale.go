// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"regexp"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/outscale"
)

// outscaleUsers is the rule of CreateUser.
var outscaleUsers = nameRule{
	pattern: regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`),
	other:   regexp.MustCompile(`[^A-Za-z0-9+=,.@_-]`),
	text:    "1 to 64 letters, digits and +=,.@_-",
}

func outscaleVendor() vendor {
	return vendor{
		name:            outscale.Name,
		title:           "OUTSCALE",
		region:          "eu-west-2",
		users:           outscaleUsers,
		credentialTypes: []string{credentialAccessKey, credentialIAMUser},
		signsIn:         true,
		leasesItself:    true,
		checkAccount:    checkOutscaleAccount,
		checkRole:       checkOutscaleRole,
		permission:      func(op string) string { return "api:" + op },
		findsItself: "permit the calls ReadUsers and ReadAccessKeys to that user; " +
			"in an account with more than 50 users the search is given up",
		open: func(c *accountConfig, userAgent string, base http.RoundTripper) (provider.Cloud, error) {
			return outscale.New(outscaleConfig(c, userAgent, base))
		},
	}
}

func checkOutscaleAccount(c *accountConfig) error {
	if c.DomainID != "" {
		return mendable("domain_id goes with an account of Huawei Cloud alone: leave it out")
	}
	if c.Signature != "" {
		return mendable("signature goes with an account of Huawei Cloud alone: leave it out")
	}
	if _, err := outscale.Endpoint(c.Region, c.Endpoint); err != nil {
		return mendable("%s", err)
	}
	return nil
}

// checkOutscaleRole refuses at the write what the cloud would refuse at every lease.
func checkOutscaleRole(r *roleEntry) error {
	if r.UserPath != "" {
		if err := outscale.CheckUserPath(r.UserPath); err != nil {
			return mendable("user_path: %s", err)
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
		return mendable("policy_document: %s", err)
	}
	return nil
}

func outscaleConfig(c *accountConfig, userAgent string, base http.RoundTripper) outscale.Config {
	config := outscale.Config{
		AccessKey:  c.AccessKey,
		SecretKey:  provider.Secret(c.SecretKey),
		Region:     c.Region,
		Endpoint:   c.Endpoint,
		Base:       base,
		UserAgent:  userAgent,
		Timeout:    c.RequestTimeout,
		MaxRetries: c.MaxRetries,
		PerSecond:  c.MaxRequestsPerSecond,
		Observe:    c.observe,
	}
	if c.signIn != nil {
		config.AccessKey, config.SecretKey = "", ""
		config.Login, config.Password = c.signIn.login, c.signIn.password
	}
	return config
}
