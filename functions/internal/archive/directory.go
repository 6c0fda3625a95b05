// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Directory is an archive on this machine.
type Directory string

// Put implements Archive. The file appears whole or not at all.
func (d Directory) Put(_ context.Context, name, _ string, write func(io.Writer) error) (path string, err error) {
	path = filepath.Join(string(d), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("making a directory for %s: %w", name, err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	defer os.Remove(file.Name()) // it is gone by then where all went well
	if err := errors.Join(write(file), file.Close()); err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	return path, nil
}

// Get implements Archive.
func (d Directory) Get(_ context.Context, name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(string(d), filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return text, nil
}

// Remove removes a folder with all that is in it.
func (d Directory) Remove(_ context.Context, folder string) error {
	if err := os.RemoveAll(filepath.Join(string(d), filepath.FromSlash(folder))); err != nil {
		return fmt.Errorf("removing %s: %w", folder, err)
	}
	return nil
}
