// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

func (b *backend) pathConfig() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:      "config/?$",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "accounts"},
			Fields:       pagingFields(),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:     b.pathConfigList,
					Summary:      "List the accounts.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list"},
					Responses:    answersList(),
				},
			},
			HelpSynopsis:    "List the configured cloud accounts.",
			HelpDescription: "Lists the names under which cloud accounts are configured; after and limit page through them.",
		},
		{
			Pattern:        configPrefix + framework.GenericNameRegex("account"),
			DisplayAttrs:   &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "account"},
			Fields:         configFields(),
			ExistenceCheck: b.pathConfigExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:  b.pathConfigRead,
					Summary:   "Read an account; its secrets are never returned.",
					Responses: answers(configAnswer()),
				},
				logical.CreateOperation: b.writesConfig(),
				logical.UpdateOperation: b.writesConfig(),
				logical.PatchOperation: b.patches(
					"Change some fields of an account.",
					b.pathConfigExists,
					b.announced(eventConfigWrite, "account", b.pathConfigWrite),
					decisions(configAnswer(), configDecisions()),
				),
				logical.DeleteOperation: &framework.PathOperation{
					Callback:                    b.announced(eventConfigDelete, "account", b.pathConfigDelete),
					Summary:                     "Delete an account that nothing needs any more, with the keys that the engine has made for itself.",
					Responses:                   answersNothing(),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Configure a cloud account and the engine's own access key in it.",
			HelpDescription: "The key is tried against the cloud before it is stored, unless verify=false. In place of a key, login " +
				"and password of the " +
				"cloud account make one; they are not stored. Fields that are not given keep their " +
				"value. An account can be changed to another cloud account, or deleted, only when no lease needs it.",
		},
	}
}

func (b *backend) writesConfig() *framework.PathOperation {
	return &framework.PathOperation{
		Callback:                    b.announced(eventConfigWrite, "account", b.pathConfigWrite),
		Summary:                     "Write an account.",
		Responses:                   answers(decisions(configAnswer(), configDecisions())),
		ForwardPerformanceStandby:   true,
		ForwardPerformanceSecondary: true,
	}
}

func (b *backend) pathConfigList(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	names, err := accountNames(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(page(names, data)), nil
}

func (b *backend) pathConfigExists(ctx context.Context, req *logical.Request, data *framework.FieldData) (bool, error) {
	config, err := load[accountConfig](ctx, req.Storage, configPrefix+data.Get("account").(string))
	return config != nil, err
}

func (b *backend) pathConfigRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	config, err := load[accountConfig](ctx, req.Storage, configPrefix+data.Get("account").(string))
	if err != nil || config == nil {
		return nil, err
	}
	return &logical.Response{Data: config.answer()}, nil
}

func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(transport.WithClass(ctx, transport.ClassIssue), issueBudget)
	defer cancel()
	warnings, err := b.writeConfig(ctx, req, data)
	if err != nil {
		return respond(err)
	}
	if login, _ := data.Get("login").(string); login != "" {
		more, err := b.keepFirstKey(ctx, req.Storage, data.Get("account").(string))
		if err != nil {
			return respond(err)
		}
		warnings = append(warnings, more...)
	}
	return b.configWritten(ctx, req.Storage, data.Get("account").(string), warnings)
}

// configDecisions are what a write of an account answers: what the cloud said of the key, and when it is replaced.
func configDecisions() []string {
	return []string{"account_id", "identity", "user_name", "access_key", "key_expiration", "next_rotation"}
}

func (b *backend) configWritten(ctx context.Context, s logical.Storage, name string, warnings []string) (*logical.Response, error) {
	config, err := load[accountConfig](ctx, s, configPrefix+name)
	if err != nil || config == nil {
		return warn(warnings), nil // it is written all the same
	}
	return decided(subset(config.answer(), configDecisions()), warnings), nil
}

// writeConfig takes the fields over, asks the cloud whose key it is, refuses what
// would strand live keys, and stores.
func (b *backend) writeConfig(ctx context.Context, req *logical.Request, data *framework.FieldData) ([]string, error) {
	name := data.Get("account").(string)
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer b.keep(name)
	before, err := load[accountConfig](ctx, req.Storage, configPrefix+name)
	if err != nil {
		return nil, err
	}
	config := newAccountConfig()
	if before != nil {
		*config = *before
		config.Deleting = false // a write ends a deletion that has not ended
	}
	if err := config.takeFields(data); err != nil {
		return nil, err
	}
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if err := config.refuseStoredSecret(before, data); err != nil {
		return nil, err
	}
	warnings, err := config.placeSignIn(before, data)
	if err != nil {
		return nil, err
	}
	if config.signIn != nil {
		more, err := b.mintFirstKey(ctx, req.Storage, name, before, config)
		return append(warnings, more...), err
	}
	warnings = append(warnings, config.replaceKey(before)...)
	if before == nil || config.AccessKey != before.AccessKey {
		if err := b.refuseIssued(ctx, req.Storage, config.AccessKey, data.Get("verify").(bool)); err != nil {
			return nil, err
		}
	}
	if before != nil && before.AccountID != "" && !before.Deleting && config.sameCredentials(before) {
		more, err := b.storeAsBefore(ctx, req.Storage, name, before, config)
		return append(warnings, more...), err
	}
	if data.Get("verify").(bool) {
		more, err := b.storeVerified(ctx, req.Storage, name, before, config)
		return append(warnings, more...), err
	}
	if before == nil || !before.sameTarget(config) {
		if err := b.refuseIfUsed(ctx, req.Storage, name, before, "", "an unverified key or endpoint may belong to another cloud "+
			"account: leave out verify=false"); err != nil {
			return nil, err
		}
		config.AccountID, config.Identity = "", provider.Identity{}
		config.KeyCreated, config.KeyExpires = time.Time{}, time.Time{}
	}
	warnings = append(warnings, "the access key was not tried against the cloud")
	return warnings, b.storeAccount(ctx, req.Storage, name, config)
}

// storeAsBefore stores a configuration that signs in as before, and calls nobody. A client certificate
// that has changed is tried with one call.
func (b *backend) storeAsBefore(ctx context.Context, s logical.Storage, name string, before, config *accountConfig) ([]string, error) {
	if !config.sameCertificate(before) {
		if _, err := b.ownKey(ctx, config); err != nil {
			return nil, explain(name, err)
		}
	}
	if err := b.storeAccount(ctx, s, name, config); err != nil {
		return nil, err
	}
	a, err := b.account(ctx, s, name)
	if err != nil {
		return nil, err
	}
	view, err := storedPolicy(ctx, s, a)
	if err != nil {
		return nil, err
	}
	return b.accountWarnings(a, view), nil
}

// refuseIssued refuses to make a key the engine's own that this mount has made for something else: it
// would end with its lease, and the engine with it. A key that is verified shows its label anyway, and
// need not wait for the whole ledger.
func (b *backend) refuseIssued(ctx context.Context, s logical.Storage, accessKey string, verified bool) error {
	if !verified {
		if err := b.ledger.Load(ctx, s, ""); err != nil {
			return err
		}
	}
	item, found := b.ledger.Find(accessKey)
	if !found {
		return nil
	}
	return refuseLabelled(accessKey, item.Label)
}

// refuseLabelled does so by a key's label, whichever mount has made it.
func refuseLabelled(accessKey, text string) error {
	label, err := keylabel.Parse(text)
	if err != nil || label.Kind == keylabel.KindRoot {
		return nil
	}
	return userError(
		"access key %s was made by this software for something else, as its label %s says (a lease, a user or a static role), and "+
			"ends with that: "+
			"give the engine a key of its own",
		accessKey,
		text,
	)
}

// accountWarnings are those of the account and its limits.
func (b *backend) accountWarnings(a *account, view *policyView) []string {
	warnings := a.warnings(view)
	if err := b.bounds(a, view, 0).CheckUsable(); err != nil {
		warnings = append(warnings, "the account is stored, but no role of it can lease as things are: "+err.Error())
	}
	return warnings
}

func (b *backend) storeVerified(
	ctx context.Context,
	s logical.Storage,
	name string,
	before, config *accountConfig,
) (warnings []string, err error) {
	a, warnings, err := b.verifiedChange(ctx, s, name, before, config)
	if err != nil {
		return nil, err
	}
	view, err := b.storeWithPolicy(ctx, s, a)
	if err != nil {
		return nil, err
	}
	return append(warnings, b.accountWarnings(a, view)...), nil
}

// verifiedChange asks the cloud whose key a configuration holds, and refuses one that would strand
// live keys.
func (b *backend) verifiedChange(
	ctx context.Context,
	s logical.Storage,
	name string,
	before, config *accountConfig,
) (a *account, warnings []string, err error) {
	if a, err = b.verified(ctx, name, config); err != nil {
		return nil, nil, err
	}
	if before == nil {
		return a, nil, nil
	}
	if before.AccountID == config.AccountID {
		return a, nil, b.refuseOtherIdentity(ctx, s, name, before, config)
	}
	why := "the new key belongs to cloud account " + config.AccountID + ", and its leases to " + before.AccountID
	if config.KeyLabel == before.KeyLabel {
		config.KeyLabel = "" // else it is a first key's
	}
	if err := b.refuseIfUsed(ctx, s, name, before, config.KeyLabel, why); err != nil {
		return nil, nil, err
	}
	config.Previous, config.Retired = nil, nil
	return a, before.leftover(), b.forgetOwnKeys(ctx, s, name)
}

// refuseOtherIdentity fails where keys of the engine's own identity are leased and the new key is
// another's: that could not delete them, nor find them. Where it does not fail and the identity
// changes, the account is given up as in refuseIfUsed.
func (b *backend) refuseOtherIdentity(ctx context.Context, s logical.Storage, name string, before, config *accountConfig) error {
	if before.sameIdentity(config) {
		return nil
	}
	own := func() int {
		return len(b.ledger.Select(name, func(i *ledger.Item) bool { return i.User == "" && i.Leased() && i.Unreadable == "" }))
	}
	if err := b.ledger.Load(ctx, s, name); err != nil {
		return err
	}
	n := own()
	if n == 0 { // and no request that has begun meanwhile makes one, nor will one
		b.freeze(name)
		n = own()
	}
	if n > 0 {
		return userError(
			"account %q is in use (%d leased access keys of the engine's own identity, %s): the new key belongs to %s, which cannot delete them. "+
				"Revoke these leases first, or write a key of the former",
			name,
			n,
			identityOf(before.Identity),
			identityOf(config.Identity),
		)
	}
	return nil
}

// storeWithPolicy stores a configuration and reads the access policy with it.
func (b *backend) storeWithPolicy(ctx context.Context, s logical.Storage, a *account) (*policyView, error) {
	if err := b.storeAccount(ctx, s, a.name, a.config); err != nil {
		return nil, err
	}
	return b.refreshPolicy(ctx, s, a)
}

// refuseIfUsed fails where keys of the account are still to be revoked: they could
// not be found, let alone deleted, through another cloud account. Where it does not fail the
// account is given up: the caller stores it, or keeps it. made is the label of the first key
// that the change itself has made, if any.
func (b *backend) refuseIfUsed(ctx context.Context, s logical.Storage, name string, before *accountConfig, made, why string) error {
	if before == nil {
		return nil
	}
	use, err := b.accountInUse(ctx, s, name, made)
	if err == nil && use == "" { // and no request that has begun meanwhile needs it, nor will one
		b.freeze(name)
		use, err = b.accountInUse(ctx, s, name, made)
	}
	if err != nil {
		return err
	}
	if use != "" {
		return userError("account %q is in use (%s): %s. Revoke its leases first, or use another account name", name, use, why)
	}
	return nil
}

// forgetOwnKeys takes the engine's own keys of an account that is given up out of the
// ledger. Nothing else can be there: an account in use is not given up. A first key that the
// change itself has made is not settled yet, and stays.
func (b *backend) forgetOwnKeys(ctx context.Context, s logical.Storage, account string) error {
	for _, item := range b.ledger.Select(account, func(item *ledger.Item) bool { return !item.Unfinished() }) {
		if err := b.ledger.Remove(ctx, s, account, item.Label); err != nil {
			return err
		}
	}
	return nil
}

// leftover names the keys that the engine made for itself and cannot delete any more.
func (c *accountConfig) leftover() []string {
	keys := c.ownKeys()[1:]
	if c.KeyLabel != "" {
		keys = append(keys, c.AccessKey)
	}
	if len(keys) == 0 {
		return nil
	}
	return []string{
		"the engine made access keys for itself that it cannot delete without the account: delete them in the cloud: " + strings.Join(keys, ", "),
	}
}

// replaceKey settles what a write means for the engine's own keys. A key that rotation has
// replaced is not taken back: an old Terraform state that is applied again would end the
// engine with it. A key that the engine made itself, and an operator replaces, is deleted
// later like any that it has replaced.
func (c *accountConfig) replaceKey(before *accountConfig) (warnings []string) {
	if before == nil || c.AccessKey == before.AccessKey {
		return nil
	}
	if before.wasReplaced(c.AccessKey) {
		warnings = append(
			warnings,
			fmt.Sprintf("access key %s was replaced by rotation and is not used again: the account keeps %s, the other fields are stored",
				c.AccessKey, before.AccessKey),
		)
		c.AccessKey, c.SecretKey = before.AccessKey, before.SecretKey
		return warnings
	}
	if before.KeyLabel != "" {
		previous := before.asPrevious(time.Now())
		previous.ByOperator = true
		c.Previous = append(slices.Clone(c.Previous), previous)
		c.KeyLabel = ""
	}
	return warnings
}

// takeFields takes over the fields that were given.
func (c *accountConfig) takeFields(data *framework.FieldData) error {
	given := c.Provider
	take(data, "provider", &given)
	if c.Provider != "" && given != c.Provider {
		return userError("provider is %q and cannot be changed: use another account name", c.Provider)
	}
	c.Provider = given
	if err := checkCredentials(data); err != nil {
		return err
	}
	take(data, "access_key", &c.AccessKey)
	take(data, "secret_key", &c.SecretKey)
	take(data, "region", &c.Region)
	take(data, "endpoint", &c.Endpoint)
	take(data, "domain_id", &c.DomainID)
	take(data, "signature", &c.Signature)
	take(data, "ca_cert", &c.CACert)
	take(data, "client_cert", &c.ClientCert)
	take(data, "client_key", &c.ClientKey)
	takeSeconds(data, "ttl", &c.TTL)
	takeSeconds(data, "max_ttl", &c.MaxTTL)
	takeSeconds(data, "expiry_grace", &c.ExpiryGrace)
	take(data, "max_requests_per_second", &c.MaxRequestsPerSecond)
	takeSeconds(data, "request_timeout", &c.RequestTimeout)
	take(data, "max_retries", &c.MaxRetries)
	takeSeconds(data, "rotation_period", &c.RotationPeriod)
	take(data, "allow_root_identity", &c.AllowRootIdentity)
	take(data, "username_template", &c.UsernameTemplate)
	return c.takeSignIn(data)
}

// configFields are what config/<account> accepts.
func configFields() map[string]*framework.FieldSchema {
	var providers []any
	for _, name := range clouds.Names() {
		providers = append(providers, name)
	}
	return map[string]*framework.FieldSchema{
		"account": {Type: framework.TypeString, Description: "Name of the account, for example \"default\"."},
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
			Type: framework.TypeString, Description: "Login (email address) of the cloud account, in place of a key (outscale): the " +
				"engine makes itself one. It is not stored.",
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
			Description: "Address of the API: OUTSCALE's with or without /api/v1 at its end, Huawei Cloud's that of IAM, as in " +
				"https://iam.eu-de.otc.t-systems.com. " +
				"Default: the region's public endpoint.",
		},
		"domain_id": {
			Type:        framework.TypeString,
			Description: "Id of the account (huawei), for a key that may not look it up. Default: what the cloud says.",
		},
		"signature": {
			Type: framework.TypeString, AllowedValues: []any{clouds.SignatureSDK, clouds.SignatureOTC},
			Description: "How requests are signed (huawei): sdk, as Huawei Cloud's SDKs do, or otc, the older way of clouds of the " +
				"Open Telekom Cloud family. Default: sdk.",
		},
		"ca_cert": {
			Type:        framework.TypeString,
			Description: "PEM certificates of the authorities to trust for the endpoint, in place of the system's.",
		},
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
			Type: framework.TypeDurationSecond, Default: int(lifetime.DefaultExpiryGrace / time.Second),
			Description: "How long a key may outlive its lease in the cloud, as room for the revocation.",
		},
		"max_requests_per_second": {
			Type: framework.TypeFloat, Default: float64(clouds.DefaultPerSecond),
			Description: "Most calls a second to the cloud. It is lowered for a while when the cloud throttles.",
		},
		"request_timeout": {
			Type: framework.TypeDurationSecond, Default: int(clouds.DefaultTimeout / time.Second),
			Description: "Longest time that one attempt of a call may take.",
		},
		"max_retries": {
			Type:    framework.TypeInt,
			Default: clouds.DefaultMaxRetries,
			Description: "How often a call is tried again that failed without having been carried out. Throttled calls do not count: " +
				"they are repeated until the request's time is up.",
		},
		"rotation_period": {
			Type:        framework.TypeDurationSecond,
			Description: "How often the engine replaces its own key. 0: only when the key's own date makes it, as under an access policy.",
		},
		"allow_root_identity": {
			Type: framework.TypeBool, Description: "Whether roles may lease keys (outscale) or sessions (huawei) of the engine's own " +
				"identity. Such a lease can extend itself.",
		},
		"username_template": {
			Type: framework.TypeString, Default: defaultUsernameTemplate,
			Description: "Template of the names of new users (iam_user roles), with .RoleName, .DisplayName (64 characters of it), {{ " +
				"if }}, and the " +
				"functions " + strings.Join(
				templateFunctions,
				", ",
			) + ". Names must differ each time and have 64 characters at most.",
		},
		"force": {
			Type: framework.TypeBool, Query: true,
			Description: "Of a delete alone: whether to give up an account whose cloud does not take the engine key any more, with " +
				"the keys that are still in it. They are listed in the answer.",
		},
		"verify": {Type: framework.TypeBool, Default: true, Description: "Whether to try the key against the cloud before storing it."},
	}
}

// configAnswer is what config/<account> returns: what it accepts, without the
// secrets, and what the cloud said of the key.
func configAnswer() map[string]*framework.FieldSchema {
	fields := configFields()
	for _, hidden := range []string{"account", "secret_key", "client_key", "login", "password", "verify", "force"} {
		delete(fields, hidden)
	}
	fields["account_id"] = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Id of the cloud account; empty until the key was verified.",
	}
	fields["identity"] = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Whom the engine's key belongs to: root, user or unknown.",
	}
	fields["user_name"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Name of that user."}
	fields["key_expiration"] = &framework.FieldSchema{Type: framework.TypeString, Description: "Date of the engine's own key; empty: never."}
	fields["next_rotation"] = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "When the engine replaces its own key by itself; empty: never.",
	}
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
