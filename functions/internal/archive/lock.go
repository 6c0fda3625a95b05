// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// LockedError tells that another run of the same job is at work in an archive.
type LockedError struct{ where string }

// Error is a sentence for an operator.
func (e *LockedError) Error() string { return "another run is at work in " + e.where }

// errLocked is what the systems say in their own ways.
var errLocked = errors.New("it is locked")

// Lock keeps a second run of a job from a directory while one is at work there: both would remember
// different things. It ends with the process, however that ends.
func (d Directory) Lock(_ context.Context, job string) (release func(), err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the records: %w", err)
	}
	file, err := lockFile(filepath.Join(string(d), ".lock-"+job))
	if errors.Is(err, errLocked) {
		return nil, &LockedError{fmt.Sprintf("%s: wait until it has ended", d)}
	}
	if err != nil {
		return nil, fmt.Errorf("locking the directory of the records: %w", err)
	}
	return func() { _ = file.Close() }, nil // which unlocks it
}
