// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// work is an operation of the engine, at a place, that others act at each of its calls.
type work struct {
	name     string
	protocol string // one of protocols
	prepare  func(p place)
	run      func(ctx context.Context, p place)
}

// protocols are the rows of the table that tells who acted where.
var protocols = []string{"issue", "renew", "revoke", "kill", "rotate root", "rotate static", "tidy", "config write", "delete", "tick"}

// works are all that the engine does for others.
func works() []work {
	lease := func(p place) { p.m.newLease(p.t.name + "-app") }
	leaseUser := func(p place) { p.m.newLease(p.t.name + "-job") }
	return []work{
		{"issue", "issue", nil, func(ctx context.Context, p place) { p.m.issue(ctx, p.t.name+"-app") }},
		{"issue a user", "issue", nil, func(ctx context.Context, p place) { p.m.issue(ctx, p.t.name+"-job") }},
		{"issue many at once", "issue", nil, func(ctx context.Context, p place) { p.m.issueAtOnce(ctx, p.t) }},
		{"renew", "renew", lease, func(ctx context.Context, p place) { p.withLease(func(l *testLease) { p.m.renewLease(ctx, p.t, l) }) }},
		{"revoke", "revoke", lease, func(ctx context.Context, p place) { p.withLease(func(l *testLease) { p.m.revokeIn1(ctx, l) }) }},
		{"revoke a user", "revoke", leaseUser, func(ctx context.Context, p place) { p.withLease(func(l *testLease) { p.m.revokeIn1(ctx, l) }) }},
		{"kill", "kill", lease, func(ctx context.Context, p place) {
			p.withLease(func(l *testLease) { p.m.deleteLeasedKey(ctx, p.t, l) })
		}},
		{"rotate root", "rotate root", nil, func(ctx context.Context, p place) {
			_ = p.m.requestQuietly(ctx, logical.UpdateOperation, "rotate-root/"+p.t.name)
		}},
		{"rotate static", "rotate static", nil, func(ctx context.Context, p place) {
			_ = p.m.requestQuietly(ctx, logical.UpdateOperation, "rotate-role/"+p.t.name+"-db")
		}},
		{"tidy", "tidy", func(p place) { p.plantOrphan() }, func(ctx context.Context, p place) { p.m.tidyUp(ctx) }},
		{"write a configuration", "config write", nil, func(ctx context.Context, p place) {
			_ = p.m.requestQuietly(ctx, logical.UpdateOperation, "config/"+p.t.name, append(p.m.fieldsOf(p.t), "max_ttl=4h")...)
		}},
		{"delete a configuration", "delete", func(p place) { p.m.writeSpare(p.t) }, func(ctx context.Context, p place) {
			if answer, err := p.m.ask(ctx, logical.DeleteOperation, "config/spare-"+p.t.name); err == nil || p.m.process.dead.Load() {
				p.m.excuseLeft(answer)
			}
		}},
		{"delete a static role", "delete", nil, func(ctx context.Context, p place) { p.m.deleteStaticRole(ctx, p.t) }},
		{"tick", "tick", func(p place) {
			p.m.newLease(p.t.name + "-app")
			p.m.compareNow(p.t)
			if quiet := staticCredsPrefix + p.t.name + "-quiet"; slices.Contains(p.m.under(staticCredsPrefix), quiet) {
				edit(p.m.testVault, quiet, func(c *staticCreds) { c.LastRotation = time.Now().Add(-time.Hour) })
			}
		}, func(ctx context.Context, p place) { _ = p.m.tickIn(ctx) }},
	}
}

// compareNow lets the engine hold the account against its ledger in the next tick, and not when chance says.
func (m *mount) compareNow(t *tenant) {
	ctx, s := m.w.t.Context(), m.storage.Storage
	state, err := load[reconcileState](ctx, s, reconcilePrefix+t.name)
	if err != nil {
		m.w.t.Fatal(err)
	}
	if state == nil {
		state = &reconcileState{}
	}
	state.Next = time.Now()
	if err := save(ctx, s, reconcilePrefix+t.name, state); err != nil {
		m.w.t.Fatal(err)
	}
	m.start()
}

// newLease takes a lease for an operation to work on, if there is one to be had.
func (m *mount) newLease(role string) {
	m.asked("creds/"+role, func(ctx context.Context) { m.issue(ctx, role) })
}

// issue reads creds/<role>, and holds the lease against its key.
func (m *mount) issue(ctx context.Context, role string) {
	l, err := m.tryLease(ctx, role)
	if err != nil {
		m.w.tell("    creds/%s: %.200s", role, err)
		return
	}
	m.holdAgainstKey("issued", l)
}

// issueAtOnce is many clients that come together, as after a start of all machines.
func (m *mount) issueAtOnce(ctx context.Context, t *tenant) {
	role := t.name + "-own"
	if t.domain != nil {
		role = t.name + "-app"
	}
	var lock sync.Mutex
	var answers []*logical.Response
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			resp, err := m.request(ctx, logical.ReadOperation, "creds/"+role)
			if failure(resp, err) == nil {
				lock.Lock()
				defer lock.Unlock()
				answers = append(answers, resp)
			}
		})
	}
	all.Wait()
	for _, resp := range answers {
		if l, err := m.register(resp); err == nil {
			m.holdAgainstKey("issued", l)
		}
	}
}

// withLease does something with one of the mount's leases in the account, if there is one.
func (p place) withLease(do func(l *testLease)) {
	var found []*testLease
	for _, l := range p.m.leases {
		if accountOf(l) == p.t.name && !calm(userOf(l)) {
			found = append(found, l)
		}
	}
	if len(found) > 0 {
		do(found[len(found)-1-p.pick%len(found)])
	}
}

func accountOf(l *testLease) string { return l.Data["account"].(string) }
func userOf(l *testLease) string    { return l.Data["user_name"].(string) }

func (m *mount) renewLease(ctx context.Context, _ *tenant, l *testLease) {
	if err := m.renewIn(ctx, l, 0); err != nil {
		m.w.tell("    renewing %s: %.200s", l.AccessKey(), err)
		return
	}
	m.holdAgainstKey("renewed", l)
}

// revokeLease revokes as the server does.
func (m *mount) revokeLease(l *testLease) {
	m.asked("a revoke", func(ctx context.Context) { m.revokeIn1(ctx, l) })
}

// revokeIn1 is one attempt. Whether the answer reaches the server or not: it is none for a key that works.
func (m *mount) revokeIn1(ctx context.Context, l *testLease) {
	m.w.end(l.AccessKey())
	if err := m.revokeIn(ctx, l); err != nil {
		m.w.tell("    revoking %s: %.200s", l.AccessKey(), err)
		if l.Expires.After(time.Now()) {
			l.Expires = time.Now()
		}
		return
	}
	m.mustNotWork("the revoke", l.AccessKey())
}

func (m *mount) deleteLeasedKey(ctx context.Context, _ *tenant, l *testLease) {
	m.w.end(l.AccessKey())
	if m.requestQuietly(ctx, logical.DeleteOperation, "keys/"+l.AccessKey()) == nil {
		m.mustNotWork("the delete", l.AccessKey())
	}
}

// excuseLeft: an account's delete that succeeds names the engine keys that it leaves in the cloud. Where the process died and nobody got
// the answer, its log does.
func (m *mount) excuseLeft(answer *logical.Response) {
	m.w.scan()
	var texts []string
	if answer != nil {
		texts = answer.Warnings
	} else if m.process.dead.Load() {
		m.w.storyLock.Lock()
		texts = slices.Clone(m.w.lines)
		m.w.storyLock.Unlock()
	}
	named := m.knows().named // by an account that stays
	for _, text := range texts {
		_, left, is := strings.Cut(text, "access keys that the engine had are still in the cloud")
		for id, made := range m.w.keys.all() {
			if is && made.mount == m && !named[id] && made.kind == string(keylabel.KindRoot) && strings.Contains(left, id) {
				made.excused = "its account was deleted, and the answer names it"
			}
		}
	}
}

func (m *mount) deleteStaticRole(ctx context.Context, t *tenant) {
	path := t.name + "-db"
	creds, err := load[staticCreds](ctx, m.storage.Storage, staticCredsPrefix+path)
	if err != nil || creds == nil {
		return
	}
	for _, id := range creds.ids() {
		m.w.end(id)
	}
	if m.requestQuietly(ctx, logical.DeleteOperation, "static-roles/"+path) == nil {
		for _, id := range creds.ids() {
			m.mustNotWork("the delete of the static role", id)
		}
	}
}

// tidyUp runs a tidy to its end.
func (m *mount) tidyUp(ctx context.Context, fields ...string) {
	if m.requestQuietly(ctx, logical.UpdateOperation, "tidy", fields...) != nil {
		return
	}
	for b := m.backend; b.tidying.current() != nil && !m.process.dead.Load(); {
		<-time.After(time.Second)
	}
	if resp, err := m.request(ctx, logical.ReadOperation, "tidy-status"); failure(resp, err) == nil {
		for field, value := range resp.Data {
			if lines, is := value.([]string); is && len(lines) > 0 {
				m.w.tell("    tidy: %s: %.400s", field, strings.Join(lines, "; "))
			}
		}
	}
}

// plantOrphan makes a key that the mount takes for one of its own, and knows nothing of.
func (p place) plantOrphan() {
	if user := p.m.user("app"); p.hasUser(user) && p.t.keysOf(user) < p.t.quota() {
		made := p.t.addKey(user, keylabel.New(p.m.instance, keylabel.KindLease).String(), time.Now().Add(day))
		p.planted[made.AccessKey] = true
	}
}

// writeSpare configures the account a second time, with a key of its own.
func (m *mount) writeSpare(t *tenant) {
	fields := m.fieldsFor(t, "spare-"+t.name, m.user("spare"))
	m.asked("config/spare", func(ctx context.Context) {
		_ = m.requestQuietly(ctx, logical.UpdateOperation, "config/spare-"+t.name, fields...)
		_ = m.requestQuietly(ctx, logical.UpdateOperation, "rotate-root/spare-"+t.name)
	})
}
