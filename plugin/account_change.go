// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// writeConfig stores an account:
//
//	(1) take the fields over, and refuse without a call what cannot work, and a stored secret at a new address
//	(2) login and password: have the engine make itself a key (mintFirstKey), in place of all that follows
//	(3) a key that rotation has replaced is not taken back, one that the engine has leased or replaced elsewhere is refused
//	(4) where the engine signs in as before: store, and call nobody
//	(5) else ask the cloud whose key it is; with verify=false it is unknown
//	(6) where the key is another account's or identity's: begin no more keys (freeze), and refuse while live ones need the old key;
//	    on a performance primary another account's wants force, and so does another identity's that leases its own keys (mindSecondaries)
//	(7) store, which ends freeze
//	    → crash before: nothing has changed. After it: the policy is read by the next tick
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
		config.Deleting, config.DeletingKey = false, "" // a write ends a deletion that has not ended
	}
	if err := config.takeFields(data); err != nil {
		return nil, err
	}
	config.force = data.Get("force").(bool)
	config.Region = cmp.Or(config.Region, config.cloud().Region)
	if err := cmp.Or(config.validate(), checkSize(configPrefix+name, config)); err != nil {
		return nil, err
	}
	if err := config.refuseStoredSecret(before, data); err != nil { // which parses what validate has bounded
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
	warnings = append(warnings, config.replaceKey(before, b.endOfOverlap(ctx))...)
	if before == nil || config.AccessKey != before.AccessKey {
		if err := b.refuseIssued(ctx, req.Storage, config.AccessKey, data.Get("verify").(bool)); err != nil {
			return nil, err
		}
		if err := b.refuseReplaced(ctx, req.Storage, name, config.AccessKey); err != nil {
			return nil, err
		}
	}
	if before != nil && before.AccountID != "" && !before.Deleting && config.sameCredentials(before) {
		more, err := b.storeAsBefore(ctx, req.Storage, name, before, config)
		return append(warnings, more...), err
	}
	if !data.Get("verify").(bool) {
		more, err := b.storeUnverified(ctx, req.Storage, name, before, config)
		return append(warnings, more...), err
	}
	a, more, err := b.verifiedChange(ctx, req.Storage, name, before, config)
	if err != nil {
		return nil, err
	}
	view, err := b.storeWithPolicy(ctx, req.Storage, a)
	if err != nil {
		return nil, err
	}
	return slices.Concat(warnings, more, b.accountWarnings(a, view)), nil
}

// storeUnverified stores a configuration with verify=false, and calls nobody.
func (b *backend) storeUnverified(
	ctx context.Context, s logical.Storage, name string, before, config *accountConfig,
) (warnings []string, err error) {
	if before == nil || !before.sameTarget(config) {
		if err := b.refuseIfUsed(ctx, s, name, before, "", "an unverified key or endpoint may belong to another cloud "+
			"account: leave out verify=false"); err != nil {
			return nil, err
		}
		if before != nil {
			if warnings, err = b.mindSecondaries(ctx, name, "leases", config.force); err != nil {
				return nil, err
			}
		}
		config.AccountID, config.Identity = "", provider.Identity{}
		config.KeyCreated, config.KeyExpires = time.Time{}, time.Time{}
	}
	warnings = append(warnings, "the access key was not tried against the cloud")
	return warnings, b.storeAccount(ctx, s, name, config)
}

// storeAsBefore stores a configuration that signs in as before, and calls nobody. A client certificate
// that has changed is tried with one call.
func (b *backend) storeAsBefore(ctx context.Context, s logical.Storage, name string, before, config *accountConfig) ([]string, error) {
	if !config.sameCertificate(before) {
		open, _ := b.account(ctx, s, name) // which knows whether the key is refused; where it cannot be opened, the write may change that
		if err := b.refusals.refuse(config); err != nil {
			return nil, err
		}
		_, err := b.ownKey(transport.WithNow(ctx), open, config)
		if takesKey(err) {
			err = nil
		}
		b.refusals.note(config, err)
		if err != nil {
			return nil, explain(name, err)
		}
	}
	if err := b.storeAccount(ctx, s, name, config); err != nil {
		return nil, err
	}
	a, view, err := b.accountAndPolicy(ctx, s, name)
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
	return userError("access key %s was made by this software for something else, as its label %s says (a lease, a user or a static "+
		"role), and ends with that: give the engine a key of its own", accessKey, text)
}

// refuseReplaced refuses a key that another account has replaced: that account deletes it, and the key's
// refusals from then on would count towards the lock of the cloud account.
func (b *backend) refuseReplaced(ctx context.Context, s logical.Storage, name, accessKey string) error {
	configs, err := b.accountConfigs(ctx, s)
	for other, config := range configs {
		if other != name && (config.wasReplaced(accessKey) || slices.Contains(idsOf(config.Previous), accessKey)) {
			return userError("access key %s was replaced in account %q, which deletes it: give this account a key of its own", accessKey, other)
		}
	}
	return err
}

// accountWarnings are those of the account and its limits.
func (b *backend) accountWarnings(a *account, view *policyView) []string {
	warnings := a.warnings(view)
	if err := bounds(b.System().MaxLeaseTTL(), a, view, 0).CheckUsable(); err != nil {
		warnings = append(warnings, "the account is stored, but no role of it can lease as things are: "+err.Error())
	}
	return warnings
}

// verifiedChange asks the cloud whose key a configuration holds, and refuses one that would strand
// live keys.
func (b *backend) verifiedChange(
	ctx context.Context, s logical.Storage, name string, before, config *accountConfig,
) (a *account, warnings []string, err error) {
	var open *account // whose client knows whether the key is refused, where it is the same one
	if before != nil {
		open, _ = b.account(ctx, s, name) // where it cannot be opened, the write may change that
	}
	if a, err = b.verified(transport.WithNow(ctx), open, name, config); err != nil {
		return nil, nil, err
	}
	if before == nil {
		return a, nil, nil
	}
	if before.AccountID == config.AccountID {
		err = b.refuseOtherIdentity(ctx, s, a, before)
		if err == nil && !before.sameIdentity(config) && a.kind.LeasesOwnIdentity { // allow_root_identity may have been set before
			warnings, err = b.mindSecondaries(ctx, name, "leases on the engine's own identity", config.force)
		}
		return a, warnings, err
	}
	why := "the new key belongs to cloud account " + config.AccountID + ", and its leases to " + before.AccountID
	if config.KeyLabel == before.KeyLabel {
		config.KeyLabel = "" // else it is a first key's
	}
	if err := b.refuseIfUsed(ctx, s, name, before, config.KeyLabel, why); err != nil {
		return nil, nil, err
	}
	if !before.isOf(config) { // else it is the key that was stored with verify=false
		if warnings, err = b.mindSecondaries(ctx, name, "leases", config.force); err != nil {
			return nil, nil, err
		}
	}
	config.Previous, config.Retired = nil, nil
	kept, err := b.forgetOwnKeys(ctx, s, name)
	return a, slices.Concat(warnings, before.leftover(), kept), err
}

// refuseOtherIdentity fails where keys of the engine's own identity are leased and the new key is
// another's: that could not delete them, nor find them. Those that have ended by their date do not count: where the former key is
// gone, nobody could revoke them, and nothing would end the refusal. Where it does not fail and the identity
// changes, the account is given up as in refuseIfUsed. a is the account as it is to be: it knows the cloud's clock also where the
// former key is on hold.
func (b *backend) refuseOtherIdentity(ctx context.Context, s logical.Storage, a *account, before *accountConfig) error {
	name, config := a.name, a.config
	if before.sameIdentity(config) {
		return nil
	}
	own := func() int {
		return len(b.ledger.Select(name, func(i *ledger.Item) bool {
			return i.User == "" && i.Leased() && i.Unreadable == "" && !before.isOfAnother(i) && !a.isDeadItem(i)
		}))
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
		return userError("account %q is in use (%d leased access keys of the engine's own identity, %s): the new key belongs to %s, "+
			"which cannot delete them. Revoke these leases first, or write a key of the former", name, n,
			identityOf(before.Identity), identityOf(config.Identity))
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
	needed, err := b.accountInUse(ctx, s, name, made)
	if err == nil && needed == (use{}) { // and no request that has begun meanwhile needs it, nor will one
		b.freeze(name)
		needed, err = b.accountInUse(ctx, s, name, made)
	}
	if err != nil {
		return err
	}
	if needed != (use{}) {
		return userError("account %q is in use (%s): %s. %s first", name, needed.what, why, needed.remedy)
	}
	return nil
}

// mindSecondaries wants force on a performance primary before an account is deleted, or stands for
// another cloud account or identity: nobody sees there what the secondaries have leased of it. leases are those that it strands.
func (b *backend) mindSecondaries(ctx context.Context, name, leases string, force bool) (warnings []string, err error) {
	switch {
	case !b.mayHaveSecondaries(ctx):
		return nil, nil
	case !force:
		return nil, userError("account %q may have %s on the secondaries of this performance primary, which does not see them, and "+
			"after this they could not revoke them. Revoke the account's %s on each secondary first, and then repeat this with "+
			"force=true", name, leases, leases)
	default:
		return []string{fmt.Sprintf("the secondaries of this performance primary cannot revoke their %s of account %q any more: "+
			"delete in the cloud the keys of those that you have not revoked there before", leases, name)}, nil
	}
}

// forgetOwnKeys takes the engine's own keys of an account that is given up out of the
// ledger. Nothing else can be there, since an account in use is not given up, but abandoned keys that
// it could not delete: their records stay, and it names them. A first key that the change itself has
// made is not settled yet, and stays.
func (b *backend) forgetOwnKeys(ctx context.Context, s logical.Storage, account string) (warnings []string, err error) {
	config, err := b.accountConfig(ctx, s, account)
	if err != nil {
		return nil, err
	}
	for _, item := range b.ledger.Select(account, func(item *ledger.Item) bool { return !item.Unfinished() }) {
		kept := config != nil && config.isOfAnother(&item)
		if !kept {
			e, err := b.abandonedEntry(ctx, s, &item)
			if err != nil {
				return nil, err
			}
			kept = e != nil
		}
		if kept {
			warnings = append(warnings, fmt.Sprintf("access key %s was abandoned, and the account's key has no right to it: delete it in the "+
				"cloud, then its record with force=true of keys/%s", item.AccessKey, item.AccessKey))
			continue
		}
		if err := b.ledger.Remove(ctx, s, account, item.Label); err != nil {
			return nil, err
		}
	}
	return warnings, nil
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
	return []string{"the engine made access keys for itself that it cannot delete without the account: delete them in the cloud: " +
		strings.Join(keys, ", ")}
}

// replaceKey settles what a write means for the engine's own keys. A key that rotation has
// replaced is not taken back: an old Terraform state that is applied again would end the
// engine with it. A key that the engine made itself, and an operator replaces, is deleted
// later, from the given time on, like any that it has replaced.
func (c *accountConfig) replaceKey(before *accountConfig, until time.Time) (warnings []string) {
	if before == nil || c.AccessKey == before.AccessKey {
		return nil
	}
	if before.wasReplaced(c.AccessKey) {
		warnings = append(warnings, fmt.Sprintf("access key %s was replaced by rotation and is not used again: the account keeps %s, "+
			"the other fields are stored", c.AccessKey, before.AccessKey))
		c.AccessKey, c.SecretKey = before.AccessKey, before.SecretKey
		return warnings
	}
	if before.KeyLabel != "" {
		previous := before.asPrevious(until)
		previous.ByOperator = true
		c.Previous = append(slices.Clone(c.Previous), previous)
		c.KeyLabel = ""
	}
	return warnings
}
