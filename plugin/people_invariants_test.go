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

// scan looks at the keys in the cloud, and remembers those that are new.
func (w *world) scan() {
	for _, t := range w.tenants {
		for _, key := range t.keys() {
			if w.keys[key.ID] != nil || w.planted[key.ID] {
				continue
			}
			label, err := keylabel.Parse(key.Tag)
			if err != nil {
				continue
			}
			for _, m := range w.mounts {
				if m.instance == label.Instance || m.instance == "" {
					w.keys[key.ID] = &madeKey{
						mount: m, tenant: t, instance: label.Instance, kind: string(label.Kind), label: key.Tag, user: t.ownerOf(key.ID),
					}
					break
				}
			}
		}
	}
}

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
			made := m.w.keys[key.ID]
			if made == nil || made.mount != m || made.excused != "" || !t.live(key) {
				continue
			}
			if !known.has(key.ID, made.label) {
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
		made := m.w.keys[id]
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
	t, made := m.tenantOf(accountOf(l)), m.w.keys[l.AccessKey()]
	key, there := t.key(l.AccessKey())
	end := key.Expires
	if t.domain == nil { // Huawei Cloud ends no key: the date is the engine's own
		end = end.Add(-m.w.skew)
	}
	switch {
	case made != nil && (made.touched != "" || made.ended):
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
	made := m.w.keys[id]
	for _, t := range m.w.tenants {
		key, there := t.key(id)
		if made != nil && strings.Contains(made.touched, "its date") && m.knows().ledger[id] != nil {
			continue // by its record's date it is dead, and the reaper's: somebody has given it another (reliability.md)
		}
		if there && t.live(key) && (made == nil || made.excused == "") && m.knowsTheClock(t) {
			m.w.problem("1: %s of %s succeeds, and the key works (%+v)", what, id, key)
		}
	}
}

// keyRefusal is a call that the cloud has refused for its key, and that it counts.
type keyRefusal struct {
	at time.Time
	in []*process // of each mount, when it was sent
	// of those before it, what each mount has stored
	stored []int
}

// countRefusal notes a refusal that an account's lock counts: none of a lock, of a right, or that a fault made up.
func (w *world) countRefusal(call cloudsim.Call) {
	counted := call.Status == 401 && (call.Code == "1" || call.Code == "APIGW.0301" && !call.Locked) || call.Code == "4120"
	w.storyLock.Lock()
	defer w.storyLock.Unlock()
	if takesTheKey(call) { // it has no refusals in a row any more, neither for the cloud nor for the engine
		delete(w.refused, call.AccessKey)
	}
	if !counted || call.Fault != "" {
		return
	}
	r := keyRefusal{at: time.Now()}
	for _, m := range w.mounts {
		r.in = append(r.in, m.process)
		r.stored = append(r.stored, m.refusalsStored(call.AccessKey))
	}
	w.refused[call.AccessKey] = append(w.refused[call.AccessKey], r)
	for _, t := range w.tenants {
		if t.isLocked(call) {
			w.locks = append(w.locks, lock{t, call.AccessKey, w.refused[call.AccessKey]})
		}
	}
}

// lock is one of an account by the refusals of a key, which were so many in a row.
type lock struct {
	t        *tenant
	key      string
	refusals []keyRefusal
}

// mindLocks excuses everybody of an account that was locked by refusals which a mount could not count together: a snapshot has taken back
// what a process had stored of them, or that died before it did. No other lock is excused.
func (w *world) mindLocks() {
	w.storyLock.Lock()
	defer w.storyLock.Unlock()
	for _, l := range w.locks {
		for mount, m := range w.mounts {
			for i := max(1, len(l.refusals)-lockingNobody); i < len(l.refusals) && w.isSigner(m, l.key); i++ {
				before, after := l.refusals[i-1], l.refusals[i]
				if before.in[mount] != after.in[mount] && before.in[mount].forgot.Load() && after.stored[mount] < i {
					w.troubled(l.t, nil, longestLock, soon)
				}
			}
		}
	}
	w.locks = nil
}

// refusalsStored are those of a key in a row that storage knows.
func (m *mount) refusalsStored(id string) (most int) {
	ctx, s := context.Background(), m.storage.Storage
	for _, t := range m.w.tenants {
		for _, account := range []string{t.name, "spare-" + t.name} {
			config, err := load[accountConfig](ctx, s, configPrefix+account)
			hold, problem := load[storedHold](ctx, s, holdPrefix+account)
			if err == nil && problem == nil && config != nil && hold != nil && config.AccessKey == id {
				most = max(most, hold.Refusals)
			}
		}
	}
	return most
}

// isSigner tells whether a mount has signed with a key. The lock is held.
func (w *world) isSigner(m *mount, id string) bool {
	made := w.keys[id]
	return m.signed[id] || made != nil && made.mount == m && made.kind == string(keylabel.KindRoot)
}

// takesTheKey tells the answers that show that a cloud has taken the key: its own success, and what it says of rights.
func takesTheKey(call cloudsim.Call) bool {
	own := call.Fault == "" || call.Fault == cloudsim.Delay || call.Fault == cloudsim.DelayAnswer
	return own && call.Status/100 == 2 || call.Code == "7" || call.Code == "IAM.0002"
}

// lockingNobody locks no account: the cloud does so at the fourth in a row (OUTSCALE), or the fifth (Huawei Cloud).
const lockingNobody = 3

// locksNobody is (5): while nobody writes its configuration, a process has a key refused three times in half an hour at most.
func (w *world) locksNobody() {
	w.storyLock.Lock()
	defer w.storyLock.Unlock()
	for id, refusals := range w.refused {
		for mount, m := range w.mounts {
			if !w.isSigner(m, id) {
				continue
			}
			for i := lockingNobody; i < len(refusals); i++ {
				first, last := refusals[i-lockingNobody], refusals[i]
				written := slices.ContainsFunc(m.written, func(at time.Time) bool { return !at.Before(first.at) && !at.After(last.at) })
				if last.at.Sub(first.at) < 30*time.Minute && !written && first.in[mount] == last.in[mount] {
					w.problem("5: %s has access key %s refused %d times from %s to %s", m.name, id, lockingNobody+1, showTime(first.at), showTime(last.at))
					return
				}
			}
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
		made := m.w.keys[key.ID]
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
			if m.w.keys[old.ID] == nil && !given && t.keysOf(user) >= t.quota() {
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
				made := w.keys[key.ID]
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
			made := w.keys[creds.AccessKey]
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
