// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"time"

	"github.com/hashicorp/vault/sdk/framework"
)

// configFields are what config/<account> accepts.
func configFields() map[string]*framework.FieldSchema {
	var providers []any
	for _, name := range vendorNames() {
		providers = append(providers, name)
	}
	return map[string]*framework.FieldSchema{
		"account": {Type: framework.TypeLowerCaseString, Description: "Name of the account, for example \"default\"."},
		"provider": {
			Type: framework.TypeString, AllowedValues: providers,
			Description: "Cloud of the account. It cannot be changed later.",
		},
		"access_key": {Type: framework.TypeString, Description: "ID of the engine's own access key in the account."},
		"secret_key": {
			Type: framework.TypeString, Description: "Secret of that key. It is never returned.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"login": {
			Type: framework.TypeString, Description: "Login (email address) of the cloud account, in place of a key (outscale): the engine makes itself one. It is not stored.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"password": {
			Type: framework.TypeString, Description: "Password that goes with login. It is not stored.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"region": {
			Type:        framework.TypeString,
			Description: "Region of the account, which OUTSCALE's calls are signed for. Default: eu-west-2 (outscale), ap-southeast-1 (huawei).",
		},
		"endpoint": {
			Type: framework.TypeString,
			Description: "Address of the API: OUTSCALE's including /api/v1, Huawei Cloud's that of IAM, as in https://iam.eu-de.otc.t-systems.com. " +
				"Default: the region's public endpoint.",
		},
		"domain_id": {
			Type:        framework.TypeString,
			Description: "Id of the account (huawei), for a key that may not look it up. Default: what the cloud says.",
		},
		"signature": {
			Type: framework.TypeString, AllowedValues: []any{signatureSDK, signatureOTC},
			Description: "How requests are signed (huawei): sdk, as Huawei Cloud's SDKs do, or otc, the older way of clouds of the Open Telekom Cloud family. Default: sdk.",
		},
		"ca_cert":     {Type: framework.TypeString, Description: "PEM certificates of the authorities to trust for the endpoint, in place of the system's."},
		"client_cert": {Type: framework.TypeString, Description: "PEM client certificate, where the account's API access rules demand one."},
		"client_key": {
			Type: framework.TypeString, Description: "PEM key of the client certificate. It is never returned.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"ttl": {Type: framework.TypeDurationSecond, Description: "Default TTL of leases whose role sets none."},
		"max_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "Longest life of any lease of the account. Where the cloud has no policy for it (huawei), this is the bound.",
		},
		"expiry_grace": {
			Type: framework.TypeDurationSecond, Default: int(defaultExpiryGrace / time.Second),
			Description: "How long a key may outlive its lease in the cloud, as room for the revocation.",
		},
		"max_requests_per_second": {
			Type: framework.TypeFloat, Default: float64(defaultMaxRequestsPerSecond),
			Description: "Most calls a second to the cloud. It is lowered for a while when the cloud throttles.",
		},
		"request_timeout": {
			Type: framework.TypeDurationSecond, Default: int(defaultRequestTimeout / time.Second),
			Description: "Longest time that one attempt of a call may take.",
		},
		"max_retries": {Type: framework.TypeInt, Default: defaultMaxRetries, Description: "How often a call that the cloud surely did not carry out is tried again."},
		"rotation_period": {
			Type:        framework.TypeDurationSecond,
			Description: "How often the engine replaces its own key. 0: only when the key's own date makes it, as under an access policy.",
		},
		"allow_root_identity": {
			Type: framework.TypeBool, Description: "Whether roles may lease keys (outscale) or sessions (huawei) of the engine's own identity. Such a lease can extend itself.",
		},
		"username_template": {
			Type: framework.TypeString, Default: defaultUsernameTemplate,
			Description: "Template of the names of new users (iam_user roles), with .RoleName, .DisplayName and the functions of Vault's " +
				"username templates. Names must differ each time and have 64 characters at most.",
		},
		"verify": {Type: framework.TypeBool, Default: true, Description: "Whether to try the key against the cloud before storing it."},
	}
}

// configAnswer is what config/<account> returns: what it accepts, without the
// secrets, and what the cloud said of the key.
func configAnswer() map[string]*framework.FieldSchema {
	fields := configFields()
	for _, hidden := range []string{"account", "secret_key", "client_key", "login", "password", "verify"} {
		delete(fields, hidden)
	}
	fields["account_id"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Id of the cloud account; empty until the key was verified."}
	fields["identity"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Whom the engine's key belongs to: root, user or unknown."}
	fields["user_name"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Name of that user."}
	fields["key_expiration"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Date of the engine's own key; empty: never."}
	fields["next_rotation"] = &framework.FieldSchema{Type: framework.TypeString, Description: "When the engine replaces its own key by itself; empty: never."}
	fields["previous_access_keys"] = &framework.FieldSchema{
		Type: framework.TypeStringSlice, Description: "Own keys that were replaced and are still to be deleted.",
	}
	for _, field := range fields {
		field.Required = true
	}
	return fields
}

// answer is the configuration without its secrets.
func (c *accountConfig) answer() map[string]any {
	return map[string]any{
		"provider":                c.Provider,
		"access_key":              c.AccessKey,
		"region":                  c.Region,
		"endpoint":                c.Endpoint,
		"domain_id":               c.domainID(),
		"signature":               c.signature(),
		"ca_cert":                 c.CACert,
		"client_cert":             c.ClientCert,
		"ttl":                     seconds(c.TTL),
		"max_ttl":                 seconds(c.MaxTTL),
		"expiry_grace":            seconds(c.ExpiryGrace),
		"max_requests_per_second": c.MaxRequestsPerSecond,
		"request_timeout":         seconds(c.RequestTimeout),
		"max_retries":             c.MaxRetries,
		"allow_root_identity":     c.AllowRootIdentity,
		"username_template":       c.usernameTemplate(),
		"account_id":              c.AccountID,
		"identity":                string(c.Identity.Kind),
		"user_name":               c.Identity.User,
		"key_expiration":          showTime(c.KeyExpires),
		"rotation_period":         seconds(c.RotationPeriod),
		"next_rotation":           showTime(c.nextRotation()),
		"previous_access_keys":    c.ownKeys()[1:],
	}
}

// showTime writes a time as RFC 3339 in UTC; empty for none.
func showTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
