// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/vault/api"
)

// PluginVersion is what a development build, which has no version of its own, is registered as. Servers treat a plugin without a
// version in the catalog as another kind of entry, and operators should never have one.
const PluginVersion = "v0.0.0-dev"

// RegisterPlugin registers the binary dir/file as the secrets plugin name, by
// its checksum, and returns that checksum in hex. dir must be the server's
// PluginDir. A binary that was rebuilt must be registered again. env, of the form
// NAME=value, is added to the plugin's environment.
func RegisterPlugin(ctx context.Context, client *api.Client, dir, file, name string, env ...string) (string, error) {
	sum, err := Checksum(filepath.Join(dir, file))
	if err != nil {
		return "", err
	}
	_, err = client.Sys().RegisterPluginWithContextDetailed(ctx, &api.RegisterPluginInput{
		Name:    name,
		Version: PluginVersion,
		Type:    api.PluginTypeSecrets,
		Command: file,
		SHA256:  sum,
		Env:     env,
	})
	if err != nil {
		return "", fmt.Errorf("register the plugin %s: %w", name, err)
	}
	return sum, nil
}

// Mount enables the secrets plugin pluginName at path.
func Mount(ctx context.Context, client *api.Client, path, pluginName string, config api.MountConfigInput) error {
	err := client.Sys().MountWithContext(ctx, path, &api.MountInput{Type: pluginName, Config: config})
	if err != nil {
		return fmt.Errorf("mount the plugin %s at %s: %w", pluginName, path, err)
	}
	return nil
}

// Checksum is the sum, in hex, by which a binary is registered.
func Checksum(path string) (string, error) {
	binary, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open the plugin (make build makes it): %w", err)
	}
	defer binary.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, binary); err != nil {
		return "", fmt.Errorf("read the plugin %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
