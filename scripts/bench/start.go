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

// startRow compares the plugin's start with a plugin's that does nothing, one after the other.
func (b *bench) startRow(ctx context.Context, plugin, null string) error {
	const starts = 15
	var ours, theirs []float64
	for range starts {
		for _, one := range []struct {
			binary string
			into   *[]float64
		}{{plugin, &ours}, {null, &theirs}} {
			took, err := handshake(ctx, one.binary)
			if err != nil {
				return err
			}
			*one.into = append(*one.into, milliseconds(took))
		}
	}
	b.add(atMost("start to handshake over a plugin that does nothing", 1.2, " x", ratio(ours, theirs)...))
	return nil
}
