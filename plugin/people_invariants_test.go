// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// What holds whatever others do. The number before a problem's text is the invariant's:
//
//	(1) no success for a key that still works (but the answer of force);
//	(2) every live key of ours is known and dies in time;
//	(3) no lease outlives its key;
//	(4) another account or mount is served as if nothing had happened, another role of the account within the issue budget as
//	    long as the pace suffices;
//	(5) the engine's own refusals cause no lock beyond the one above (a dead key locks nobody in the first half hour, once for a
//	    minute in the first day);
//	(6) a lease that the server gives up has a record that the engine goes on with;
//	(7) the process lives, and after any panic no request hangs.

// check holds the invariants that hold at every moment.
func (w *world) check(when string) {
	w.t.Helper()
	w.scan()
	w.mindLocks()
	w.mindHolds()
	before := len(w.problems)
	for _, m := range w.mounts {
		known := m.knows()
		m.checkKnown(known)
		m.checkLeases(known)
		for _, t := range w.tenants {
			m.quietOnTime(t)
			m.keepsSlots(t)
		}
	}
	w.locksNobody()
	for i := before; i < len(w.problems); i++ {
		w.problems[i] += " (" + when + ")"
	}
}

// has tells whether anything in storage, or a lease, knows the key.
func (k knowledge) has(id, label string) bool {
	return k.named[id] || k.ledger[id] != nil || k.labels[label] || k.begun[label] || k.leases[id] != nil
}

func (m *mount) checkKnown(known knowledge) {
	now := time.Now()
	for _, t := range m.w.tenants {
		for _, key := range t.keys() {
			made := m.w.keys.get(key.ID)
			if made == nil || made.mount != m || made.excused != "" || !t.live(key) {
				continue
			}
			switch {
			case known.has(key.ID, made.label):
			case !m.knowsTheClock(t) && !key.Expires.IsZero() && key.Expires.Before(now.Add(m.w.furthest)):
				made.excused = "it had ended by the clock that was set back, of which its mount could not know"
				continue
			default:
				m.w.problem("2: access key %s of %s (%s, %s) lives and nobody knows it", key.ID, m.name, made.kind, made.touched)
			}
			m.checkDies(known, t, key, made, now)
		}
	}
}

// reaped is how long after its date a key is deleted at the latest, where the cloud does not end it, by an engine that nothing keeps
// from it.
const reaped = lifetime.DefaultExpiryGrace + 10*time.Minute

// checkDies holds that a key which nobody leases ends, by its date or by the engine.
func (m *mount) checkDies(known knowledge, t *tenant, key cloudsim.Key, made *madeKey, now time.Time) {
	leasing := made.kind == string(keylabel.KindLease) || made.kind == string(keylabel.KindUser)
	if !leasing || known.leases[key.ID] != nil || made.touched != "" || m.lately(t) {
		return
	}
	if e := known.ledger[key.ID]; e != nil && now.After(e.Expires.Add(reaped)) && e.Failures == 0 {
		m.w.problem("2: access key %s of %s lives %s after its date, and the engine has not tried to delete it", key.ID, m.name,
			now.Sub(e.Expires))
	}
	if key.Expires.IsZero() || now.Add(2*time.Hour).Before(key.Expires) {
		m.w.problem("2: access key %s of %s is nobody's and lives until %s", key.ID, m.name, showTime(key.Expires))
	}
}

// lately tells whether something has kept the mount from the account in the last minutes.
func (m *mount) lately(t *tenant) bool {
	return time.Now().Before(m.trouble[t.name].Add(reaped)) || m.engineKeyEnded(t)
}

func (m *mount) checkLeases(known knowledge) {
	for id, l := range known.leases {
		t := m.tenantOf(accountOf(l))
		key, there := t.key(id)
		made := m.w.keys.get(id)
		if made == nil {
			continue // its key was gone before anybody looked
		}
		live := there && t.live(key)
		switch {
		case l.Irrevocable && live && known.ledger[id] == nil && made.excused == "":
			m.w.problem("6: the server has given up the lease of %s, whose key lives and has no record", id)
		case made.touched != "" || made.ended || made.excused != "" || !time.Now().Before(l.Expires):
		case !live && !made.clock && m.w.clocks.Before(l.IssueTime):
			m.w.problem("3: the lease of %s (%s) ends at %s, and its key does not work", id, made.user, showTime(l.Expires))
		}
	}
}

// holdAgainstKey expects the key of a new or renewed lease to work as long as the lease.
func (m *mount) holdAgainstKey(how string, l *testLease) {
	if m.process.dead.Load() {
		return // nobody gets the answer
	}
	m.w.scan()
	t, made := m.tenantOf(accountOf(l)), m.w.keys.get(l.AccessKey())
	key, there := t.key(l.AccessKey())
	end := key.Expires
	if t.domain == nil { // Huawei Cloud ends no key: the date is the engine's own
		end = end.Add(-m.w.skew)
	}
	switch {
	case made != nil && (made.touched != "" || made.ended):
	case made == nil && !there && how == "issued" && m.w.keys.wentUnseen(t, m.began): // with its user, while it was made
	case !m.knowsTheClock(t):
		if made != nil {
			made.clock = true
		}
	case !there || !t.live(key):
		m.w.problem("3: a lease was %s, and its key %s does not work", how, l.AccessKey())
	case key.Expires.IsZero() || end.Add(time.Second).Before(l.Expires):
		m.w.problem("3: a lease was %s until %s, and its key %s ends at %s", how, showTime(l.Expires), l.AccessKey(), showTime(end))
	}
}

// mustNotWork is (1).
func (m *mount) mustNotWork(what, id string) {
	made := m.w.keys.get(id)
	for _, t := range m.w.tenants {
		recorded := m.knows().ledger[id] != nil // before the key is looked at: a reaper beside it deletes the key, then the record
		key, there := t.key(id)
		if made != nil && strings.Contains(made.touched, "its date") && recorded {
			continue // by its record's date it is dead, and the reaper's: somebody has given it another (reliability.md)
		}
		if there && t.live(key) && (made == nil || made.excused == "") && m.knowsTheClock(t) {
			m.w.problem("1: %s of %s succeeds, and the key works (%+v)", what, id, key)
		}
	}
}

// quietOnTime is (4) for a static role that nobody touches: it is rotated at its time, whatever keeps others from that.
func (m *mount) quietOnTime(t *tenant) {
	path := staticCredsPrefix + t.name + "-quiet"
	creds, err := load[staticCreds](context.Background(), m.storage.Storage, path)
	if err != nil || creds == nil || m.behind || m.lately(t) {
		return
	}
	if late := time.Since(creds.LastRotation.Add(time.Hour)); late > reaped+afterHold {
		m.w.problem("4: static role %s-quiet of %s is due for %s", t.name, m.name, late)
	}
}

// keepsSlots is (4) for the engine itself: of its own identity, whatever comes at once, it keeps a slot for its key and the next one.
func (m *mount) keepsSlots(t *tenant) {
	leased := 0
	for _, key := range t.keys() {
		made := m.w.keys.get(key.ID)
		if made != nil && made.mount == m && made.excused == "" && made.user == "" && made.kind == string(keylabel.KindLease) {
			leased++
		}
	}
	if leased > t.quota()-engineSlots {
		m.w.problem("4: %s has leased %d keys of its own identity in %s, and has no room for its next key", m.name, leased, t.name)
	}
}

func (m *mount) countPanics() {
	// One that is ordered while static roles are listed reaches each account that waits for the list.
	if got := m.backend.metrics.panics.Load(); got > m.panics*uint64(len(m.w.tenants)+1) {
		m.w.problem("7: %d panics in %s, and %d were ordered", got, m.name, m.panics)
	}
}

// serves is (4): the calm role of an account that nothing has happened to leases within the budget, and the lease can be revoked.
func (w *world) serves(m *mount, t *tenant) {
	w.t.Helper()
	w.mindLocks()
	w.mindHolds()
	if m.inTrouble(t) || w.failed() {
		return
	}
	began := time.Now()
	var l *testLease
	var err error
	m.asked("creds/calm", func(ctx context.Context) { l, err = m.tryLease(ctx, t.name+"-calm") })
	if err != nil && strings.Contains(err.Error(), "ExpirationDate is in the past") && !m.knowsTheClock(t) {
		return // a clock that was set is believed after some answers
	}
	if err != nil {
		w.problem("4: %s does not lease in %s: %v", m.name, t.name, err)
		return
	}
	m.holdAgainstKey("issued", l)
	if took := time.Since(began); took > issueBudget {
		w.problem("4: a lease of %s in %s took %s", m.name, t.name, took)
	}
	m.revokeLease(l)
	for tries := 1; slices.Contains(m.leases, l) && !m.knowsTheClock(t) && tries < 6; tries++ { // as often as the server does
		m.revokeLease(l)
	}
	if slices.Contains(m.leases, l) {
		w.problem("4: %s does not revoke in %s", m.name, t.name)
	}
}

// everybody is served who can ask for it.
func (w *world) everybodyIsServed() {
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			w.serves(m, t)
		}
	}
}

// peace is when all others have gone and the operators have set right what they can: then everybody is served, and when all leases
// have ended, each account was held against the ledger and a tidy has run, nothing is left but what configurations and static roles
// name.
func (w *world) peace() {
	w.t.Helper()
	if w.failed() {
		return
	}
	w.tell("peace")
	w.ticking = 4 * rollbackPeriod // what takes its time takes ticks, and each costs the test time
	w.amend()
	w.advance(afterHold + soon)
	var held time.Time
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			if until := m.heldUntil(t); until.After(held) {
				held = until
			}
		}
	}
	w.advance(time.Until(held))
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			m.amendAccount(t) // while the engine key was on hold, roles were written without a look at their users, and the answers said so
			m.trouble[t.name] = time.Time{}
		}
	}
	w.everybodyIsServed()
	for _, m := range w.mounts {
		for _, l := range slices.Clone(m.leases) {
			m.revokeLease(l)
			if slices.Contains(m.leases, l) && !w.failed() {
				w.problem("4: in peace, %s cannot revoke the lease of %s", m.name, l.AccessKey())
			}
		}
	}
	w.compareAll()
	w.advance(20 * time.Minute)
	w.compareAll() // a static role's orphan may be in use until its grace is over: the next comparison deletes it
	w.advance(20 * time.Minute)
	for _, m := range w.mounts {
		m.behind = false
	}
	w.advance(10 * time.Minute)
	w.mustBeClean()
}

// compareAll is a day's comparison, and a tidy whose changes somebody confirms, however many they are.
func (w *world) compareAll() {
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			m.compareNow(t)
			m.asked("tidy", func(ctx context.Context) { m.tidyUp(ctx, "account="+t.name, "confirm=1000") })
		}
	}
}

// mustBeClean expects nothing of ours but what configurations and static roles name.
func (w *world) mustBeClean() {
	w.t.Helper()
	if w.failed() {
		return
	}
	for _, m := range w.mounts {
		known := m.knows()
		for _, t := range w.tenants {
			for _, key := range t.keys() {
				made := w.keys.get(key.ID)
				if made != nil && made.mount == m && t.live(key) && !known.named[key.ID] && made.excused == "" {
					w.problem("2: in peace, access key %s of %s (%s, %s) is left alive", key.ID, m.name, made.kind, made.touched)
				}
			}
		}
		for _, e := range m.entries() {
			if e.State == ledger.Begun {
				w.problem("2: in peace, %s of %s is still begun", e.Label, m.name)
			}
		}
		for _, path := range m.under(staticCredsPrefix) {
			creds := stored[staticCreds](m.testVault, path)
			account, _, _ := strings.Cut(strings.TrimPrefix(path, staticCredsPrefix), "-")
			t := m.tenantOf(account)
			if time.Since(creds.Compared) < day {
				continue // what a comparison has replaced, none replaces again within a day
			}
			made := w.keys.get(creds.AccessKey)
			if strings.Contains(path, "-lost") {
				continue // their users are gone
			}
			meant := made == nil || made.ended || strings.Contains(made.touched, switchedOff)
			if key, there := t.key(creds.AccessKey); !meant && (!there || !t.live(key)) {
				w.problem("2: in peace, the key %s of %s does not work", creds.AccessKey, path)
			}
		}
	}
}
