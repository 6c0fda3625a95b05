// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"sync"
)

// Together makes calls at the same time and joins their errors. All run to their end: one
// that is cut off might still be carried out after the clean-up. A panic of one goes on in the
// goroutine of the caller, who may recover from it: in one of its own it would end the process.
func Together(calls ...func() error) error {
	errs := make([]error, len(calls))
	panics := make([]any, len(calls))
	var group sync.WaitGroup
	for i, call := range calls {
		group.Go(func() {
			defer func() { panics[i] = recover() }()
			errs[i] = call()
		})
	}
	group.Wait()
	for _, cause := range panics {
		if cause != nil {
			panic(cause)
		}
	}
	return errors.Join(errs...)
}
