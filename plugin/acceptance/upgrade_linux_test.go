// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// TestUpgradeOfACluster replaces the plugin's binary on three nodes as install.md says: on OpenBao a reload reaches the node that is
// asked alone, and the others run the old binary until they are started again.
func TestUpgradeOfACluster(t *testing.T) {
	t.Parallel()
	const older, newer = "cloudkeys-older", "cloudkeys-newer"
	dir := t.TempDir()
	binary, err := os.ReadFile(os.Getenv("CLOUDKEYS_PLUGIN"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{older, newer} {
		if err := os.WriteFile(filepath.Join(dir, name), binary, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	options, err := serverOptions(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	options.PluginDir = dir
	c := newClusterWith(t, options)
	sum := c.register(older, "v0.1.0", "")
	m := mountPlugin(t, c.leader(), pluginName, "")
	m.configure("ttl=1h")
	l := m.lease("")
	c.mustRun(m, older)

	c.register(newer, "v0.2.0", sum)
	leader, to := c.leader(), "v0.2.0"
	for _, step := range []error{
		leader.Client.Sys().TuneMountAllowNilWithContext(t.Context(), m.path, api.TuneMountConfigInput{PluginVersion: &to}),
		func() error {
			_, err := leader.Client.Sys().ReloadPluginWithContext(t.Context(), &api.ReloadPluginInput{Plugin: pluginName, Scope: "global"})
			return err
		}(),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	m.at(leader).read("info")
	if files := c.pluginFiles(leader); !slices.Equal(files, []string{newer}) {
		t.Errorf("the active node runs %v after the reload", files)
	}
	for _, node := range c.Standbys(t.Context()) {
		t.Logf("a standby runs %v after the reload", c.pluginFiles(node))
		c.restart(node)
	}
	if err := c.StepDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.restart(leader)
	c.mustRun(m, newer)
	l.m = m.at(leader)
	l.renew(3600)
	m.at(leader).revokeThrough(l)
}

// register registers a binary of the plugin directory as a version of the plugin.
func (c *cluster) register(file, version, sum string) string {
	c.t.Helper()
	if sum == "" {
		var err error
		if sum, err = devserver.Checksum(os.Getenv("CLOUDKEYS_PLUGIN")); err != nil {
			c.t.Fatal(err)
		}
	}
	_, err := c.leader().Client.Sys().RegisterPluginWithContextDetailed(c.t.Context(), &api.RegisterPluginInput{
		Name: pluginName, Type: api.PluginTypeSecrets, Command: file, SHA256: sum, Version: version,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return sum
}

// mustRun asks every node for the mount, and wants no other binary to run anywhere.
func (c *cluster) mustRun(m *mount, file string) {
	c.t.Helper()
	for i, node := range c.Nodes {
		c.moveTo(m, node)
		m.read("info")
		until(c.t, standbyDelay, "no node runs another binary", func() bool {
			for _, running := range c.pluginFiles(node) {
				if running != file {
					c.t.Logf("node %d runs %s", i+1, running)
					return false
				}
			}
			return true
		})
	}
	if files := c.pluginFiles(c.leader()); !slices.Equal(files, []string{file}) {
		c.t.Errorf("the active node runs %v, want %s", files, file)
	}
}

func (c *cluster) pluginFiles(node *devserver.Server) []string {
	c.t.Helper()
	files, err := node.PluginFiles()
	if err != nil {
		c.t.Fatal(err)
	}
	return files
}

// restart stops a node as an operator does, and starts it.
func (c *cluster) restart(node *devserver.Server) {
	c.t.Helper()
	if err := node.Stop(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Restart(c.t.Context(), node); err != nil {
		c.t.Fatal(err)
	}
}
