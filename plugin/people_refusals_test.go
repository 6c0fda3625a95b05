// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// The refusals of keys, and the locks that they bring: invariant 5.

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
				if before.in[mount] != after.in[mount] && before.in[mount].mayForget(before.at) && after.stored[mount] < i {
					w.troubled(l.t, nil, longestLock, soon)
				}
			}
		}
	}
	w.locks = nil
}

// forgetsRefusals is called when a snapshot takes back what the mount's processes have stored of them.
func (m *mount) forgetsRefusals() {
	m.w.storyLock.Lock()
	defer m.w.storyLock.Unlock()
	mount := slices.Index(m.w.mounts, m)
	for _, refusals := range m.w.refused {
		for _, r := range refusals {
			r.in[mount].forgets(time.Time{})
		}
	}
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
	made := w.keys.get(id)
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
