// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

// Package acceptance runs the functions' binaries under AWS's own Lambda Runtime Interface
// Emulator, as `sam local` does inside its container, beside a real Vault with the real
// plugin, Vault's real AWS auth method, moto as IAM, STS and S3, and the simulated cloud.
package acceptance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	pluginName = "cloudkeys"
	authPlugin = "vault-plugin-auth-aws"
	serverID   = "vault.cloudkeys.test"
	awsRegion  = "eu-west-3"
)

// The servers of all tests but those that seal theirs.
var (
	vaultServer *devserver.Server
	aws         *motoServer
)

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	for _, name := range []string{"VAULT_BIN", "CLOUDKEYS_PLUGIN", "FUNCTIONS_BIN", "SAM_VENV"} {
		if os.Getenv(name) == "" {
			return 0, fmt.Errorf("%s is not set: run make test-functions, which builds what it names", name)
		}
	}
	dir, err := os.MkdirTemp("", "cloudkeys-functions")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	if aws, err = startMoto(ctx, dir); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, aws.stop()) }()
	if vaultServer, err = startVault(ctx, filepath.Join(dir, "vault")); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, vaultServer.Stop(ctx)) }()
	return m.Run(), nil
}

// startVault starts a server with both plugins, and the AWS auth method that asks moto.
func startVault(ctx context.Context, dir string) (*devserver.Server, error) {
	plugin := os.Getenv("CLOUDKEYS_PLUGIN")
	s, err := devserver.Start(ctx, devserver.Options{Bin: os.Getenv("VAULT_BIN"), PluginDir: filepath.Dir(plugin), Dir: dir, Dev: true})
	if err != nil {
		return nil, err
	}
	if err := setUp(ctx, s, plugin); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func setUp(ctx context.Context, s *devserver.Server, plugin string) error {
	if _, err := devserver.RegisterPlugin(ctx, s.Client, filepath.Dir(plugin), filepath.Base(plugin), pluginName); err != nil {
		return err
	}
	if err := enableAWS(ctx, s, filepath.Dir(plugin)); err != nil {
		return err
	}
	if err := registerAuth(ctx, s, filepath.Dir(plugin), kubernetesPlugin); err != nil {
		return err
	}
	_, err := s.Client.Logical().WriteWithContext(ctx, "sys/auth/approle", map[string]any{"type": "approle"})
	return err
}

// registerAuth makes an auth method that was built beside the server known to it.
func registerAuth(ctx context.Context, s *devserver.Server, dir, name string) error {
	binary, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("an auth method is not built (make auth-aws auth-kubernetes): %w", err)
	}
	sum := sha256.Sum256(binary)
	_, err = s.Client.Logical().WriteWithContext(ctx, "sys/plugins/catalog/auth/"+name,
		map[string]any{"sha256": hex.EncodeToString(sum[:]), "command": name})
	if err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	return nil
}
