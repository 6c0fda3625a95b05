// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command profiledplugin is the secrets engine with a CPU profile of its whole life. It is no part of what is shipped.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/pprof"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
)

// profileVariable names the environment variable with the profile's file.
const profileVariable = "PROFILEDPLUGIN_FILE"

func main() {
	log.SetOutput(io.Discard)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	file, err := os.Create(os.Getenv(profileVariable))
	if err != nil {
		return fmt.Errorf("this plugin is for make bench, which sets %s: %w", profileVariable, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: cloudkeys.Factory(cloudkeys.Build{}),
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}
