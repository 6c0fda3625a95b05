// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// revokeWorkers is how many revocations Vault has under way at once (vault/expiration.go).
const revokeWorkers = 200

// TestStormAtTheDefaultPace ends a thousand leases at once, ten thousand in make torture, on a
// cloud that takes five calls a second, with Vault's workers, attempts and back-off: more than
// any of them can wait for.
func TestStormAtTheDefaultPace(t *testing.T) {
	t.Parallel()
	const rate = 5
	size := 1000
	if os.Getenv("CLOUDKEYS_TORTURE") != "" {
		size = 10_000
	}
	storm := func(t *testing.T, v *testVault, there func(id string) bool) {
		v.write("config/default", fmt.Sprintf("max_requests_per_second=%d", rate))
		var leases []*testLease
		size := len(v.leases)
		leases, v.leases = v.leases, nil
		v.sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: rate})
		random := rand.New(rand.NewPCG(1, 0))
		started := time.Now()
		var mu sync.Mutex // uncontended: held for a moment, and never across a wait
		most := 0
		free := make(chan struct{}, revokeWorkers)
		var group sync.WaitGroup
		for _, l := range leases {
			group.Go(func() {
				own := *v // with leases of its own
				for attempt := 1; attempt <= revokeAttempts; attempt++ {
					free <- struct{}{}
					err := own.revoke(l)
					<-free
					if err == nil {
						if there(l.AccessKey()) {
							t.Errorf("the revocation of %s succeeded, and it is still there", l.AccessKey())
						}
						return
					}
					mu.Lock()
					most = max(most, attempt)
					pause := retryBase << attempt
					pause = pause/2 + time.Duration(random.Int64N(int64(pause)))
					mu.Unlock()
					<-time.After(pause)
				}
				t.Errorf("the lease of %s has become irrevocable", l.AccessKey())
			})
		}
		group.Wait()
		took := time.Since(started)
		use := float64(size*2) / rate / took.Seconds()
		t.Logf("%d leases ended in %s: %.0f%% of the limit used, at most %d failed attempts", size, took.Round(time.Second), 100*use, most)
		if use < 0.9 {
			t.Errorf("%.0f%% of the limit were made use of", 100*use)
		}
		v.mustHaveLedger(0)
	}
	t.Run("OUTSCALE", func(t *testing.T) {
		inBubble(t, map[string]func(t *testing.T, v *testVault){"storm": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			for i := range size / 10 {
				name := fmt.Sprintf("app-%d", i)
				v.account.AddUser(name)
				v.write("roles/app", "user_names="+name)
				for range 10 {
					v.lease("app")
				}
			}
			storm(t, v, func(id string) bool { _, there := v.account.Key(id); return there })
		}})
	})
	t.Run("Huawei Cloud", func(t *testing.T) {
		inHuawei(t, map[string]func(t *testing.T, v *testVault){"storm": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			for i := range 150 {
				name := fmt.Sprintf("app-%d", i)
				v.domain.AddUser(name)
				v.write("roles/app", "user_names="+name)
				for range 2 {
					v.lease("app")
				}
			}
			<-time.After(time.Minute) // a key that was made seconds ago is not believed to be gone
			storm(t, v, func(id string) bool { _, there := v.domain.Key(id); return there })
		}})
	})
}
