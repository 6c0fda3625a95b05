// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// place is where somebody does something: at the keys and users of one mount in one cloud account.
type place struct {
	*world
	m    *mount
	t    *tenant
	pick int    // of the keys or users that there are, from the newest
	call string // that is under way; empty: none
}

// deed is what somebody else does between any two calls of the engine. It does nothing where there is nothing to do it to.
type deed struct {
	name string
	do   func(p place)
}

// deeds are all that other people do. Between operations any of them may happen, too.
func deeds() []deed {
	return slices.Concat(userDeeds(), keyDeeds(), accountDeeds(), networkDeeds(), operatorDeeds(), serverDeeds())
}

func deedNamed(name string) (deed, bool) {
	all := deeds()
	i := slices.IndexFunc(all, func(d deed) bool { return d.name == name })
	if i < 0 {
		return deed{}, false
	}
	return all[i], true
}

// act has a deed done at a call of the mount's. Where it is a fault that acts, it returns its name.
func (w *world) act(name, call string, m *mount) (fault string) {
	d, known := deedNamed(name)
	if !known {
		name = m.faultOf(name, call)
		w.tell("  a fault at %s: %s", call, name)
		w.note(aFault)
		for _, t := range w.tenants {
			m.troubleFor(t, outageLength, afterHold)
		}
		return name
	}
	at := w.aim
	if at.world == nil {
		at = place{w, m, w.tenants[0], 0, call}
	}
	at.call = call
	w.tell(" at %s:", call)
	began := time.Now()
	w.doDeed(d, at)
	m.lock.Lock()
	m.others += time.Since(began)
	m.lock.Unlock()
	if d.name == aPanic {
		panic("ordered by the test")
	}
	return ""
}

// The faults of the schedules act in sequences, too: a number chooses one that can hit the call.
const (
	aFault = "a fault"
	aPanic = "a panic"
)

func (m *mount) faultOf(name, call string) string {
	n, err := strconv.Atoi(strings.TrimPrefix(name, aFault+" "))
	if err != nil {
		return name
	}
	cloud := m.scene.cloud
	if strings.Contains(call, ":v3") {
		cloud = m.second
	}
	faults := cloud.faultsAt(call)
	return faults[n%len(faults)]
}

func (w *world) doDeed(d deed, at place) {
	w.tell("  %s, at %s of %s", d.name, at.t.name, at.m.name)
	w.note(d.name)
	w.scan()
	d.do(at)
	w.scan()
}

func (w *world) note(name string) { w.acted(name, cmp.Or(w.protocol, "between")) }

// switchedOff is what a static role's key is left as: somebody meant it, and check/ says so.
const switchedOff = "switched off"

// userDeeds are done to users by whoever may do so in the cloud account.
func userDeeds() []deed {
	return []deed{
		{"a user is renamed", func(p place) {
			p.ofUser(func(user string) { p.t.renameUser(user, p.newName(user)) })
		}},
		{"a user's name is given to another", func(p place) {
			p.ofUser(func(user string) {
				p.t.renameUser(user, p.newName(user))
				p.t.addUser(user)
			})
		}},
		{"two users change their names", func(p place) {
			app, pool, between := p.m.user("app"), p.m.user("pool"), p.newName("between")
			if p.hasUser(app) && p.hasUser(pool) {
				p.t.renameUser(app, between)
				p.t.renameUser(pool, app)
				p.t.renameUser(between, pool)
			}
		}},
		{"a user is deleted", func(p place) {
			p.ofUser(func(user string) {
				p.keys.noteUserGone(p.t)
				p.deleteUser(user)
			})
		}},
		{"a user is deleted and made anew", func(p place) {
			p.ofUser(func(user string) {
				p.keys.noteUserGone(p.t)
				p.deleteUser(user)
				p.t.addUser(user)
			})
		}},
		{"the user of a lease is renamed", func(p place) {
			p.ofLeasedUser(func(user string) { p.t.renameUser(user, p.newName("job")) })
		}},
		{"the user of a lease is deleted", func(p place) { p.ofLeasedUser(p.deleteUser) }},
		{"the engine's user is renamed", func(p place) {
			if user := p.engineUser(); user != "" {
				p.t.renameUser(user, p.newName("engine"))
			}
		}},
	}
}

// keyDeeds are done to keys, by their holders as well.
func keyDeeds() []deed {
	return []deed{
		{"a key is switched off", func(p place) {
			p.ofKey(switchedOff, func(key cloudsim.Key) { p.t.switchKey(key.ID, false) })
		}},
		{"a key is switched on", func(p place) {
			for id := range p.keys.all() {
				if key, there := p.t.key(id); there && p.keys.get(id).tenant == p.t && key.State == cloudsim.Inactive {
					p.t.switchKey(id, true)
				}
			}
		}},
		{"a key is deleted", func(p place) {
			p.ofKey("deleted", func(key cloudsim.Key) { p.t.deleteKey(key.ID) })
		}},
		{"a key's date is moved ahead", func(p place) {
			p.ofKey("its date moved", func(key cloudsim.Key) { p.t.setDate(key, time.Now().Add(10*day)) })
		}},
		{"a key's date is moved near", func(p place) {
			p.ofKey("its date moved", func(key cloudsim.Key) { p.t.setDate(key, time.Now().Add(time.Minute)) })
		}},
		{"a key's date is cleared", func(p place) {
			p.ofKey("its date cleared", func(key cloudsim.Key) { p.t.setDate(key, time.Time{}) })
		}},
		{"a key's label is cleared", func(p place) {
			p.ofKey("its label cleared", func(key cloudsim.Key) { p.t.setLabel(key, "") })
		}},
		{"a key's label is forged", func(p place) {
			kind := []keylabel.Kind{keylabel.KindRoot, keylabel.KindStatic, keylabel.KindUser}[p.pick%3]
			p.ofKey("its label forged", func(key cloudsim.Key) { p.t.setLabel(key, keylabel.New(p.m.instance, kind).String()) })
		}},
		{"a key gets another instance's label", func(p place) {
			p.ofKey("its label forged", func(key cloudsim.Key) { p.t.setLabel(key, keylabel.New(keylabel.NewID(), keylabel.KindLease).String()) })
		}},
		{"a lessee makes another key", func(p place) {
			p.ofKey("", func(key cloudsim.Key) { p.plant(p.ownerOf(key), "") })
		}},
		{"a user's quota is filled", func(p place) {
			p.ofUser(func(user string) {
				for p.t.keysOf(user) < p.t.quota() {
					p.plant(user, "")
				}
			})
		}},
	}
}

func (p place) newName(user string) string {
	p.serial++
	base, _, _ := strings.Cut(user, ".")
	return base + "." + string(rune('a'+p.serial%26)) + string(rune('a'+p.serial/26%26))
}

// ofUser does something to one of the users whose keys the mount leases and rotates. The calm and quiet ones are left alone, and so
// show whether others are served as if nothing had happened.
func (p place) ofUser(do func(user string)) {
	names := []string{p.m.user("app"), p.m.user("pool"), p.m.user("db")}
	for i := range names {
		if name := names[(p.pick+i)%len(names)]; p.hasUser(name) {
			do(name)
			return
		}
	}
}

func (p place) hasUser(name string) bool { return slices.Contains(p.t.userNames(), name) }

func (p place) ofLeasedUser(do func(user string)) {
	var ours []string
	for name, label := range p.t.userLabels() {
		if strings.Contains(label, p.m.instance) {
			ours = append(ours, name)
		}
	}
	slices.Sort(ours)
	if len(ours) > 0 {
		do(ours[p.pick%len(ours)])
	}
}

// engineUser is the user whose key the mount itself uses; empty: the root user's, or a name that has changed.
func (p place) engineUser() string {
	if user := p.m.user("vault"); p.hasUser(user) {
		return user
	}
	return ""
}

// ofKey does something to a leased or static key of the mount, and notes that.
func (p place) ofKey(touch string, do func(key cloudsim.Key)) {
	var found []cloudsim.Key
	for _, key := range p.t.keys() {
		made := p.keys.get(key.ID)
		if made != nil && made.mount == p.m && made.kind != string(keylabel.KindRoot) && !calm(made.user) {
			found = append(found, key)
		}
	}
	if len(found) == 0 {
		return
	}
	key := found[len(found)-1-p.pick%len(found)]
	if touch != "" {
		p.touch(key.ID, touch)
	}
	do(key)
}

func (w *world) touch(id, what string) {
	if made := w.keys.get(id); made != nil {
		made.touched += what + " "
		if strings.Contains(what, "label") && made.mount.knows().begun[made.label] {
			made.excused = "its label was changed while nothing else was known of it"
		}
		w.tell("    %s (%s): %s", id, made.user, what)
	}
}

// calm tells the users that nobody touches.
func calm(user string) bool {
	return strings.HasPrefix(user, "calm-") || strings.HasPrefix(user, "quiet-")
}

func (p place) deleteUser(user string) {
	for _, key := range p.t.keys() {
		if p.ownerOf(key) == user {
			p.touch(key.ID, "deleted with its user")
		}
	}
	p.t.deleteUser(user)
}

// ownerOf is the name that a key's user has now.
func (p place) ownerOf(key cloudsim.Key) string { return p.t.ownerOf(key.ID) }

// plant makes a key that no engine has made.
func (p place) plant(user, label string) {
	p.planted[p.t.addKey(user, label, time.Time{}).AccessKey] = true
}
