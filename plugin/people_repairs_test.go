// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// What operators do to set right what others have done.

// amend is what operators do when all is over.
func (w *world) amend() {
	w.t.Helper()
	for _, c := range w.condition {
		c.stop()
	}
	w.condition = nil
	place{world: w}.setClock(0)
	w.tenants[0].account.SetPolicy(cloudsim.Policy{})
	w.tenants[1].domain.SetManageAccessKey(true)
	w.advance(longestLock)
	for _, t := range w.tenants {
		t.freeSlots()
	}
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			m.freeStaticSlots(t)
			m.amendAccount(t)
			m.endCauses(t)
		}
	}
}

// endCauses: nothing keeps the mount from the account any more.
func (m *mount) endCauses(t *tenant) {
	now := time.Now()
	for i, c := range m.causes[t.name] {
		if c.to.After(now) {
			m.causes[t.name][i].to = now
		}
	}
}

// freeStaticSlots does what the refusal of a rotation asks for where a static role has no key in the cloud and its user no slot: of the
// others' keys that stand in the refusal, one is deleted. The rest may be the engine's own under a label that somebody has forged.
func (m *mount) freeStaticSlots(t *tenant) {
	for _, path := range m.under(staticCredsPrefix + t.name + "-") {
		role, creds, err := loadStatic(context.Background(), m.storage.Storage, strings.TrimPrefix(path, staticCredsPrefix))
		if err != nil || role == nil || t.keysOf(role.UserName) < t.quota() {
			continue
		}
		if _, there := t.key(creds.AccessKey); there {
			continue
		}
		others := slices.DeleteFunc(t.keys(), func(key cloudsim.Key) bool {
			return !m.w.planted[key.ID] || t.ownerOf(key.ID) != role.UserName
		})
		if len(others) > 0 {
			t.deleteKey(others[0].ID)
		}
	}
}

// freeSlots does the same where others have all slots of a user.
func (t *tenant) freeSlots() {
	others := map[string]int{}
	for _, key := range t.keys() {
		if owner := t.ownerOf(key.ID); t.w.planted[key.ID] {
			if others[owner]++; others[owner] == t.quota() {
				t.deleteKey(key.ID)
			}
		}
	}
}

// amendAccount writes the account anew where its key does not work any more, with one that an operator has made, and its roles.
func (m *mount) amendAccount(t *tenant) {
	m.t.Helper()
	key, there := t.key(m.engineKey(t))
	if !there || !t.live(key) {
		for _, old := range t.keys() { // what fills the engine's quota is the operator's to clear
			user := t.ownerOf(old.ID)
			given := slices.ContainsFunc(m.w.mounts, func(each *mount) bool { // or still in use, where a write of another failed
				return each.given[t.name].AccessKey == old.ID || each.engineKey(t) == old.ID
			})
			if m.w.keys.get(old.ID) == nil && !given && t.keysOf(user) >= t.quota() {
				t.deleteKey(old.ID)
			}
		}
		m.given[t.name] = m.newEngineKey(t)
		m.asked("config/"+t.name, func(ctx context.Context) {
			_ = m.requestQuietly(ctx, logical.UpdateOperation, "config/"+t.name, m.fieldsOf(t)...)
		})
	}
	config, err := load[accountConfig](m.w.t.Context(), m.storage.Storage, configPrefix+t.name)
	if err == nil && config != nil && config.Deleting {
		m.asked("config/"+t.name, func(ctx context.Context) { // a delete that has not ended: a write keeps the account
			_ = m.requestQuietly(ctx, logical.UpdateOperation, "config/"+t.name, "max_ttl=4h")
		})
	}
	for _, user := range []string{"app", "pool", "calm", "db", "quiet"} {
		if !slices.Contains(t.userNames(), m.user(user)) {
			t.addUser(m.user(user))
		}
	}
	for i := range lostRoles { // nobody needs them any more
		path := fmt.Sprintf("static-roles/%s-lost%d", t.name, i)
		if slices.Contains(m.under(staticRolePrefix), path) {
			m.asked(path, func(ctx context.Context) { _ = m.requestQuietly(ctx, logical.DeleteOperation, path) })
		}
	}
	for _, role := range m.roleFields(t) {
		if state := m.stateOf(t, role); state != "" && state == m.roles[role[0]] {
			continue
		}
		m.asked(role[0], func(ctx context.Context) {
			if m.requestQuietly(ctx, logical.UpdateOperation, role[0], role[1:]...) == nil {
				m.roles[role[0]] = m.stateOf(t, role)
			}
		})
	}
}
