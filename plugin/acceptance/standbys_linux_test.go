// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// TestStandbys asks the standbys of a cluster, which OpenBao lets serve reads by themselves and run the rollback manager, while Vault
// has them forward everything. Then it cuts one off from the others, not from the cloud.
func TestStandbys(t *testing.T) {
	t.Parallel()
	c := newClusterOf(t, true)
	m := mountPlugin(t, c.leader(), pluginName, "", cloudsim.WithQuota(100))
	m.account.AddUser("db", "api:ReadVms")
	m.configure("ttl=1h")
	m.write("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=0")
	for _, node := range c.Nodes {
		c.moveTo(m, node)
	}

	t.Run("know at once what the active node knows", func(t *testing.T) { c.in(t).mustKnowAtOnce(t, m.in(t)) })
	t.Run("follow changes of the configuration within seconds", func(t *testing.T) { c.in(t).mustFollow(t, m.in(t)) })
	t.Run("one that is cut off while a key is created deletes nothing that is leased", func(t *testing.T) {
		c.in(t).mustLeaveToTheLeader(t, m.in(t))
	})
	t.Run("a leader that is cut off while a key is created leaves the key to the next one", func(t *testing.T) {
		c.in(t).mustLeaveToTheNext(t, m.in(t))
	})
}

// in is the mount in a test of its own.
func (m *mount) in(t *testing.T) *mount {
	on := *m
	on.t = t
	return &on
}

func (c *cluster) in(t *testing.T) *cluster {
	on := *c
	on.t = t
	return &on
}

// at is the mount, asked through a node.
func (m *mount) at(node *devserver.Server) *mount {
	on := *m
	on.server = node
	return &on
}

// mustKnowAtOnce asks every node right after every other has changed something.
func (c *cluster) mustKnowAtOnce(t *testing.T, m *mount) {
	for i, asked := range c.Nodes {
		l := m.at(asked).lease("")
		m.at(asked).write("rotate-role/db")
		want := m.at(c.leader()).read("static-creds/db")["access_key"]
		for j, node := range c.Nodes {
			on := m.at(node)
			if key, err := on.tryRead("keys/" + l.AccessKey); err != nil || key["role"] != "app" {
				t.Errorf("node %d, of a key leased through node %d: %v, %v", j+1, i+1, key, err)
			}
			if ids, err := on.ledger(); err != nil || !slices.Contains(ids, l.AccessKey) {
				t.Errorf("node %d lists %v, %v, without the key leased through node %d", j+1, ids, err, i+1)
			}
			if got := on.read("static-creds/db")["access_key"]; got != want {
				t.Errorf("node %d hands out %v after a rotation through node %d, which made %v", j+1, got, i+1, want)
			}
			if _, err := on.tryRead("check/default"); err != nil {
				t.Errorf("node %d: %v", j+1, err)
			}
			if status := on.tidy(); status["state"] != "done" {
				t.Errorf("node %d: tidy-status %v", j+1, status)
			}
			if _, text, err := node.Ask(t.Context(), http.MethodGet, m.path+"/metrics", ""); err != nil || text == "" {
				t.Errorf("node %d: %q, %v", j+1, text, err)
			}
		}
		m.at(asked).revokeThrough(l)
	}
}

// revokeThrough revokes a lease through the mount's node.
func (m *mount) revokeThrough(l *lease) {
	m.t.Helper()
	l.m = m
	l.revoke()
	if _, there := m.account.Key(l.AccessKey); there {
		m.t.Errorf("the key of a lease that was revoked is still there")
	}
}

// mustFollow changes what standbys read by themselves, through each node in turn.
func (c *cluster) mustFollow(t *testing.T, m *mount) {
	m.account.SetPolicy(cloudsim.Policy{})
	for i := range 9 {
		by := m.at(c.Nodes[i%len(c.Nodes)])
		seconds := 600 + i
		ttl := fmt.Sprintf("%ds", seconds)
		by.write("config/default", "max_ttl="+ttl)
		by.write("roles/app", "user_names=app", "ttl="+ttl)
		by.write("static-roles/db", fmt.Sprintf("rotation_period=%ds", 4*3600+i))
		started := time.Now()
		for j, node := range c.Nodes {
			on := m.at(node)
			until(t, standbyDelay, fmt.Sprintf("node %d shows what was written through node %d", j+1, i%3+1), func() bool {
				return on.shows("config/default", "max_ttl", seconds) && on.shows("roles/app", "ttl", seconds) &&
					on.shows("static-roles/db", "rotation_period", 4*3600+i)
			})
		}
		t.Logf("all nodes followed within %s", time.Since(started).Round(time.Millisecond))
	}
	m.at(c.leader()).write("config/default", "max_ttl=0")
	m.at(c.leader()).write("roles/app", "user_names=app", "ttl=1h")
}

func (m *mount) shows(path, field string, want int) bool {
	data, err := m.tryRead(path)
	return err == nil && fmt.Sprint(data[field]) == fmt.Sprint(want)
}

// mustLeaveToTheLeader cuts a standby off that has seen a key begun, and not made. For longer than the engine waits before it
// cleans such a key up, the standby's server calls the engine there.
func (c *cluster) mustLeaveToTheLeader(t *testing.T, m *mount) {
	leader, alone := c.leader(), c.Standbys(t.Context())[0]
	asked := m.at(leader)
	issued, release := asked.leaseHeldUp(t)
	m.at(leader).write("roles/marker", "user_names=app")
	until(t, standbyDelay, "the standby has heard of all that was written before the key was made", func() bool {
		_, err := m.at(alone).tryRead("roles/marker")
		return err == nil
	})
	c.Cut(alone)
	defer c.Heal()
	release()
	l := <-issued
	if l.err != nil {
		t.Fatal(l.err)
	}
	for _, path := range []string{"creds/app", "static-creds/db", "keys/" + l.AccessKey, "check/default", "metrics", "tidy-status"} {
		if status, answer, err := alone.Ask(t.Context(), http.MethodGet, m.path+"/"+path, ""); err == nil && status == http.StatusOK {
			t.Errorf("the node that is cut off answers %s by itself: %s", path, answer)
		}
	}
	before := len(m.sim.Calls())
	never(t, cleanedUpAfter, "the key of a lease is gone", func() bool {
		_, there := m.account.Key(l.AccessKey)
		return !there
	})
	t.Logf("%d calls reached the cloud meanwhile", len(m.sim.Calls())-before)
	if err := l.call(); err != nil {
		t.Errorf("the leased key does not work: %v", err)
	}
	c.Heal()
	c.moveTo(m, alone)
	until(t, healingDelay, "the node knows of the lease", func() bool {
		_, err := alone.Client.Sys().Lookup(l.ID)
		return err == nil
	})
	m.at(alone).revokeThrough(l.lease)
}

// mustLeaveToTheNext cuts the leader off that has had a key created, and cannot write it down any more.
func (c *cluster) mustLeaveToTheNext(t *testing.T, m *mount) {
	leader := c.leader()
	kept := m.at(leader).lease("")
	issued, release := m.at(leader).leaseHeldUp(t)
	c.Cut(leader)
	defer c.Heal()
	rest := devserver.Cluster{Nodes: slices.DeleteFunc(slices.Clone(c.Nodes), func(node *devserver.Server) bool { return node == leader })}
	var next *devserver.Server
	until(t, 40*time.Second, "another node leads", func() bool {
		var err error
		next, err = rest.Leader(t.Context())
		return err == nil
	})
	release()
	if l := <-issued; l.err == nil {
		t.Error("a leader that is cut off has leased a key")
	}
	c.moveTo(m, next)
	until(t, cleanedUpAfter+time.Minute, "the key that nobody was given is gone, and no other", func() bool {
		keys := keysOf(m.account, "app")
		return len(keys) == 1 && keys[0].ID == kept.AccessKey
	})
	c.Heal()
	c.moveTo(m, leader)
	until(t, healingDelay, "the node is reached again, and knows of the lease", func() bool {
		_, err := leader.Client.Sys().Lookup(kept.ID)
		return err == nil
	})
	kept.m = m.at(leader)
	kept.renew(3600)
	m.at(leader).revokeThrough(kept)
}

// cleanedUpAfter is longer than it takes until a key whose request has not ended is cleaned up: the pause that the cloud is given, and
// two ticks.
const cleanedUpAfter = 90*time.Second + 2*tick + 10*time.Second

// healingDelay is how long raft may take to reach a node again that it has tried to reach for minutes, ever more rarely.
const healingDelay = time.Minute

// heldUp is what comes of a lease that the cloud has held up.
type heldUp struct {
	*lease
	err error
}

// leaseHeldUp asks for a key, and returns when the cloud has made it and does not say so before release is called.
func (m *mount) leaseHeldUp(t *testing.T) (issued chan heldUp, release func()) {
	t.Helper()
	made, goOn := make(chan struct{}), make(chan struct{})
	var taken bool
	m.sim.OnAnswer(func(call cloudsim.Call) {
		if call.Op != "CreateAccessKey" || taken {
			return
		}
		taken = true
		close(made)
		<-goOn
	})
	release = func() {
		select {
		case <-goOn:
		default:
			close(goOn)
		}
	}
	t.Cleanup(release)
	issued = make(chan heldUp, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() {
		secret, err := m.server.Client.Logical().ReadWithContext(ctx, m.path+"/creds/app")
		switch {
		case err != nil:
			issued <- heldUp{err: err}
		case secret == nil:
			issued <- heldUp{err: errors.New("the server's answer is empty")}
		default:
			issued <- heldUp{lease: m.leaseIn(secret)}
		}
	}()
	select {
	case <-made:
	case <-time.After(20 * time.Second):
		t.Fatal("no key was made")
	}
	return issued, release
}

// keysOf are the keys of one user of the cloud.
func keysOf(account *cloudsim.Account, user string) []cloudsim.Key {
	return slices.DeleteFunc(account.Keys(), func(key cloudsim.Key) bool { return key.User != user })
}

// never fails the test as soon as a condition comes true within the time.
func never(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if condition() {
			t.Fatal(what)
		}
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}
