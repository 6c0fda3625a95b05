// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// tick is how often Vault has the engine do its periodic work. A new leader's first tick
// comes that long after its election.
const tick = time.Minute

// draining is how long a leader that steps down waits for requests before half of those
// that the cloud holds up go on.
const draining = 2 * time.Second

// standbyDelay is how long a standby that serves reads by itself, as OpenBao's do, may take to learn of a write. It looks
// leases up itself, too: right after it has forwarded a renewal, it may still show the end before it.
const standbyDelay = 5 * time.Second

// cluster is a cluster of three nodes.
type cluster struct {
	*devserver.Cluster
	t     *testing.T
	turns int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return newClusterOf(t, false)
}

// newClusterOf makes a cluster of which a node can be cut off, or not.
func newClusterOf(t *testing.T, cuttable bool) *cluster {
	t.Helper()
	options, err := serverOptions(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	options.Cuttable = cuttable
	c := newClusterWith(t, options)
	if err := registerPlugin(t.Context(), c.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	return c
}

// newClusterWith makes a cluster with no plugin registered.
func newClusterWith(t *testing.T, options devserver.Options) *cluster {
	t.Helper()
	nodes, err := devserver.StartCluster(t.Context(), options, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &cluster{Cluster: nodes, t: t}
}

// TestClusterChangesItsLeader has a leader step down and the next one killed, with
// everything that the engine does under way. The clean-up of both is waited for once.
func TestClusterChangesItsLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	steady, due := c.newSteady(), c.newDue("due")
	c.rotateThroughEveryNode()
	heldByTick := c.newDue("due-held")
	heldByTick.arm()

	// The automatic rotation decides when the leader goes: it comes with the next tick.
	stay, goOn := c.holdAll("held to the end"), c.holdAll("held at first")
	heldByTick.untilReached(tick + 20*time.Second)
	until(t, tick, "the same tick has rotated the other key", func() bool {
		config, err := due.tryRead("config/default")
		return err == nil && config["access_key"] != due.root.AccessKey
	})
	stepDown := begin(append(stay, goOn...))
	interrupt(t, "a step-down", append(stepDown, heldByTick), func() error {
		time.AfterFunc(draining, func() {
			for _, h := range goOn {
				h.release()
			}
		})
		return c.StepDown(t.Context())
	})
	steady.mustBeUnchanged()
	steady.useLeases()

	kill := begin(c.holdAll("killed"))
	interrupt(t, "a kill", kill, func() error {
		killed, err := c.KillLeader(t.Context())
		if err != nil {
			return err
		}
		return c.Restart(t.Context(), killed)
	})
	steady.mustBeUnchanged()
	steady.useLeases()

	all := slices.Concat(stepDown, kill, []*held{due, heldByTick})
	settle(t, all)
	steady.mustEnd()
	mounts := []*mount{steady.mount}
	for _, h := range all {
		mounts = append(mounts, h.mount)
	}
	mustHideSecretsOf(t, c.Nodes, mounts...)
	t.Run("a rotation that is due happens once", func(t *testing.T) {
		if n := due.made(keylabel.KindRoot); n != 1 {
			t.Errorf("%d keys were made", n)
		}
		if n := heldByTick.made(keylabel.KindRoot); n > 2 {
			t.Errorf("%d keys were made, want the one that was interrupted and another", n)
		}
	})
}

// node takes turns, so that every node is asked, whoever leads.
func (c *cluster) node() *devserver.Server {
	c.turns++
	return c.Nodes[c.turns%len(c.Nodes)]
}

func (c *cluster) leader() *devserver.Server {
	c.t.Helper()
	leader, err := c.Leader(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return leader
}

// moveTo has a mount's requests go through a node. A standby that serves reads by itself,
// as OpenBao's do, learns of writes a little later.
func (c *cluster) moveTo(m *mount, node *devserver.Server) {
	c.t.Helper()
	m.server = node
	until(c.t, 20*time.Second, "the node knows the mount", func() bool {
		_, err := m.tryRead("config/default")
		return err == nil
	})
}

// holdAll sets all operations up, each with a node that asks for it.
func (c *cluster) holdAll(how string) []*held {
	c.t.Helper()
	all := holdAll(c.t, c.leader(), how)
	for _, h := range all {
		c.moveTo(h.mount, c.node())
	}
	return all
}

// newDue mounts the engine with a key of its own that the next tick replaces.
func (c *cluster) newDue(name string) *held {
	c.t.Helper()
	rotation := heldOperation{
		call: "CreateAccessKey", when: worked, setUp: func(*held) {},
		works: func(h *held) error { return leaseAndRevoke("app")(h.mount) },
		settled: func(h *held) error {
			config, err := h.tryRead("config/default")
			if err == nil && config["access_key"] == h.root.AccessKey {
				err = errors.New("the engine's own key has not been replaced yet")
			}
			return errors.Join(err, h.hasOneOwnKey())
		},
	}
	h := hold(c.t, c.leader(), name, "-"+name, rotation)
	first := h.root.AccessKey
	h.root = h.account.AddKey(cloudsim.KeySpec{Created: time.Now().Add(-time.Hour), Expires: time.Now().Add(20 * time.Minute)})
	h.write("config/default", h.accountFields()...)
	h.account.DeleteKey(first)
	c.moveTo(h.mount, c.node())
	return h
}

// rotateThroughEveryNode rotates by hand: a standby must not do it for itself, nor twice.
func (c *cluster) rotateThroughEveryNode() {
	c.t.Helper()
	m := mountPlugin(c.t, c.leader(), pluginName, "-by-hand")
	m.configure()
	disturbedOperations()["rotate-role"].setUp(m)
	for _, node := range c.Nodes {
		c.moveTo(m, node)
		m.write("rotate-root/default")
		m.write("rotate-role/db")
	}
	if root, static := m.made(keylabel.KindRoot), m.made(keylabel.KindStatic); root != 3 || static != 1+3 {
		c.t.Errorf("three rotations of each made %d keys of the engine's own and %d of the static role, its first included", root, static)
	}
}

// steady is a mount that nothing is under way on: what it holds must survive both changes.
type steady struct {
	*mount
	c        *cluster
	leases   []*lease // one through each node
	ledger   []string
	role     map[string]any // the static role
	creds    map[string]any
	rotateAt time.Time
}

func (c *cluster) newSteady() *steady {
	c.t.Helper()
	s := &steady{mount: mountPlugin(c.t, c.leader(), pluginName, "-steady"), c: c}
	s.configure("ttl=1h")
	s.account.AddUser("db", "api:ReadVms")
	// After both changes, and once only.
	s.rotateAt = time.Now().UTC().Add(5 * time.Minute).Truncate(time.Minute)
	s.write("static-roles/db", "user_name=db", "rotation_grace_period=20s",
		fmt.Sprintf("rotation_schedule=%d %d * * *", s.rotateAt.Minute(), s.rotateAt.Hour()))
	s.role, s.creds = s.read("static-roles/db"), s.read("static-creds/db")
	for _, node := range c.Nodes {
		c.moveTo(s.mount, node)
		on := *s.mount
		l := on.lease("")
		s.leases = append(s.leases, l)
	}
	until(c.t, 20*time.Second, "the ledger holds every lease and the static role's key", func() bool {
		var err error
		s.ledger, err = s.mount.ledger()
		return err == nil && len(s.ledger) == len(s.leases)+1
	})
	return s
}

// mustBeUnchanged reads the ledger and the schedule through every node.
func (s *steady) mustBeUnchanged() {
	s.t.Helper()
	for _, node := range s.c.Nodes {
		s.c.moveTo(s.mount, node)
		until(s.t, 20*time.Second, "the ledger is what it was", func() bool {
			ledger, err := s.mount.ledger()
			return err == nil && sameElements(ledger, s.ledger)
		})
		role, creds := s.read("static-roles/db"), s.read("static-creds/db")
		for _, field := range []string{"next_vault_rotation", "last_vault_rotation", "access_key"} {
			if role[field] != s.role[field] {
				s.t.Errorf("the static role's %s is %v, was %v", field, role[field], s.role[field])
			}
		}
		if creds["access_key"] != s.creds["access_key"] || creds["secret_key"] != s.creds["secret_key"] {
			s.t.Error("the static role's key is another one")
		}
	}
}

// useLeases renews the leases that were issued before the change, each through the node
// that issued it, and revokes one.
func (s *steady) useLeases() {
	s.t.Helper()
	for _, l := range s.leases {
		before := l.key().Expires
		l.renew(5400)
		if !l.key().Expires.After(before) {
			s.t.Errorf("the date of %s has not moved", l.AccessKey)
		}
		if end := l.endOn(s.c.leader()); !l.fits(end, time.Minute) {
			s.t.Errorf("the leader ends the lease at %s, and the cloud its key at %s", end, l.key().Expires)
		}
		until(s.t, standbyDelay, "the node that renewed the lease knows its new end", func() bool { return l.fits(l.end(), time.Minute) })
		if err := l.call(); err != nil {
			s.t.Error(err)
		}
	}
	gone := s.leases[0]
	gone.revoke()
	if _, there := s.account.Key(gone.AccessKey); there {
		s.t.Error("the key of a revoked lease is still there")
	}
	s.leases = s.leases[1:]
	s.ledger = slices.DeleteFunc(s.ledger, func(id string) bool { return id == gone.AccessKey })
}

// mustEnd waits for the scheduled rotation, which the changes have neither delayed nor
// doubled, and revokes what is left.
func (s *steady) mustEnd() {
	s.t.Helper()
	until(s.t, time.Until(s.rotateAt)+tick+20*time.Second, "the static role is rotated as scheduled", func() bool {
		creds, err := s.tryRead("static-creds/db")
		return err == nil && creds["access_key"] != s.creds["access_key"]
	})
	until(s.t, 2*tick+20*time.Second, "the replaced key is gone after its grace", func() bool {
		return s.hasOneStaticKey() == nil
	})
	if n := s.made(keylabel.KindStatic); n != 2 {
		s.t.Errorf("%d keys were made for the static role, want the first and one more", n)
	}
	for _, l := range s.leases {
		l.revoke()
	}
	if err := errors.Join(s.hasOneStaticKey(), s.hasOneOwnKey(), s.staticKeyWorks()); err != nil {
		s.t.Error(err)
	}
}
