// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

func (b *backend) pathConfig() []*framework.Path {
	return b.entryPaths(entries{
		prefix: configPrefix, name: "account", one: "account", a: "an account", many: "accounts",
		fields: configFields(), answer: configAnswer, decisions: configDecisions(),
		read: b.pathConfigRead, write: b.pathConfigWrite, drop: b.pathConfigDelete,
		written: eventConfigWrite, dropped: eventConfigDelete,

		listSummary: "List the configured cloud accounts.",
		readSummary: "Read an account; its secrets are never returned.",
		dropSummary: "Delete an account that is no longer in use, and the keys that the engine created for itself.",
		synopsis:    "Configure a cloud account and the engine's own access key in it.",
		help: "The key is tried against the cloud before it is stored, unless verify=false. Instead of a key you can give the login and " +
			"password of the cloud account: the engine creates its key with them, and does not store them. Fields that are not given keep " +
			"their value. An account can be changed to another cloud account, or deleted, only while no lease uses it.",
	})
}

func (b *backend) pathConfigRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	config, err := load[accountConfig](ctx, req.Storage, configPrefix+data.Get("account").(string))
	if err != nil || config == nil {
		return nil, err
	}
	return &logical.Response{Data: config.answer()}, nil
}

func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	warnings, err := b.writeConfig(ctx, req, data)
	if err != nil {
		return nil, err
	}
	if login, _ := data.Get("login").(string); login != "" {
		more, err := b.keepFirstKey(ctx, req.Storage, data.Get("account").(string))
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
	}
	config, err := load[accountConfig](ctx, req.Storage, configPrefix+data.Get("account").(string))
	if err != nil || config == nil {
		return warn(warnings), nil // it is written all the same
	}
	warnings = append(warnings, b.warnOfBlockedRoles(ctx, req.Storage, data.Get("account").(string))...)
	return decided(subset(config.answer(), configDecisions()), warnings), nil
}

// configDecisions are what a write of an account answers: what the cloud said of the key, and when it is replaced.
func configDecisions() []string {
	return []string{"account_id", "identity", "user_name", "access_key", "key_expiration", "next_rotation"}
}

// takeFields takes over the fields that were given.
func (c *accountConfig) takeFields(data *framework.FieldData) error {
	if given, is := data.GetOk("provider"); is && c.Provider != "" && given != c.Provider {
		return userError("provider is %q and cannot be changed: use another account name", c.Provider)
	}
	if err := checkCredentials(data); err != nil {
		return err
	}
	takeFields(data, c)
	return c.takeSignIn(data)
}

// configFields are what config/<account> accepts.
func configFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"account":    field(framework.TypeString, "Name of the account, for example \"default\"."),
		"provider":   oneOf(clouds.Names(), field(framework.TypeString, "Cloud of the account. It cannot be changed later.")),
		"access_key": field(framework.TypeString, "ID of the engine's own access key in the account."),
		"secret_key": sensitive(field(framework.TypeString, "Secret of that key. It is never returned.")),
		"login": sensitive(field(framework.TypeString, "Login (email address) of the cloud account, instead of a key (outscale): "+
			"the engine creates its own key with it. It is not stored.")),
		"password": sensitive(field(framework.TypeString, "Password that goes with login. It is not stored.")),
		"region": field(framework.TypeString, "Region of the account. OUTSCALE's requests are signed for it. Default: eu-west-2 "+
			"(outscale), ap-southeast-1 (huawei)."),
		"endpoint": field(framework.TypeString, "Address of the API. OUTSCALE: with or without /api/v1 at its end. Huawei Cloud: "+
			"that of IAM, as in https://iam.eu-de.otc.t-systems.com. Default: the region's public endpoint."),
		"domain_id": field(framework.TypeString, "Id of the account (huawei), if the key has no permission to look it up. Default: "+
			"what the cloud returns."),
		"signature": oneOf([]string{clouds.SignatureSDK, clouds.SignatureOTC}, field(framework.TypeString, "How requests are signed "+
			"(huawei): sdk, as Huawei Cloud's SDKs do, or otc, the older signature of the Open Telekom Cloud family. Default: sdk.")),
		"ca_cert": field(framework.TypeString, "PEM certificates of the authorities to trust for the endpoint, instead of the "+
			"system's."),
		"client_cert": field(framework.TypeString, "PEM client certificate, if the account's API access rules require one."),
		"client_key":  sensitive(field(framework.TypeString, "PEM key of the client certificate. It is never returned.")),
		"ttl":         field(framework.TypeDurationSecond, "Default TTL of leases, for roles that set none."),
		"max_ttl": field(framework.TypeDurationSecond, "Maximum TTL of all leases of the account. Huawei Cloud has no policy that "+
			"limits them: set it there."),
		"expiry_grace": byDefault(int(seconds(lifetime.DefaultExpiryGrace)), field(framework.TypeDurationSecond, "How long a key may "+
			"outlive its lease in the cloud, which leaves time for the revocation.")),
		"max_requests_per_second": byDefault(float64(clouds.DefaultPerSecond), field(framework.TypeFloat, "Maximum number of API calls a "+
			"second. It is lowered for a while when the cloud throttles.")),
		"request_timeout": byDefault(int(seconds(clouds.DefaultTimeout)), field(framework.TypeDurationSecond, "Timeout of one attempt of "+
			"an API call.")),
		"max_retries": byDefault(clouds.DefaultMaxRetries, field(framework.TypeInt, "Number of retries of an API call that certainly had "+
			"no effect. Throttled calls do not count: they are repeated until the request times out.")),
		"rotation_period": field(framework.TypeDurationSecond, "How often the engine replaces its own key. 0: only before the key "+
			"expires, as it does under an access policy."),
		"allow_root_identity": field(framework.TypeBool, "Whether roles may lease keys (outscale) or sessions (huawei) of the "+
			"engine's own identity. Whoever holds such a key can extend its life."),
		"username_template": byDefault(defaultUsernameTemplate, field(framework.TypeString, "Template of the names of new users "+
			"(iam_user roles), with .RoleName, .DisplayName (64 characters of it), {{ if }}, and the functions "+
			strings.Join(clouds.TemplateFunctions(), ", ")+". Names must differ each time and have 64 characters at most.")),
		"force": query(field(framework.TypeBool, "With delete: drop the account although the cloud refuses the engine key, and leave the "+
			"keys that are still in it. The response lists them. On a performance primary (Vault Enterprise) each delete needs it, and a write "+
			"that points the account at another cloud account, or gives it another user's key (outscale): "+
			"revoke the account's leases on the secondaries first.")),
		"verify": byDefault(true, field(framework.TypeBool, "Whether to try the key against the cloud before storing it.")),
	}
}

// configAnswer is what config/<account> returns: what it accepts, without the
// secrets, and what the cloud said of the key.
func configAnswer() map[string]*framework.FieldSchema {
	fields := configFields()
	for _, hidden := range []string{"account", "secret_key", "client_key", "login", "password", "verify", "force"} {
		delete(fields, hidden)
	}
	fields["account_id"] = field(framework.TypeString, "Id of the cloud account; empty until the key has been verified.")
	fields["identity"] = field(framework.TypeString, "Owner of the engine's key: root (the cloud account), user (an EIM or IAM user) "+
		"or unknown.")
	fields["user_name"] = field(framework.TypeString, "Name of that user.")
	fields["key_expiration"] = field(framework.TypeString, "When the engine's own key expires; empty: never.")
	fields["next_rotation"] = field(framework.TypeString, "When the engine next replaces its own key; empty: never.")
	fields["previous_access_keys"] = field(framework.TypeStringSlice, "Keys of the engine that were replaced and are not deleted yet.")
	return fields
}

// answer is the configuration without its secrets.
func (c *accountConfig) answer() map[string]any {
	return visible(c, configAnswer(), map[string]any{
		"domain_id":            c.domainID(),
		"signature":            c.signature(),
		"username_template":    c.usernameTemplate(),
		"identity":             string(c.Identity.Kind),
		"user_name":            c.Identity.User,
		"key_expiration":       showTime(c.KeyExpires),
		"next_rotation":        showTime(c.nextRotation()),
		"previous_access_keys": c.ownKeys()[1:],
	})
}

func (b *backend) pathConfigDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	warnings, err := b.deleteAccount(ctx, req.Storage, data.Get("account").(string), data.Get("force").(bool))
	return warn(warnings), err
}

func (b *backend) pathRotateRoot() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "rotate-root/" + framework.GenericNameRegex("account"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: "root-key"},
		Fields: map[string]*framework.FieldSchema{
			"account": field(framework.TypeString, "Name of the account."),
		},
		Operations: only(logical.UpdateOperation, pathOperation("", "Replace the engine's own access key.",
			b.pathRotateRootWrite, answers(map[string]*framework.FieldSchema{
				"access_key":          field(framework.TypeString, "ID of the new key."),
				"key_expiration":      field(framework.TypeString, "When it expires; empty: never."),
				"next_rotation":       field(framework.TypeString, "When the engine next replaces it; empty: never."),
				"previous_access_key": field(framework.TypeString, "ID of the replaced key, which is deleted within minutes."),
			}), onPrimary)),
		HelpDescription: "Creates a new key, tries it, stores it, and deletes the replaced key some minutes later, when no " +
			"request uses it any more. The engine does the same by itself when rotation_period has passed, and before the key expires.",
	}}
}

func (b *backend) pathRotateRootWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("account").(string)
	config, err := b.rotateRoot(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"access_key":          config.AccessKey,
		"key_expiration":      showTime(config.KeyExpires),
		"next_rotation":       showTime(config.nextRotation()),
		"previous_access_key": config.Previous[len(config.Previous)-1].ID,
	}}, nil
}
