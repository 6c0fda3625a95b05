// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

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
		return fmt.Errorf(
			"copying the plugin to %s: %w: the directory must exist and be writable by this user (uid %d)",
			target,
			err,
			os.Getuid(),
		)
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
