// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// What other people do with the hands of a cloud account: both clouds in one language.

// live tells whether a key signs, by the cloud's clock.
func (t *tenant) live(key cloudsim.Key) bool {
	if t.domain != nil {
		return key.State == cloudsim.Active
	}
	return key.Live(time.Now().Add(t.w.skew))
}

// setDate moves a key's date, or clears it. Huawei's is a part of the description.
func (t *tenant) setDate(key cloudsim.Key, expires time.Time) {
	if t.domain == nil {
		if !expires.IsZero() {
			expires = expires.UTC().Truncate(time.Second)
		}
		t.account.RewriteKey(key.ID, key.Tag, expires)
		return
	}
	t.domain.DescribeKey(key.ID, described(key.Tag, expires))
}

func (t *tenant) setLabel(key cloudsim.Key, label string) {
	if t.domain == nil {
		t.account.RewriteKey(key.ID, label, key.Expires)
		return
	}
	t.domain.DescribeKey(key.ID, described(label, key.Expires))
}

func described(label string, expires time.Time) string {
	if expires.IsZero() {
		return label
	}
	return label + "/until/" + expires.UTC().Format(time.RFC3339)
}

func (t *tenant) userNames() []string {
	if t.domain == nil {
		return t.account.Users()
	}
	return t.domain.Users()
}

// keysOf is how many keys a user has.
func (t *tenant) keysOf(user string) int {
	_, keys := t.find(user)
	return keys
}

// find returns a user's id and how many keys he has; an empty id: there is no user of that name.
func (t *tenant) find(user string) (id string, keys int) {
	if t.domain == nil {
		found, _ := t.account.User(user)
		return found.ID, found.Keys
	}
	found, _ := t.domain.User(user)
	return found.ID, found.Keys
}

func (t *tenant) ownerOf(id string) string {
	if t.domain == nil {
		return t.account.KeyOwner(id)
	}
	return t.domain.KeyOwner(id)
}

// lock is what a forgotten program does that has a dead key, or the id of a key alone.
func (t *tenant) lock(engineKey string) {
	for range 5 {
		if t.domain == nil {
			t.account.UseDeadKey()
		} else {
			t.domain.UseWrongSecret(engineKey)
		}
	}
}

// isLocked tells whether a refusal has locked the account, or, on Huawei Cloud, the key.
func (t *tenant) isLocked(refusal cloudsim.Call) bool {
	if t.domain != nil {
		return t.domain.Locked(refusal.AccessKey)
	}
	return refusal.Account == t.id() && t.account.Locked()
}

// order places an order to fail at this account alone.
func (t *tenant) order(fault cloudsim.Fault) (cancel func()) {
	fault.Account = t.id()
	fault.Op = t.op(fault.Op)
	return t.sim.Order(fault)
}

func (t *tenant) id() string {
	if t.domain == nil {
		return t.account.ID()
	}
	return t.domain.ID()
}

// refusesTheKey is how the cloud says that it does not take a key.
func (t *tenant) refusesTheKey() cloudsim.Fault {
	if t.domain == nil {
		return cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"}
	}
	return cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "APIGW.0301"}
}

// denied is how it says that the user may not.
func (t *tenant) denied(op string) cloudsim.Fault {
	if t.domain == nil {
		return cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 401, Code: "7"}
	}
	return cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 403, Code: "IAM.0002"}
}
