// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCluster(t *testing.T) {
	started := time.Now()
	cluster, err := StartCluster(t.Context(), Options{Bin: vaultBinary(t), Dir: t.TempDir()}, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("three nodes after %s", time.Since(started).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := cluster.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	first := leader(t, cluster)

	t.Run("what is written through one node is read through every other", func(t *testing.T) {
		standbys := cluster.Standbys(t.Context())
		if len(standbys) != 2 {
			t.Fatalf("%d standbys", len(standbys))
		}
		mountKV(t, standbys[0])
		// A standby of OpenBao answers 404 for a mount that it does not know yet, also to a write.
		soon(t, standbys[1], "it knew the mount", func() bool {
			mounts, err := standbys[1].Client.Sys().ListMounts()
			return err == nil && mounts["kv/"] != nil
		})
		write(t, standbys[1], "before")
		wantEverywhere(t, cluster, "before")
	})
	t.Run("another node takes over when the leader steps down", func(t *testing.T) {
		started := time.Now()
		must(t, cluster.StepDown(t.Context()))
		t.Logf("a new leader after %s", time.Since(started).Round(time.Millisecond))
		if leader(t, cluster) == first {
			t.Error("the same node is active")
		}
		write(t, first, "after the step-down")
		wantEverywhere(t, cluster, "after the step-down")
	})
	t.Run("another node takes over when the leader is killed, and the killed one comes back", func(t *testing.T) {
		started := time.Now()
		killed, err := cluster.KillLeader(t.Context())
		must(t, err)
		t.Logf("a new leader after %s", time.Since(started).Round(time.Millisecond))
		write(t, leader(t, cluster), "after the kill")
		must(t, cluster.Restart(t.Context(), killed))
		wantEverywhere(t, cluster, "after the kill")
	})
}

func leader(t *testing.T, c *Cluster) *Server {
	t.Helper()
	leader, err := c.Leader(t.Context())
	must(t, err)
	return leader
}

// wantEverywhere reads through every node. A standby that serves reads by itself, as
// OpenBao's do, learns of a write a little later.
func wantEverywhere(t *testing.T, c *Cluster, want string) {
	t.Helper()
	for _, node := range c.Nodes {
		soon(t, node, "it showed the value "+want, func() bool { return reads(t, node) == want })
	}
}

// soon waits for what a busy machine makes late.
func soon(t *testing.T, node *Server, state string, reached func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), leaderTimeout)
	defer cancel()
	must(t, node.waitFor(ctx, state, reached))
}

func TestANodeThatIsCutOff(t *testing.T) {
	cluster, err := StartCluster(t.Context(), Options{Bin: vaultBinary(t), Dir: t.TempDir(), Cuttable: true}, 3)
	must(t, err)
	t.Cleanup(func() {
		if err := cluster.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	first := leader(t, cluster)
	mountKV(t, first)
	write(t, first, "before the cut")
	wantEverywhere(t, cluster, "before the cut")
	alone := cluster.Standbys(t.Context())[0]

	t.Run("a standby hears nothing and can forward nothing, and the others go on", func(t *testing.T) {
		cluster.Cut(alone)
		write(t, first, "during the cut")
		for _, node := range cluster.Nodes {
			if node != alone {
				soon(t, node, "it showed the new value", func() bool { return reads(t, node) == "during the cut" })
			}
		}
		if status, _, err := alone.Ask(t.Context(), http.MethodPut, "kv/entry", `{"value": "lost"}`); err == nil && status < 300 {
			t.Errorf("HTTP %d: a write on the node that is cut off has come through", status)
		}
		if _, got, err := alone.Ask(t.Context(), http.MethodGet, "kv/entry", ""); err != nil || strings.Contains(got, "during the cut") {
			t.Error("the node that is cut off has heard of a write")
		}
	})
	t.Run("it comes back, and has made nobody stand for election", func(t *testing.T) {
		cluster.Heal()
		wantEverywhere(t, cluster, "during the cut")
		if leader(t, cluster) != first {
			t.Error("another node leads")
		}
	})
	t.Run("a leader that is cut off is followed by another", func(t *testing.T) {
		cluster.Cut(first)
		rest := Cluster{Nodes: slices.DeleteFunc(slices.Clone(cluster.Nodes), func(node *Server) bool { return node == first })}
		must(t, rest.waitForLeader(t.Context(), first))
		write(t, leader(t, &rest), "under another leader")
		cluster.Heal()
		wantEverywhere(t, cluster, "under another leader")
	})
}

// reads is what a node answers; empty where it does not.
func reads(t *testing.T, node *Server) string {
	t.Helper()
	secret, err := node.Client.Logical().ReadWithContext(t.Context(), "kv/entry")
	if err != nil || secret == nil {
		return ""
	}
	value, _ := secret.Data["value"].(string)
	return value
}
