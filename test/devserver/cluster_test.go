// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
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
		must(t, standbys[1].waitFor(t.Context(), "it knew the mount", func() bool {
			mounts, err := standbys[1].Client.Sys().ListMounts()
			return err == nil && mounts["kv/"] != nil
		}))
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
		must(t, node.waitFor(t.Context(), "it showed the value "+want, func() bool {
			secret, err := node.Client.Logical().ReadWithContext(t.Context(), "kv/entry")
			return err == nil && secret != nil && secret.Data["value"] == want
		}))
	}
}
