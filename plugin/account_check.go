// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// checkOwnIdentity guards the engine's own identity from roles: leases on it can
// extend themselves, and delete the engine's key.
func (b *backend) checkOwnIdentity(ctx context.Context, a *account, users []string) error {
	if a.config.AllowRootIdentity && a.vendor.leasesItself {
		return nil
	}
	if len(users) == 0 {
		return mendable("a role without user_names leases keys of the engine's own identity, which account %q does not allow: "+
			"name the users whose keys it leases, or set allow_root_identity=true in config/%s", a.name, a.name)
	}
	for _, user := range users {
		own, err := a.owns(ctx, user)
		if err != nil {
			return err
		}
		if own {
			return mendable("user %q owns the engine's own access key: a lease on it could extend itself and delete that key. Name another user%s",
				user, a.orAllowIt())
		}
	}
	return nil
}

// orAllowIt is the other way out of a refusal, where the cloud leaves one.
func (a *account) orAllowIt() string {
	if !a.vendor.leasesItself {
		return ""
	}
	return ", or set allow_root_identity=true in config/" + a.name
}

// verified asks the cloud whose key a configuration holds, and fills that in.
func (b *backend) verified(ctx context.Context, name string, config *accountConfig) (*account, error) {
	config.AccountID = "" // of the key before: a client that knew it would not ask
	a, err := b.openAccount(name, config)
	if err != nil {
		return nil, mendable("%s", err)
	}
	who, err := a.cloud.WhoAmI(ctx)
	if err != nil {
		return nil, explain(name, err)
	}
	if config.DomainID != "" && config.DomainID != who.AccountID {
		return nil, mendable("domain_id is %s, and the access key belongs to the account %s: leave domain_id out, or write a key of that account",
			config.DomainID, who.AccountID)
	}
	config.AccountID, config.Identity = who.AccountID, who.Identity
	config.KeyCreated, config.KeyExpires = who.Key.Created, who.Key.Expires
	return a, nil
}

// identified returns an account whose cloud account is known. One that was written
// with verify=false is asked for it now: without it no key could ever be believed
// gone.
func (b *backend) identified(ctx context.Context, s logical.Storage, name string) (*account, error) {
	a, err := b.account(ctx, s, name)
	if err != nil || a.config.AccountID != "" {
		return a, err
	}
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if a, err = b.account(ctx, s, name); err != nil {
		return nil, err
	}
	config := *a.config
	if a, err = b.verified(ctx, name, &config); err != nil {
		return nil, err
	}
	if !b.WriteSafeReplicationState() {
		return b.rememberAccount(a), nil
	}
	if err := b.storeAccount(ctx, s, name, &config); err != nil {
		return nil, fmt.Errorf("account %q was written with verify=false, and what the cloud says of its key cannot be stored: %w", name, err)
	}
	return b.account(ctx, s, name)
}

// warnings tell the operator what will surprise them later.
func (a *account) warnings(view *policyView) []string {
	config := a.config
	var warnings []string
	if view.None && config.MaxTTL == 0 {
		warnings = append(warnings, fmt.Sprintf("%s sets no limit to the life of access keys, and ends none by itself: set max_ttl, which bounds every lease of the account", a.vendor.title))
	}
	if !config.KeyExpires.IsZero() {
		next := config.nextRotation()
		warnings = append(warnings, fmt.Sprintf("the engine's own access key ends at %s. It is replaced by itself from %s on: "+
			"Vault must not be down or sealed for as long as %s", showTime(config.KeyExpires), showTime(next), config.KeyExpires.Sub(next).Round(time.Second)))
	}
	if config.Identity.Kind == provider.IdentityUnknown {
		warnings = append(warnings, "the cloud does not let the engine's key find out which user it belongs to: "+
			"each role's users are checked when the role is written")
	}
	if config.AllowRootIdentity {
		warnings = append(warnings, "allow_root_identity: a lease on the engine's own identity can extend itself and delete the engine's key")
	}
	if view.Problem != "" {
		warnings = append(warnings, "the account's access policy is unknown: "+view.Problem)
	}
	if view != nil && view.unbounded() {
		warnings = append(warnings, unboundedPolicy)
	}
	return warnings
}

// unboundedPolicy tells of a policy of 0.
const unboundedPolicy = "the cloud account's access policy sets no longest life for access keys (MaxAccessKeyExpirationSeconds is 0): " +
	"nothing but max_ttl here bounds a lease, and keys made elsewhere may live for ever"

// warn puts warnings into a response; nil where there are none.
func warn(warnings []string) *logical.Response {
	if len(warnings) == 0 {
		return nil
	}
	resp := &logical.Response{}
	for _, w := range warnings {
		resp.AddWarning(w)
	}
	return resp
}

// decided is the answer of a write: what follows from it, with what somebody should know of.
func decided(data map[string]any, warnings []string) *logical.Response {
	resp := &logical.Response{Data: data}
	for _, w := range warnings {
		resp.AddWarning(w)
	}
	return resp
}

// some keeps what a write answers of what a read does.
func some(all map[string]any, names []string) map[string]any {
	kept := map[string]any{}
	for _, name := range names {
		kept[name] = all[name]
	}
	return kept
}

// decisions is the schema of a write's answer. None of it is required: a write that cannot be read back is written all the same.
func decisions(all map[string]*framework.FieldSchema, names []string) map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{}
	for _, name := range names {
		field := *all[name]
		field.Required = false
		fields[name] = &field
	}
	return fields
}

// shown is a list as it is answered: an empty one reads [], and not <nil>.
func shown(list []string) []string { return append([]string{}, list...) }

// seconds is how durations are shown: whole seconds, like other engines.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// takeSeconds sets a duration from a field, where it was given.
func takeSeconds(data *framework.FieldData, field string, into *time.Duration) {
	if raw, ok := data.GetOk(field); ok {
		*into = time.Duration(raw.(int)) * time.Second
	}
}

// take sets a value from a field of the same type, where it was given.
func take[T any](data *framework.FieldData, field string, into *T) {
	if raw, ok := data.GetOk(field); ok {
		if value, ok := raw.(T); ok {
			*into = value
		}
	}
}
