// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// One of these types stands in every lease. They must never be renamed: Vault could
// not revoke the leases of an older version.
const (
	secretAccessKeyType = "cloudkeys_access_key" // a key of a user that exists
	secretIAMUserType   = "cloudkeys_iam_user"   // a key with a user made for it
)

// secretTypeOf is the type of a lease whose key is of the given kind.
func secretTypeOf(kind keylabel.Kind) string {
	if kind == keylabel.KindUser {
		return secretIAMUserType
	}
	return secretAccessKeyType
}

// secret is the lease of an access key.
func (b *backend) secret(kind keylabel.Kind) *framework.Secret {
	return &framework.Secret{
		Type: secretTypeOf(kind),
		Renew: b.timed(operationRenew, func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
			return b.renewAccessKey(ctx, req, kind)
		}),
		Revoke: b.timed(operationRevoke, func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
			return nil, b.revokeAccessKey(ctx, req, kind)
		}),
	}
}

// renewAccessKey moves the key's date ahead with the lease:
//
//	(1) decide, without a cloud call
//	(2) ledger: the later date
//	    → crash: the ledger's date is later than the key's: the key is reaped late, and
//	      is dead before
//	(3) cloud: the later date
//	    → crash: the key outlives a lease that was not renewed; Vault revokes it at
//	      the lease's end
//	(4) answer
//
// The date never moves back, so a renewal that races another, or one that Vault
// runs twice, does no harm.
func (b *backend) renewAccessKey(ctx context.Context, req *logical.Request, kind keylabel.Kind) (*logical.Response, error) {
	ctx, cancel := context.WithTimeout(transport.WithClass(ctx, transport.ClassRenew), issueBudget)
	defer cancel()
	lease, err := readLease(req.Secret, kind)
	if err != nil {
		return nil, err
	}
	ctx = transport.WithFlow(ctx, lease.Role)
	a, err := b.accountOf(ctx, req.Storage, lease.Account, lease.AccountID, lease.AccessKey)
	if err != nil {
		return nil, err
	}
	entry, err := b.entryToRenew(ctx, req.Storage, lease)
	if err != nil {
		return nil, err
	}
	roleTTL, roleMax, err := b.roleLimits(ctx, req.Storage, lease)
	if err != nil {
		return nil, err
	}
	plan := func() (lifetime.RenewalPlan, error) {
		view, err := b.currentPolicy(ctx, req.Storage, a)
		if err != nil {
			return lifetime.RenewalPlan{}, err
		}
		if _, known := a.measuredSkew(); known {
			entry.Skew = a.skew()
		}
		life := lifetime.Life{Issued: lease.Issued, Started: req.Secret.IssueTime, KeyExpiry: entry.Expires.Add(-entry.Skew)}
		wanted := b.wantedLease(roleTTL, a.config.TTL)
		return planRenewal(b.System(), time.Now(), life, bounds(b.System().MaxLeaseTTL(), a, view, roleMax), req.Secret.Increment, wanted)
	}
	renewed, err := b.moveExpiry(ctx, req.Storage, a, entry, plan)
	if err != nil {
		return nil, err
	}
	ttl, maxTTL, err := renewed.AtReply(time.Now())
	if err != nil {
		return nil, err
	}
	lease.Expires = entry.Expires
	resp := &logical.Response{Secret: req.Secret}
	if warning := a.clockWarning(); warning != "" {
		resp.AddWarning(warning)
	}
	maps.Copy(resp.Secret.InternalData, lease.internalData()) // beside what the sdk keeps there
	resp.Secret.TTL, resp.Secret.MaxTTL = ttl, maxTTL
	return resp, nil
}

// moveExpiry is steps (1) to (3) of a renewal, done a second time where the cloud
// refuses the date because the access policy was changed meanwhile.
func (b *backend) moveExpiry(
	ctx context.Context, s logical.Storage, a *account, entry *ledger.Entry, plan func() (lifetime.RenewalPlan, error),
) (lifetime.RenewalPlan, error) {
	once := func() (lifetime.RenewalPlan, error) {
		renewed, err := plan()
		if err != nil {
			return lifetime.RenewalPlan{}, err
		}
		entry.Expires = renewed.Expiry.Add(entry.Skew)
		if err := b.ledger.Save(ctx, s, entry); err != nil {
			return lifetime.RenewalPlan{}, err
		}
		ref, err := a.ref(entry)
		if err != nil {
			return lifetime.RenewalPlan{}, err
		}
		err = a.cloud.MoveExpiry(ctx, ref)
		switch kind := provider.KindOf(err); {
		case kind == provider.KindInvalid:
			return lifetime.RenewalPlan{}, errors.Join(err, b.restoreExpiry(ctx, s, a, entry, ref))
		case kind == provider.KindNotFound && entry.Unrecorded:
			// Removed before, by a delete of keys/<id> or a reaper: it stays so.
			return lifetime.RenewalPlan{}, errors.Join(err, b.ledger.Remove(ctx, s, entry.Account, entry.Label))
		}
		return renewed, err
	}
	renewed, err := once()
	if err == nil && a.skewMoved(entry.Skew) { // the answer was a process's first, and shows it
		renewed, err = once()
	}
	if provider.KindOf(err) == provider.KindInvalid {
		changed, refreshErr := a.skewMoved(entry.Skew), error(nil)
		if !changed {
			changed, refreshErr = b.policyChanged(ctx, s, a)
		}
		if refreshErr == nil && changed {
			renewed, err = once()
		}
	}
	var refused *provider.Error
	switch {
	case err == nil:
		return renewed, nil
	case errors.Is(err, provider.ErrSwitchedOff):
		return lifetime.RenewalPlan{}, fmt.Errorf("access key %s was switched off in the cloud, and its lease is not renewed: "+
			"somebody meant it. Revoke this lease and ask for a new one, or have the key switched on again", entry.AccessKey)
	case provider.KindOf(err) == provider.KindNotFound:
		return lifetime.RenewalPlan{}, fmt.Errorf("access key %s no longer exists in the cloud: revoke this lease and ask for a new one (%w)",
			entry.AccessKey, err)
	case errors.As(err, &refused):
		// Plain: Vault prints a logical.ErrorResponse from a renewal as a struct.
		return lifetime.RenewalPlan{}, fmt.Errorf("renewing access key %s: %w", entry.AccessKey, explain(a.name, err))
	default:
		return lifetime.RenewalPlan{}, err
	}
}

// restoreExpiry takes a date that the cloud refused out of the ledger again: it would
// be sent, and refused, at every renewal to come. The true one is asked for, since an
// earlier renewal may have crashed before it reached the cloud. The key's user may have another name by now.
func (b *backend) restoreExpiry(ctx context.Context, s logical.Storage, a *account, entry *ledger.Entry, ref provider.KeyRef) error {
	key, found, err := a.cloud.FindKey(ctx, ref)
	switch {
	case err != nil:
		return fmt.Errorf("reading the key's expiration date: %w", err)
	case !found:
		return fmt.Errorf("reading the expiration date of access key %s: no list shows it", ref.ID)
	case key.End().IsZero(): // its holder has cleared it
		return nil
	}
	entry.Expires = key.End()
	return b.ledger.Save(ctx, s, entry)
}

// planRenewal decides a renewal. increment is what the client asks for (0: the role's TTL).
func planRenewal(
	sys logical.SystemView, now time.Time, life lifetime.Life, b lifetime.Bounds, increment, roleTTL time.Duration,
) (lifetime.RenewalPlan, error) {
	maxTTL, err := b.RenewalMaxTTL(life)
	if err != nil {
		return lifetime.RenewalPlan{}, err
	}
	ttl, _, err := framework.CalculateTTL(sys, increment, roleTTL, 0, maxTTL, 0, life.Started)
	if err != nil {
		return lifetime.RenewalPlan{}, lifetime.ErrPastMaximum
	}
	return b.PlanRenewal(now, life, ttl, maxTTL), nil
}

// revokeAccessKey ends the key with its lease:
//
//	(1) cloud: revoke the key, then remove the user that was made for it, both idempotent
//	    → crash: Vault revokes again and finds gone what is gone
//	(2) ledger: remove
//	    → crash: Vault revokes again; or the reaper drops the entry at the key's date
//
// Its errors are plain, and Vault tries again.
func (b *backend) revokeAccessKey(ctx context.Context, req *logical.Request, kind keylabel.Kind) error {
	ctx, cancel := context.WithTimeout(transport.WithClass(ctx, transport.ClassRevoke), revokeBudget)
	defer cancel()
	lease, err := readLease(req.Secret, kind)
	if err != nil {
		return err
	}
	ctx = transport.WithFlow(ctx, lease.Role)
	entry, err := b.entryOf(ctx, req.Storage, lease)
	if err != nil {
		return err
	}
	if entry.Unrecorded || entry.Abandoned { // whoever gave the key up was told
		if gone, err := b.lostItsAccount(ctx, req.Storage, &lease.Entry); err != nil || gone {
			return err
		}
	}
	a, err := b.accountOf(ctx, req.Storage, lease.Account, lease.AccountID, lease.AccessKey)
	if err != nil {
		return err
	}
	// The removal of a dead key can wait for the reaper, and a storm of late revokes needs no
	// cloud call.
	if a.isDead(entry.Expires) {
		b.revokedBefore.Delete(lease.AccessKey) // the reaper may have come before the last attempt failed
		return nil
	}
	if _, failed := b.revokedBefore.Load(lease.AccessKey); failed {
		ctx = transport.WithAgain(ctx)
	}
	if err := a.destroy(ctx, entry); err != nil {
		b.revokedBefore.Store(lease.AccessKey, true)
		return fmt.Errorf("revoking access key %s: %w", lease.AccessKey, errors.New(explain(a.name, err).Error()))
	}
	return b.removeEntry(ctx, req.Storage, entry)
}

// entryOf returns the ledger's entry of a lease: the one under its label, as far as that is of the
// leased key, since leases can be damaged; else the one of its access key. It may be gone, after a
// crash or when the reaper was faster; what the lease itself says then serves.
func (b *backend) entryOf(ctx context.Context, s logical.Storage, lease *accessKeyLease) (*ledger.Entry, error) {
	e, err := ledger.Read(ctx, s, lease.Account, lease.Label)
	if err != nil || e != nil && e.AccessKey == lease.AccessKey {
		return e, err
	}
	if err := b.ledger.Load(ctx, s, ""); err != nil {
		return nil, err
	}
	if item, found := b.ledger.Find(lease.AccessKey); found && item.Leased() {
		if e, err = ledger.Read(ctx, s, item.Account, item.Label); err != nil || e != nil {
			return e, err
		}
	}
	unrecorded := lease.Entry
	return &unrecorded, nil
}

// entryToRenew is entryOf for a renewal, which writes an entry that is missing. It refuses where
// that would take the place of another key's.
func (b *backend) entryToRenew(ctx context.Context, s logical.Storage, lease *accessKeyLease) (*ledger.Entry, error) {
	e, err := b.entryOf(ctx, s, lease)
	if err != nil || !e.Unrecorded {
		return e, err
	}
	_, damaged := keylabel.Parse(lease.Label)
	other, err := ledger.Read(ctx, s, lease.Account, lease.Label)
	if err != nil {
		return nil, err
	}
	if damaged != nil || other != nil {
		return nil, fmt.Errorf("the lease's label is not that of access key %s: the lease is damaged. Revoke it and ask for a new "+
			"one", lease.AccessKey)
	}
	return e, nil
}

// lostItsAccount tells that the key's account is not configured any more, or is another cloud account now. That cannot happen
// while the ledger has the key, unless the key was abandoned (delete with force=true). So a key without a record is gone; of an
// abandoned one the operator was told. Either way a revoke has nothing left to do.
func (b *backend) lostItsAccount(ctx context.Context, s logical.Storage, e *ledger.Entry) (bool, error) {
	config, err := b.accountConfig(ctx, s, e.Account)
	if err != nil || config == nil {
		return err == nil, err
	}
	return config.isAnother(e.AccountID), nil
}

// roleLimits are the role's TTLs, as it stands now; those of the time of issue where
// it was deleted, since leases outlive their role.
func (b *backend) roleLimits(ctx context.Context, s logical.Storage, lease *accessKeyLease) (ttl, maxTTL time.Duration, err error) {
	role, err := b.roles.load(ctx, s, rolePrefix+lease.Role)
	if err != nil {
		return 0, 0, err
	}
	if role == nil {
		return lease.RoleTTL, lease.RoleMaxTTL, nil
	}
	return role.TTL, role.MaxTTL, nil
}

// accessKeyLease is what the lease of an access key, alone or with its user, carries in its InternalData: strings only, since it
// is JSON on the way back and numbers and times change their type.
type accessKeyLease struct {
	ledger.Entry // what the lease says of its key, with the date when the lease was last written
	RoleTTL      time.Duration
	RoleMaxTTL   time.Duration
}

// internalData is the lease as Vault stores it.
func (l *accessKeyLease) internalData() map[string]any {
	return map[string]any{
		"account":      l.Account,
		"account_id":   l.AccountID,
		"user_name":    l.User,
		"access_key":   l.AccessKey,
		"label":        l.Label,
		"role":         l.Role,
		"role_ttl":     l.RoleTTL.String(),
		"role_max_ttl": l.RoleMaxTTL.String(),
		"issued":       l.Issued.UTC().Format(time.RFC3339Nano),
		"expires":      l.Expires.UTC().Format(time.RFC3339Nano),
	}
}

// readLease reads a lease back. Leases may be old, or damaged: nothing is taken for
// granted.
func readLease(secret *logical.Secret, kind keylabel.Kind) (*accessKeyLease, error) {
	r := leaseReader{data: secret.InternalData}
	lease := &accessKeyLease{
		Entry: ledger.Entry{ // it lacks the user's id, which the label makes up for
			State: ledger.Made, Kind: kind, // told by the secret's type, which the sdk keeps
			Account: r.text("account"), AccountID: r.text("account_id"), User: r.text("user_name"), AccessKey: r.text("access_key"),
			Label: r.text("label"), Role: r.text("role"), Issued: r.time("issued"), Expires: r.time("expires"),
			Unrecorded: true,
		},
		RoleTTL: r.duration("role_ttl"), RoleMaxTTL: r.duration("role_max_ttl"),
	}
	if r.err == nil && (lease.Account == "" || lease.AccessKey == "") {
		r.err = fmt.Errorf("it names no account or no access key")
	}
	if r.err != nil {
		return nil, fmt.Errorf("the lease's data cannot be read, so its access key is unknown: %w", r.err)
	}
	return lease, nil
}

// leaseReader reads fields and remembers the first error.
type leaseReader struct {
	data map[string]any
	err  error
}

func (r *leaseReader) text(field string) string {
	text, ok := r.data[field].(string)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("field %q is missing or not a text", field)
	}
	return text
}

func (r *leaseReader) duration(field string) time.Duration {
	d, err := time.ParseDuration(r.text(field))
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("field %q is not a duration", field)
	}
	return d
}

func (r *leaseReader) time(field string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.text(field))
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("field %q is not a time", field)
	}
	return t
}
