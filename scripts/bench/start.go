// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// handshake starts a plugin as a server does to read its metadata, and times it until it has said where it listens.
func handshake(ctx context.Context, binary string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(os.Environ(), "VAULT_BACKEND_PLUGIN=6669da05-b1c8-4f49-97d9-c8e5bed98e20", "VAULT_PLUGIN_METADATA_MODE=true")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	took := time.Since(started)
	kill := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if readErr != nil {
		return 0, fmt.Errorf("%s said %q instead of where it listens: %w", binary, line, errors.Join(readErr, kill))
	}
	return took, kill
}

// startRows compare the plugin's start with a plugin's that does nothing, one after the other. A third one does nothing either,
// and imports the SDK of OUTSCALE.
func (b *bench) startRows(ctx context.Context, bin string) error {
	const starts = 25
	plugins := []string{pluginFile, nullFile, sdkFile}
	took := map[string][]float64{}
	for range starts {
		for _, plugin := range plugins {
			one, err := handshake(ctx, filepath.Join(bin, plugin))
			if err != nil {
				return err
			}
			took[plugin] = append(took[plugin], milliseconds(one))
		}
	}
	nothing := median(took[nullFile])
	b.add(toldOf("start to handshake over a plugin that does nothing", " x", median(took[pluginFile])/nothing))
	b.add(toldOf("the same of a plugin that does nothing but import the OUTSCALE SDK", " x", median(took[sdkFile])/nothing))
	b.add(toldOf("start to handshake of a plugin that does nothing", " ms", took[nullFile]...))
	return nil
}
