// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"maps"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// madeKey is what is known of a key of the engine's for ever.
type madeKey struct {
	mount    *mount
	tenant   *tenant
	instance string
	kind     string
	label    string
	user     string
	touched  string // what somebody has done to it; empty: nothing
	clock    bool   // its date was written while the engine could not know the cloud's clock
	ended    bool   // somebody has ordered its end
	excused  string // why nobody has to know it any more; empty: somebody has to
}

// madeKeys are the keys that the mounts have made, by id. Whoever acts at a call looks at them while requests beside it go on.
type madeKeys struct {
	lock sync.Mutex // never held while waiting
	byID map[string]*madeKey
	gone map[*tenant]time.Time // when somebody has deleted a lease's user last, and with it what nobody has seen
}

// get returns nil for a key that nobody has seen.
func (k *madeKeys) get(id string) *madeKey {
	k.lock.Lock()
	defer k.lock.Unlock()
	return k.byID[id]
}

// add takes a key, unless another has seen it meanwhile.
func (k *madeKeys) add(id string, made *madeKey) {
	k.lock.Lock()
	defer k.lock.Unlock()
	if k.byID[id] == nil {
		k.byID[id] = made
	}
}

// wentUnseen tells whether keys of the tenant's users may have gone with their user since then.
func (k *madeKeys) wentUnseen(t *tenant, since time.Time) bool {
	k.lock.Lock()
	defer k.lock.Unlock()
	return !k.gone[t].Before(since)
}

// noteUserGone notes that the user of leases is deleted now.
func (k *madeKeys) noteUserGone(t *tenant) {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.gone[t] = time.Now()
}

func (k *madeKeys) all() map[string]*madeKey {
	k.lock.Lock()
	defer k.lock.Unlock()
	return maps.Clone(k.byID)
}

// scan looks at the keys in the cloud, and remembers those that are new.
func (w *world) scan() {
	for _, t := range w.tenants {
		for _, key := range t.keys() {
			if w.keys.get(key.ID) != nil || w.planted[key.ID] {
				continue
			}
			label, err := keylabel.Parse(key.Tag)
			if err != nil {
				continue
			}
			for _, m := range w.mounts {
				if m.instance == label.Instance || m.instance == "" {
					w.keys.add(key.ID, &madeKey{
						mount: m, tenant: t, instance: label.Instance, kind: string(label.Kind), label: key.Tag, user: t.ownerOf(key.ID),
					})
					break
				}
			}
		}
	}
}

// end notes that somebody has ordered a key's end.
func (w *world) end(id string) {
	w.scan()
	if made := w.keys.get(id); made != nil {
		made.ended = true
	}
}
