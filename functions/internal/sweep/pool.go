// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import "sync"

// each calls work for every index below n, at most so many at once, and returns when all
// are done.
func each(workers, n int, work func(i int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, workers)
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			work(i)
		})
	}
	group.Wait()
}

// chunk is how many users or keys are taken at a time: enough that the workers rarely wait
// for the slowest.
func chunk(workers int) int { return workers * 8 }
