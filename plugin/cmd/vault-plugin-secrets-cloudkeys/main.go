// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command vault-plugin-secrets-cloudkeys is the secrets engine as Vault and OpenBao
// run it.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"
	_ "golang.org/x/crypto/x509roots/fallback" // for a container without certificate authorities; a machine's own go first

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
)

// Set by release builds (-ldflags "-X main.version=v1.2.3 -X main.commit=0123abc").
var version, commit string

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
	build := cloudkeys.Build{Version: version, Commit: commit}
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
