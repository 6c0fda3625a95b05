// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// operatorDeeds are requests of other operators to the same mount.
func operatorDeeds() []deed {
	return []deed{
		{"the configuration is written", func(p place) { p.besides(logical.UpdateOperation, "config/"+p.t.name, p.m.fieldsOf(p.t)...) }},
		{"the configuration is patched", func(p place) { p.besides(logical.PatchOperation, "config/"+p.t.name, "max_ttl=2h") }},
		{"the configuration gets another key", func(p place) {
			if p.t.keysOf(p.m.user("vault")) < p.t.quota() {
				p.m.given[p.t.name] = p.m.newEngineKey(p.t)
				p.besides(logical.UpdateOperation, "config/"+p.t.name, p.m.fieldsOf(p.t)...)
			}
		}},
		{"the configuration is deleted", func(p place) { p.besides(logical.DeleteOperation, "config/"+p.t.name) }},
		{"the configuration is deleted with force", func(p place) { p.besides(logical.DeleteOperation, "config/"+p.t.name, "force=true") }},
		{"a role is written", func(p place) { p.besides(logical.UpdateOperation, "roles/"+p.t.name+"-app", "ttl=4m") }},
		{"a role is deleted", func(p place) { p.besides(logical.DeleteOperation, "roles/"+p.t.name+"-app") }},
		{"a static role is written", func(p place) {
			p.besides(logical.UpdateOperation, "static-roles/"+p.t.name+"-db", "account="+p.t.name, "user_name="+p.m.user("db"),
				"rotation_period=12h", "rotation_grace_period=5m")
		}},
		{"a static role is deleted", func(p place) { p.besides(logical.DeleteOperation, "static-roles/"+p.t.name+"-db") }},
		{"a static role is rotated", func(p place) { p.besides(logical.UpdateOperation, "rotate-role/"+p.t.name+"-db") }},
		{"the engine key is rotated", func(p place) { p.besides(logical.UpdateOperation, "rotate-root/"+p.t.name) }},
		{"many static roles lose their users", func(p place) { p.aside(func(ctx context.Context) { p.loseUsers(ctx) }) }},
		{"an operator checks the account", func(p place) { p.besides(logical.ReadOperation, "check/"+p.t.name) }},
	}
}

// serverDeeds are what happens to the server and its mounts.
func serverDeeds() []deed {
	return []deed{
		{"the plugin is reloaded", func(p place) { p.m.process.die() }},
		{"the node steps down", func(p place) {
			p.m.system.become(consts.ReplicationPerformanceStandby)
			p.m.hangUp()
			p.m.process.die()
		}},
		{"a snapshot is restored", func(p place) {
			p.m.restore = true
			p.m.process.die()
		}},
		{"the server ticks", func(p place) {
			p.aside(func(ctx context.Context) { _ = p.m.tickIn(ctx) })
		}},
		{"the mount is moved", func(p place) {
			p.m.system.taint(true)
			p.aside(func(ctx context.Context) { _ = p.m.tickIn(ctx) })
			p.m.system.taint(false)
			p.m.process.die()
		}},
		{"the mount is disabled", func(p place) {
			p.m.disable = true
			p.m.process.die()
		}},
		{"the client hangs up", func(p place) { p.m.hangUp() }},
		{aPanic, func(p place) { p.m.panics++ }},
	}
}

// besides sends a request that runs beside the one that is under way, and may have to wait for it.
func (p place) besides(op logical.Operation, path string, fields ...string) {
	p.aside(func(ctx context.Context) {
		answer, err := p.m.ask(ctx, op, path, fields...)
		p.answered(op, path, fields, answer, err)
	})
}

// aside runs something beside the call that is under way, which goes on when that has ended, or seems to wait for it.
func (p place) aside(run func(ctx context.Context)) {
	done := make(chan struct{})
	p.m.beside.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(p.world.t.Context(), revokeTimeout)
		defer cancel()
		run(ctx)
	})
	if holdsMutex(p.call) {
		return
	}
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// holdsMutex tells the calls during which the engine may hold a mutex: those to storage. Whoever needs that waits without the bubble's
// clock going on, so nobody may wait for him meanwhile.
func holdsMutex(call string) bool { return strings.Contains(call, " ") }

// requestQuietly is a request whose failure is nobody's concern but the model's.
func (m *mount) requestQuietly(ctx context.Context, op logical.Operation, path string, fields ...string) error {
	_, err := m.ask(ctx, op, path, fields...)
	return err
}

// ask is one whose answer is, where it succeeds.
func (m *mount) ask(ctx context.Context, op logical.Operation, path string, fields ...string) (*logical.Response, error) {
	resp, err := m.request(ctx, op, path, fields...)
	if err = failure(resp, err); err != nil {
		m.w.tell("    %s %s: %.200s", op, path, err)
		return nil, err
	}
	return resp, nil
}

// answered notes what an operator's request means for what the world expects.
func (p place) answered(op logical.Operation, path string, fields []string, answer *logical.Response, err error) {
	if p.m.process.dead.Load() && err != nil {
		err = nil // nobody knows
	}
	switch config := "config/" + p.t.name; {
	case path == config && op == logical.DeleteOperation && err == nil:
		p.m.excuseLeft(answer)
		p.m.troubleFor(p.t, never, 0)
		for _, made := range p.keys.all() {
			if made.mount == p.m && made.tenant == p.t && slices.Contains(fields, "force=true") {
				made.excused = "its account was deleted with force"
			}
		}
	case path == config && op == logical.DeleteOperation:
		p.m.troubleFor(p.t, never, 0) // some of the engine's keys may be deleted, and the configuration marked
	}
}

// lostRoles is how many static roles lose their users at once, as when somebody clears a cloud account up.
const lostRoles = 28

func (p place) loseUsers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, issueBudget) // for all of them: where the cloud hangs, each would take as long
	defer cancel()
	for i := range lostRoles {
		if ctx.Err() != nil {
			return
		}
		user := fmt.Sprintf("lost%d-%s", i, p.m.name)
		p.t.addUser(user)
		_ = p.m.requestQuietly(ctx, logical.UpdateOperation, fmt.Sprintf("static-roles/%s-lost%d", p.t.name, i),
			"account="+p.t.name, "user_name="+user, "rotation_period=1h", "rotation_grace_period=5m")
		p.deleteUser(user)
	}
}

// newEngineKey is a key of the engine's user that an operator makes by hand.
func (m *mount) newEngineKey(t *tenant) cloudsim.Credentials { return m.newKeyOf(t, m.user("vault")) }

// newKeyOf is one of a user with the engine's rights.
func (m *mount) newKeyOf(t *tenant, user string) cloudsim.Credentials {
	var made cloudsim.Credentials
	switch {
	case t.domain != nil:
		t.domain.AddUser(user, cloudsim.SecurityAdministrator, cloudsim.AgentOperator) // its name may have gone to nobody
		made = t.domain.AddKey(cloudsim.IAMKeySpec{User: user})
	case m == m.w.mounts[0] && user == m.user("vault"): // it has the root user's
		made = t.account.AddKey(cloudsim.KeySpec{})
	default:
		t.account.AddUser(user, "api:*")
		made = t.account.AddKey(cloudsim.KeySpec{User: user})
	}
	m.w.planted[made.AccessKey] = true
	return made
}

// disableMount is what the server does when a mount is disabled: it revokes the leases, which must all succeed, ticks once more with the
// mount tainted, and deletes storage. The operator deletes what it leaves in the cloud (reliability.md says what), and mounts the engine
// anew.
func (m *mount) disableMount() {
	m.disable = false
	m.saboteur = newSaboteur(nil) // what was broken is repaired before
	ctx := m.w.t.Context()
	for _, l := range slices.Clone(m.leases) {
		m.revokeIn1(ctx, l)
	}
	if len(m.leases) > 0 {
		m.w.tell("  %s cannot be disabled: %d leases are left", m.name, len(m.leases))
		return
	}
	m.w.tell("  %s is disabled", m.name)
	m.system.taint(true)
	_ = m.tickIn(ctx)
	m.system.taint(false)
	m.w.scan()
	for id, made := range m.w.keys.all() {
		if made.mount == m {
			made.excused = "its mount was disabled"
			made.tenant.deleteKey(id)
		}
	}
	for _, t := range m.w.tenants {
		for user, label := range t.userLabels() {
			if strings.Contains(label, m.instance) {
				t.deleteUser(user)
			}
		}
		m.troubleFor(t, never, 0) // until an operator configures it
	}
	m.storage.Storage, m.leases = new(logical.InmemStorage), nil
	m.start()
	var err error
	if m.instance, err = m.backend.instanceID(ctx, m.storage); err != nil {
		m.w.t.Fatal(err)
	}
	m.takeSnapshot()
}

// takeSnapshot backs the server up.
func (m *mount) takeSnapshot() {
	storage, err := copyStorage(m.storage.Storage)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.saved = &snapshot{storage: storage}
	for _, l := range m.leases {
		m.saved.leases = append(m.saved.leases, *l)
	}
}

// restoreSnapshot has the server go on from its backup. Of what it has done since it knows nothing: keys that were made are known by
// their label alone, and keys that were deleted stand in leases, configurations and static roles again.
func (m *mount) restoreSnapshot() {
	m.restore = false
	m.w.scan() // what the process had ordered when it died may have been done after anybody looked
	m.w.tell("  %s is restored", m.name)
	storage, err := copyStorage(m.saved.storage)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.storage.Storage, m.leases = storage, nil
	for i := range m.saved.leases {
		l := m.saved.leases[i]
		m.leases = append(m.leases, &l)
	}
	known := m.knows()
	for id, made := range m.w.keys.all() {
		if made.mount != m {
			continue
		}
		made.ended = false
		if !known.has(id, made.label) {
			made.excused = "a snapshot from before it was restored"
		}
		if key, there := made.tenant.key(id); !there || !made.tenant.live(key) {
			made.touched += "deleted before a snapshot was restored "
			if there && key.State == cloudsim.Inactive {
				made.touched += switchedOff
			}
		}
	}
	for _, t := range m.w.tenants {
		m.troubleFor(t, never, 0) // the engine key of the snapshot may be deleted since
	}
	m.behind = true
	m.forgetsRefusals()
	m.start()
}
