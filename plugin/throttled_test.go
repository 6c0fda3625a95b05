// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// leasesAtOnce asks for leases of one role each, all at once, and returns what failed.
func leasesAtOnce(v *testVault, addUser func(name string), count int) (failures []string) {
	for i := range count {
		name := fmt.Sprintf("app-%d", i)
		addUser(name)
		v.write("roles/"+name, "user_names="+name, "ttl=1h")
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	for i := range count {
		group.Go(func() {
			resp, err := v.try(logical.ReadOperation, fmt.Sprintf("creds/app-%d", i))
			if err := failure(resp, err); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, err.Error())
			}
		})
	}
	group.Wait()
	return failures
}

// TestThrottlingIsNoFailure is E18.
func TestThrottlingIsNoFailure(t *testing.T) {
	t.Parallel()
	throttle := func(v *testVault, rate float64, status int) {
		v.configure("ttl=1h")
		v.write("config/default", "max_requests_per_second=200")
		v.sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: rate, Status: status})
	}
	outscale := func(leases int, rate float64, status int) func(t *testing.T, v *testVault) {
		return func(t *testing.T, v *testVault) {
			throttle(v, rate, status)
			if failures := leasesAtOnce(v, func(name string) { v.account.AddUser(name) }, leases); len(failures) > 0 {
				t.Errorf("%d of %d leases failed, such as: %s", len(failures), leases, failures[0])
			}
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"15 leases at once are served by a cloud that takes 5 calls a second": outscale(15, 5, 0),
		"and where the whole platform throttles, with a 503 and its code":     outscale(15, 5, 503),
		"60 leases at once are served by a cloud that takes 5 calls a second": outscale(60, 5, 0),
		"what is throttled to the end is a plain error that names pace and remedies": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			v.order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: 0.0001})
			started := time.Now()
			_, _ = v.try(logical.ReadOperation, "creds/app") // the one call that is taken
			resp, err := v.try(logical.ReadOperation, "creds/app")
			if err == nil {
				t.Fatalf("got %v: clients retry no 400, and this one they may", resp)
			}
			for _, part := range []string{
				"throttles", "nothing was done", "whoever runs them may lower the load", "max_requests_per_second",
				"paced to", "of 1000 calls a second",
			} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is missing in: %v", part, err)
				}
			}
			if took := time.Since(started); took < issueBudget/2 || took > issueBudget+time.Second {
				t.Errorf("it was given up after %s", took)
			}
			v.mustHaveLedger(1)
		},
	})
	inHuawei(t, map[string]func(t *testing.T, v *testVault){
		"7 leases at once are served at 4 calls a second": func(t *testing.T, v *testVault) {
			throttle(v, 4, http.StatusTooManyRequests)
			if failures := leasesAtOnce(v, func(name string) { v.domain.AddUser(name) }, 7); len(failures) > 0 {
				t.Errorf("%d of 7 leases failed, such as: %s", len(failures), failures[0])
			}
		},
	})
}
