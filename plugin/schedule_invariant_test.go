// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// knowledge is what storage and Vault know of keys and users.
type knowledge struct {
	named  map[string]bool          // by configuration or static role
	ledger map[string]*ledger.Entry // settled ones, by key
	labels map[string]bool          // of those, and of leases
	begun  map[string]bool          // labels of entries that are not settled yet
	leases map[string]*testLease    // by key
}

// knows reads past the faults.
func (s *scene) knows() knowledge {
	s.t.Helper()
	k := knowledge{
		named: map[string]bool{}, ledger: map[string]*ledger.Entry{}, labels: map[string]bool{}, begun: map[string]bool{},
		leases: map[string]*testLease{},
	}
	for _, path := range s.under(configPrefix) {
		if config := remembered[accountConfig](s, path); config != nil {
			for _, id := range config.ownKeys() {
				k.named[id] = true
			}
		}
	}
	for _, path := range s.under(staticCredsPrefix) {
		if creds := remembered[staticCreds](s, path); creds != nil {
			for _, id := range creds.ids() {
				k.named[id] = true
			}
		}
	}
	for _, path := range s.under(ledger.Prefix) {
		switch e := remembered[ledger.Entry](s, path); {
		case e == nil:
		case e.State == ledger.Begun:
			k.begun[e.Label] = true
		default:
			k.ledger[e.AccessKey], k.labels[e.Label] = e, true
		}
	}
	for _, l := range s.leases {
		label, _ := l.Secret.InternalData["label"].(string)
		k.leases[l.AccessKey()], k.labels[label] = l, true
	}
	return k
}

// under lists the paths of a prefix of storage.
func (s *scene) under(prefix string) []string {
	s.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(context.Background(), s.storage.Storage, prefix)
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// decoded is what an entry of storage said when it was last read.
type decoded struct {
	raw   []byte
	value any
}

// remembered loads an entry that a list has named, to be read alone: after each step all are looked at, and most are as they were. It is
// nil for one that is gone since: where somebody acts at a call of one of many requests at once, the others go on.
func remembered[T any](s *scene, path string) *T {
	s.t.Helper()
	entry, err := s.storage.Storage.Get(context.Background(), path)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	if entry == nil {
		return nil
	}
	if last, ok := s.decoded.Load(path); ok && bytes.Equal(last.(decoded).raw, entry.Value) {
		return last.(decoded).value.(*T)
	}
	value := new(T)
	if err := entry.DecodeJSON(value); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	s.decoded.Store(path, decoded{entry.Value, value})
	return value
}

// stored loads an entry that is there.
func stored[T any](v *testVault, path string) *T {
	v.t.Helper()
	entry, err := load[T](context.Background(), v.storage.Storage, path)
	if err != nil || entry == nil {
		v.t.Fatalf("%s: %v, %v", path, entry, err)
	}
	return entry
}

// check holds the invariant: every live key of ours is accounted for, and every secret that
// was handed out works.
func (s *scene) check(when string) {
	s.t.Helper()
	synctest.Wait() // the engine works on behind a client that has gone
	known, now := s.knows(), time.Now()
	live := map[string]provider.Key{}
	for _, key := range s.cloud.keys(s.testVault) {
		if key.Active && (s.cloud.neverEnds || key.Expires.IsZero() || now.Before(key.Expires)) {
			live[key.ID] = key
		}
	}
	for id := range s.kept {
		if live[id].ID == "" {
			s.t.Errorf("%s: access key %s was handed over, and does not work", when, id)
		}
	}
	for _, key := range live {
		if problem := s.unaccounted(known, key); problem != "" {
			s.t.Errorf("%s: access key %s (%s) lives in the cloud until %s: %s", when, key.ID, key.Label, showTime(key.Expires), problem)
		}
	}
	for name, label := range s.cloud.users(s.testVault) {
		if !known.labels[label] && !known.begun[label] && !s.planted[name] {
			s.t.Errorf("%s: user %s (%s) is in the cloud and nobody knows it", when, name, label)
		}
	}
	for id, l := range known.leases {
		s.checkLease(when, known, l, live[id])
	}
	for _, path := range s.under(configPrefix) {
		if config := stored[accountConfig](s.testVault, path); live[config.AccessKey].ID == "" {
			s.t.Errorf("%s: %s names the key %s, which does not work", when, path, config.AccessKey)
		}
	}
	s.checkStaticRoles(when, live)
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// unaccounted tells what is wrong with a live key; empty: nothing.
func (s *scene) unaccounted(known knowledge, key provider.Key) string {
	label, err := keylabel.Parse(key.Label)
	if err != nil || s.planted[key.ID] || known.named[key.ID] {
		return ""
	}
	entry, recorded := known.ledger[key.ID]
	_, leased := known.leases[key.ID]
	switch {
	case label.Kind == keylabel.KindRoot || label.Kind == keylabel.KindStatic:
		if !known.begun[key.Label] {
			return "no configuration and no static role names it"
		}
	case leased:
	case !recorded && !known.begun[key.Label] && !known.labels[key.Label]:
		return "nobody knows it"
	case key.Expires.IsZero():
		return "no lease holds it, and it never ends"
	case key.Expires.After(s.latest):
		return "no lease holds it, and it ends later than its lease would have, " + showTime(s.latest)
	case recorded && key.Expires.After(entry.Expires):
		return "the ledger takes it for dead at " + showTime(entry.Expires)
	}
	return ""
}

func (s *scene) checkLease(when string, known knowledge, l *testLease, key provider.Key) {
	s.t.Helper()
	id := l.AccessKey()
	if l.isSession() {
		return // nothing in the cloud or the ledger stands for it: mustWork tries it
	}
	switch {
	case s.ended[id] || !time.Now().Before(l.Expires):
	case key.ID == "":
		s.t.Errorf("%s: the key %s of a lease that ends at %s does not work", when, id, showTime(l.Expires))
	case key.Expires.Before(l.Expires):
		s.t.Errorf("%s: the lease of %s ends at %s, and its key at %s", when, id, showTime(l.Expires), showTime(key.Expires))
	case known.ledger[id] == nil:
		s.t.Errorf("%s: the ledger does not know the leased key %s", when, id)
	case known.ledger[id].Expires.Before(key.Expires):
		s.t.Errorf("%s: the ledger takes the leased key %s for dead at %s, before its date %s", when, id,
			showTime(known.ledger[id].Expires), showTime(key.Expires))
	}
}

// checkStaticRoles expects a role's key to work, and each that it had to do so for its grace.
func (s *scene) checkStaticRoles(when string, live map[string]provider.Key) {
	s.t.Helper()
	for _, path := range s.under(staticCredsPrefix) {
		creds := stored[staticCreds](s.testVault, path)
		role, err := load[staticRole](context.Background(), s.storage.Storage, staticRolePrefix+strings.TrimPrefix(path, staticCredsPrefix))
		if err != nil || role == nil || s.ended[path] {
			continue
		}
		if before := s.current[path]; before != "" && before != creds.AccessKey {
			s.until[before] = creds.LastRotation.Add(role.Grace)
		}
		s.current[path] = creds.AccessKey
		if live[creds.AccessKey].ID == "" {
			s.t.Errorf("%s: the key %s of a static role does not work", when, creds.AccessKey)
		}
	}
	for id, until := range s.until {
		if time.Now().Before(until) && live[id].ID == "" && !s.ended[id] {
			s.t.Errorf("%s: the replaced key %s of a static role does not work, and was to until %s", when, id, showTime(until))
		}
	}
}

// mustWork expects the configuration to give a key that works, and every secret that is in
// somebody's hands to do so.
func (s *scene) mustWork() {
	s.t.Helper()
	if len(s.under(configPrefix)) == 0 {
		return
	}
	for _, l := range append(slices.Clone(s.leases), s.lease("app")) {
		if !s.ended[l.AccessKey()] && time.Now().Before(l.Expires) {
			s.mustSign(l.Data)
		}
	}
	s.latest = s.latestEnd()
	for _, path := range s.under(staticCredsPrefix) {
		if !s.ended[path] {
			s.mustSign(s.read(path))
		}
	}
}

func (s *scene) mustSign(data map[string]any) {
	s.t.Helper()
	if err := s.cloud.sign(s, data); err != nil {
		s.t.Errorf("the secret of %v does not work: %v", data["access_key"], err)
	}
}

// mustEndClean ends all leases and expects that nothing is left but what configuration and
// static roles name. A tidy finds what was planted.
func (s *scene) mustEndClean() {
	s.t.Helper()
	for _, l := range slices.Clone(s.leases) {
		if err := s.revoke(l); err != nil {
			s.t.Errorf("the lease of %s cannot be revoked: %v", l.AccessKey(), err)
		}
	}
	if len(s.planted) > 0 {
		s.tidy()
	}
	// The reaper comes back to what it could not remove.
	s.pass(4 * time.Minute)
	if len(s.firstKeys()) > 0 { // of a name that stays without a configuration
		<-time.After(firstKeyLife + firstKeyPatience)
		s.pass(firstKeyPause)
	}
	known := s.knows()
	for _, key := range s.cloud.keys(s.testVault) {
		if _, err := keylabel.Parse(key.Label); err == nil && !known.named[key.ID] {
			s.t.Errorf("access key %s (%s) of %s is left in the cloud", key.ID, key.Label, cmp.Or(key.User, "the account"))
		}
	}
	for name := range s.cloud.users(s.testVault) {
		s.t.Errorf("user %s is left in the cloud", name)
	}
	for id, entry := range known.ledger {
		if !known.named[id] {
			s.t.Errorf("access key %s (%s) is left in the ledger: %s", id, entry.Label, entry.Problem)
		}
	}
	for label := range known.begun {
		s.t.Errorf("%s is still begun", label)
	}
}
