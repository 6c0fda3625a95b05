// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestConcurrentCreatesNeverExceedTheQuota(t *testing.T) {
	onBoth(t, func(t *testing.T, _ *Cloud, a *Account, root client) {
		a.AddUser("deploy")
		var made, refused atomic.Int64
		var group sync.WaitGroup
		for range 40 {
			group.Go(func() {
				got, err := root.try(t.Context(), "CreateAccessKey", `{"UserName":"deploy"}`)
				switch {
				case err != nil:
					t.Error(err)
				case got.Status == 200:
					made.Add(1)
				case got.code() == "10005":
					refused.Add(1)
				}
			})
		}
		group.Wait()
		if made.Load() != defaultQuota || refused.Load() != 30 {
			t.Errorf("%d made, %d refused; want 10 and 30", made.Load(), refused.Load())
		}
	})
}
