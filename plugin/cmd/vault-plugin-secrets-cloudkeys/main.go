// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command vault-plugin-secrets-cloudkeys is the secrets engine as Vault and OpenBao
// run it.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"
	_ "golang.org/x/crypto/x509roots/fallback" // for a container without certificate authorities; a machine's own go first

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
)

// Set with -ldflags -X: a release sets version and commit, make build source and commit.
var version, commit, source string

func main() {
	silenceNetHTTP()
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// silenceNetHTTP keeps answers out of the server's log. Where an answer is longer than its
// Content-Length says, net/http prints the rest of it ("Unsolicited response received on idle
// HTTP channel starting with ...") through the standard logger, which nothing else here uses:
// of the answer to a create that is the secret key. An http.Transport takes no logger.
func silenceNetHTTP() { log.SetOutput(io.Discard) }

// run serves the engine to the server that started the process; install and -version are for people and init containers.
func run(args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "install" {
		if len(args) != 2 {
			return errors.New(installUsage)
		}
		return install(args[1], out)
	}
	meta := &api.PluginAPIClientMeta{}
	flags := meta.FlagSet()
	show := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	build := cloudkeys.Build{Version: version, Source: source, Commit: commit}
	if info, ok := debug.ReadBuildInfo(); ok && build.Commit == "" {
		build.Commit = builtFrom(info.Settings)
	}
	if *show {
		_, err := fmt.Fprintln(out, build)
		return err
	}
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: cloudkeys.Factory(build),
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}

// builtFrom is the commit that the Go toolchain has noted, for binaries that are not of a release; -dirty: with changes. Empty: none.
func builtFrom(settings []debug.BuildSetting) string {
	var revision, changed string
	for _, setting := range settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + changed
}

// installUsage is for who calls install in another way: an init container's arguments are easily quoted wrongly.
const installUsage = "usage: vault-plugin-secrets-cloudkeys install DIR: copy this binary into the server's plugin directory " +
	"and print its SHA-256"

// install copies this binary into dir, the plugin directory of a server, and prints its sum as sha256sum does. It is what an init
// container of the plugin's image runs, which has no shell and no cp.
func install(dir string, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("the path of this binary is not known, so that it cannot be copied: %w", err)
	}
	target := filepath.Join(dir, filepath.Base(self))
	sum, err := copyFile(self, dir, target)
	if err != nil {
		return fmt.Errorf("copying the plugin to %s: %w: the directory must exist and be writable by this user (uid %d)", target,
			err, os.Getuid())
	}
	_, err = fmt.Fprintf(out, "%x  %s\n", sum, target)
	return err
}

// copyFile writes beside the target and renames: a server that starts the plugin meanwhile reads the old file or the new one, and
// the binary of a running plugin, which cannot be written to, is replaced. It returns the SHA-256 of what it has written.
func copyFile(from, dir, target string) (sum []byte, err error) {
	source, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	temporary, err := os.CreateTemp(dir, ".install-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	written := sha256.New()
	_, err = io.Copy(io.MultiWriter(temporary, written), source)
	// The server may run as another user than the one that installs, and must not be able to change what it runs.
	if err = errors.Join(err, temporary.Chmod(0o755), temporary.Sync(), temporary.Close()); err != nil {
		return nil, err
	}
	return written.Sum(nil), os.Rename(temporary.Name(), target)
}
