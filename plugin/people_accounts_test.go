// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// How long after its cause has gone an account may need to be served again.
const (
	soon      = 3 * time.Minute  // an ordinary failure: the next call is tried
	afterHold = 20 * time.Minute // the cloud has refused the engine key: tried after 1 and 16 minutes
)

// longestLock is past every lock of an account's.
const longestLock = 12 * time.Minute

// outage is how long what lasts does so.
const outage = 5 * time.Minute

// accountDeeds are done to a whole cloud account.
func accountDeeds() []deed {
	return []deed{
		{"another program locks the account", func(p place) {
			p.t.lock(p.m.engineKey(p.t))
			p.troubled(p.t, nil, longestLock, soon)
		}},
		{"a forgotten script uses a dead key", func(p place) {
			if p.t.domain == nil {
				p.t.account.UseDeadKey()
				p.troubled(p.t, nil, longestLock, soon)
			}
		}},
		{"the policy is tightened", func(p place) { p.setPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900}) }},
		{"the policy is lifted", func(p place) { p.setPolicy(cloudsim.Policy{}) }},
		{"the policy may not be read", func(p place) {
			p.lastsHere("the policy may not be read", outage, soon, p.t.order(p.t.denied("ReadApiAccessPolicy")))
		}},
		{"users may not be listed", func(p place) {
			p.lastsHere("users may not be listed", outage, soon, p.t.order(p.t.denied("ReadUsers")))
		}},
		{"nothing is allowed", func(p place) {
			p.lastsHere("nothing is allowed", outage, soon, p.t.order(p.t.denied("")))
		}},
		{"secure mode is turned on", func(p place) {
			if p.t.domain == nil {
				p.setPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 7200, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: true})
				p.lastsHere("secure mode", outage, soon, func() { p.setPolicy(cloudsim.Policy{}) })
			}
		}},
		{"only administrators manage keys", func(p place) {
			if p.t.domain != nil {
				p.t.domain.SetManageAccessKey(false)
			}
		}},
		{"the engine key is switched off for a while", func(p place) {
			id := p.m.engineKey(p.t)
			p.t.switchKey(id, false)
			p.lastsHere("the engine key is off", outage, afterHold, func() { p.t.switchKey(id, true) })
		}},
		{"the engine key is deleted", func(p place) {
			p.t.deleteKey(p.m.engineKey(p.t))
			p.m.troubleFor(p.t, never, 0)
		}},
		{"the cloud refuses the engine key by mistake", func(p place) {
			p.lastsHere("the cloud refuses the engine key", outage, afterHold, p.t.order(p.t.refusesTheKey()))
		}},
		{"the cloud's clock goes ahead", func(p place) { p.setClock(4 * time.Minute) }},
		{"the cloud's clock falls behind", func(p place) { p.setClock(-4 * time.Minute) }},
		{"this machine's clock jumps ahead", func(p place) { p.setClock(-2 * time.Minute) }},
		{"this machine's clock is 20 minutes off", func(p place) {
			p.setClock(20 * time.Minute)
			for _, t := range p.tenants {
				p.troubled(t, nil, outage, afterHold) // OUTSCALE says of a wrong time what it says of a refused key
			}
			p.lasts("the clock is 20 minutes off", outage, func() { p.setClock(0) })
		}},
		{"all clocks are set right", func(p place) { p.setClock(0) }},
		{"this machine's clock was a year ahead once", func(p place) {
			s := p.m.storage.Storage
			_ = save(p.world.t.Context(), s, reconcilePrefix+p.t.name, &reconcileState{Next: time.Now().Add(365 * day)})
		}},
	}
}

// networkDeeds are what lies between engine and cloud.
func networkDeeds() []deed {
	page := "<html><body>Please sign in</body></html>"
	return []deed{
		{"a gateway answers with its own page", func(p place) {
			p.lastsHere("a gateway's pages", outage, soon, p.t.order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Body: page}))
		}},
		{"a gateway's page comes with a 200", func(p place) {
			p.lastsHere("a gateway's pages", outage, soon, p.t.order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 200, Body: page}))
		}},
		{"a proxy refuses", func(p place) {
			p.lastsHere("a proxy that refuses", outage, soon, p.t.order(cloudsim.Fault{Kind: cloudsim.RefuseConnection}))
		}},
		{"connections fall silent", func(p place) {
			p.lastsHere("silence", outage, soon, p.t.order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 40 * time.Second}))
		}},
		{"the cloud throttles", func(p place) {
			p.lastsHere("throttling", outage, soon, p.t.order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: 1}))
		}},
		{"the key is unclear for a moment", func(p place) {
			p.lastsHere("a key that is unclear", 5*time.Second, afterHold, p.t.order(cloudsim.Fault{Kind: cloudsim.Burst4120, Times: 1}))
		}},
		{"lists are stale", func(p place) {
			p.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
			p.sim.SetHuaweiRules(cloudsim.HuaweiRules{KeyDelay: 8 * time.Second, UserDelay: 8 * time.Second})
			for _, t := range p.tenants {
				p.troubled(t, nil, 2*time.Minute, soon)
			}
			p.lasts("lists are stale", 2*time.Minute, func() {
				p.sim.SetRules(cloudsim.Rules{})
				p.sim.SetHuaweiRules(cloudsim.HuaweiRules{})
			})
		}},
	}
}

// engineKey is the key that the mount uses in an account, as storage says; empty where it has none.
func (m *mount) engineKey(t *tenant) string {
	config, err := load[accountConfig](m.w.t.Context(), m.storage.Storage, configPrefix+t.name)
	if err != nil || config == nil {
		return ""
	}
	return config.AccessKey
}

// lastsHere begins what keeps both mounts from a cloud account for a while.
func (p place) lastsHere(name string, d, recovery time.Duration, stop func()) {
	p.troubled(p.t, nil, d, recovery)
	p.lasts(name+" at "+p.t.name, d, stop)
}

// troubled notes that nothing can be asked of a cloud account for so long, and for the recovery after it: of one mount, or of all where
// it is nil.
func (w *world) troubled(t *tenant, m *mount, d, recovery time.Duration) {
	for _, each := range w.mounts {
		if m == nil || each == m {
			each.troubleFor(t, d, recovery)
		}
	}
}

func (m *mount) troubleFor(t *tenant, d, recovery time.Duration) {
	now := time.Now()
	if recovery == afterHold { // else the engine must not take it for a refusal of its key
		m.causes[t.name] = append(m.causes[t.name], span{now, now.Add(d)})
	}
	m.troubleUntil(t, now.Add(d+recovery))
}

func (m *mount) troubleUntil(t *tenant, until time.Time) {
	if until.After(m.trouble[t.name]) {
		m.trouble[t.name] = until
	}
}

// span is a time in which somebody has the cloud refuse a mount's key.
type span struct{ from, to time.Time }

// heldUntil is when a mount tries its key again that the cloud has refused for a cause; zero: it has no hold, or none with a cause. It may
// pause for as long as the refusals have lasted, and half an hour at least, so that its last one was in a cause as well.
func (m *mount) heldUntil(t *tenant) time.Time {
	ctx, s := context.Background(), m.storage.Storage
	config, err := load[accountConfig](ctx, s, configPrefix+t.name)
	hold, problem := load[storedHold](ctx, s, holdPrefix+t.name)
	if err != nil || problem != nil || config == nil || hold == nil || hold.Signer != config.signer() {
		return time.Time{}
	}
	caused, last := false, hold.Since
	for _, c := range m.causes[t.name] {
		caused = caused || !hold.Since.Before(c.from) && !hold.Since.After(c.to)
		if c.to.After(last) {
			last = c.to
		}
	}
	longest := max(30*time.Minute, 2*last.Sub(hold.Since))
	if !caused || hold.Until.After(hold.Since.Add(longest).Add(time.Second)) {
		return time.Time{}
	}
	return hold.Until
}

// mindHolds has the trouble of a mount last as long as a hold that began in it.
func (w *world) mindHolds() {
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			m.troubleUntil(t, m.heldUntil(t))
		}
	}
}

func (m *mount) inTrouble(t *tenant) bool {
	return time.Now().Before(m.trouble[t.name]) || m.engineKeyEnded(t)
}

// engineKeyEnded tells that the engine key has ended, and the engine could not help it: since somebody moved a clock, which may have
// brought its end before the last try that a hold on it allows, or in an outage that lasted beyond its end. It cannot replace itself.
func (m *mount) engineKeyEnded(t *tenant) bool {
	key, there := t.key(m.engineKey(t))
	if !there || t.live(key) || key.State != cloudsim.Active {
		return false
	}
	return !key.Created.After(m.w.clocks) || m.trouble[t.name].After(key.Expires.Add(-m.w.skew))
}

func (p place) setPolicy(policy cloudsim.Policy) {
	if p.t.domain == nil {
		p.t.account.SetPolicy(policy)
	}
}

// setClock sets the clouds' clocks, as far as this machine can tell: it is ahead of them where theirs are behind. Dates of keys that
// were written before mean another time now. A key that had ended, and that whoever knew it has forgotten, may live once more where a
// clock is set back.
func (p place) setClock(skew time.Duration) {
	var dead []string
	for _, t := range p.tenants {
		for _, key := range t.keys() {
			if !t.live(key) {
				dead = append(dead, key.ID)
			}
		}
	}
	p.sim.SetClockSkew(skew)
	p.world.furthest = max(p.furthest, p.skew)
	p.world.skew, p.clocks = skew, time.Now()
	for _, t := range p.tenants {
		for _, id := range dead {
			key, there := t.key(id)
			if made := p.keys.get(id); there && t.live(key) && made != nil && !made.mount.knows().has(id, made.label) {
				made.excused = "it had ended before the clock was set back"
			}
		}
	}
	for _, m := range p.mounts {
		m.mayTry("")
		m.lock.Lock()
		m.calls = map[string]int{}
		m.lock.Unlock()
	}
}

// knowsTheClock tells whether the mount had seen enough of an account's clock when the request that is under way, or was last, began.
func (m *mount) knowsTheClock(t *tenant) bool {
	return m.seen[t.name] >= 2*dates && (m.w.clocks.IsZero() || m.w.clocks.Before(m.began))
}
