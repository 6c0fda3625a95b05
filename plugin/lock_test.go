// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestLocks shows that no names block each other: locks that share stripes (Vault's
// locksutil has 256) hang where one request takes two of one pool. A bubble fails where all
// in it wait for each other.
func TestLocks(t *testing.T) {
	t.Parallel()
	const names = 5000
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"one request can hold the locks of thousands of names": func(t *testing.T, v *testVault) {
			var unlocks []func()
			for i := range names {
				for _, path := range []string{staticRolePrefix, configPrefix, rolePrefix} {
					unlock, err := v.backend.lock(t.Context(), fmt.Sprintf("%sname-%d", path, i))
					if err != nil {
						t.Fatal(err)
					}
					unlocks = append(unlocks, unlock)
				}
			}
			for _, unlock := range unlocks {
				unlock()
			}
			mustHaveNoLocks(t, v)
		},
		"who waits for a lock gives up with its context, and holds nobody up": func(t *testing.T, v *testVault) {
			unlock, err := v.backend.lock(t.Context(), "config/default")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := v.backend.lock(ctx, "config/default"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			unlock()
			unlock, err = v.backend.lock(t.Context(), "config/default")
			if err != nil {
				t.Fatal(err)
			}
			unlock()
			mustHaveNoLocks(t, v)
		},
		"many names, written and rotated at once, end and leave no lock in memory": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			var group sync.WaitGroup
			for i := range names / 50 {
				name := fmt.Sprintf("name-%d", i)
				v.account.AddUser(name)
				for _, path := range []string{"roles/" + name, "static-roles/" + name, "rotate-role/" + name, "rotate-root/" + name, "config/" + name} {
					group.Go(func() {
						users := "user_names=" + name
						if strings.HasPrefix(path, "static-roles/") {
							users = "user_name=" + name
						}
						_, _ = v.try(logical.UpdateOperation, path, users, "rotation_period=24h")
					})
				}
			}
			group.Wait()
			mustHaveNoLocks(t, v)
			if n := len(v.read("static-roles/name-7")); n == 0 {
				t.Error("nothing was written")
			}
		},
	})
}

func mustHaveNoLocks(t *testing.T, v *testVault) {
	t.Helper()
	if n := len(v.backend.locks); n != 0 {
		t.Errorf("%d locks stay in memory", n)
	}
}
