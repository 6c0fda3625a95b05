// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// accessKeyLease is what the lease of an access key, alone or with its user, carries in its InternalData: strings only, since it
// is JSON on the way back and numbers and times change their type.
type accessKeyLease struct {
	Kind       keylabel.Kind // told by the secret's type, which the sdk keeps
	Account    string
	AccountID  string
	User       string
	AccessKey  string
	Label      string
	Role       string
	RoleTTL    time.Duration
	RoleMaxTTL time.Duration
	Issued     time.Time
	Expires    time.Time // the key's date when the lease was last written
}

// leaseOf is the lease of a key that was just made.
func leaseOf(e *ledgerEntry, role *roleEntry) *accessKeyLease {
	return &accessKeyLease{
		Kind:       e.Kind,
		Account:    e.Account,
		AccountID:  e.AccountID,
		User:       e.User,
		AccessKey:  e.AccessKey,
		Label:      e.Label,
		Role:       e.Role,
		RoleTTL:    role.TTL,
		RoleMaxTTL: role.MaxTTL,
		Issued:     e.Issued,
		Expires:    e.Expires,
	}
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

// write puts the lease into a secret, beside what the sdk keeps there.
func (l *accessKeyLease) write(secret *logical.Secret) {
	for key, value := range l.internalData() {
		secret.InternalData[key] = value
	}
}

// ledgerEntry is what the lease alone can say of its key. It lacks the user's id, which
// the label makes up for.
func (l *accessKeyLease) ledgerEntry() *ledgerEntry {
	return &ledgerEntry{
		Kind:      l.Kind,
		AccessKey: l.AccessKey,
		Account:   l.Account,
		AccountID: l.AccountID,
		User:      l.User,
		Role:      l.Role,
		Label:     l.Label,
		Issued:    l.Issued,
		Expires:   l.Expires,

		unrecorded: true,
	}
}

// readLease reads a lease back. Leases may be old, or damaged: nothing is taken for
// granted.
func readLease(secret *logical.Secret, kind keylabel.Kind) (*accessKeyLease, error) {
	if secret == nil {
		return nil, fmt.Errorf("the request names no lease")
	}
	r := leaseReader{data: secret.InternalData}
	lease := &accessKeyLease{
		Kind:       kind,
		Account:    r.text("account"),
		AccountID:  r.text("account_id"),
		User:       r.text("user_name"),
		AccessKey:  r.text("access_key"),
		Label:      r.text("label"),
		Role:       r.text("role"),
		RoleTTL:    r.duration("role_ttl"),
		RoleMaxTTL: r.duration("role_max_ttl"),
		Issued:     r.time("issued"),
		Expires:    r.time("expires"),
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
