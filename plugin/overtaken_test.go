// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestIssueWhileAnAccountIsFrozen lets a whole request for a key run between any two storage
// calls of a change that would strand its key: one of them has to give way.
func TestIssueWhileAnAccountIsFrozen(t *testing.T) {
	tests := map[string]func(t *testing.T, v *testVault){}
	for name, change := range map[string]func(v *testVault) (*logical.Response, error){
		"deleted": func(v *testVault) (*logical.Response, error) { return v.try(logical.DeleteOperation, "config/default") },
		"pointed at another cloud account": func(v *testVault) (*logical.Response, error) {
			v.root = v.sim.AddAccount("999999999999").RootKey()
			return v.try(logical.UpdateOperation, "config/default", v.accountFields()...)
		},
		"pointed anywhere, unverified": func(v *testVault) (*logical.Response, error) {
			v.root = v.sim.AddAccount("999999999999").RootKey()
			return v.try(logical.UpdateOperation, "config/default", append(v.accountFields(), "verify=false")...)
		},
	} {
		for step := range 16 {
			tests[fmt.Sprintf("%s, after step %d", name, step)] = func(t *testing.T, v *testVault) {
				v.configure("ttl=1m")
				v.mustRevoke(v.lease("app"))
				calls, issued := 0, false
				v.storage.around = func(op, key string, do func() error) error {
					err := do()
					if key == "config/default" && op != "get" {
						return err // under the lock that a request waits for
					}
					if calls++; calls == step+1 {
						_, issueErr := v.tryLease(t.Context(), "app")
						issued = issueErr == nil
					}
					return err
				}
				resp, err := change(v)
				v.storage.around = nil
				if given := failure(resp, err) == nil; given && issued && len(v.liveKeys()) > 0 {
					t.Error("the key that was issued meanwhile is stranded")
				}
			}
		}
	}
	inBubble(t, tests)
}

func TestIssueBesideTheDeletionOfItsAccount(t *testing.T) {
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a key that is begun between the looks at the ledger is seen": func(t *testing.T, v *testVault) {
			v.configure("ttl=1m")
			v.mustRevoke(v.lease("app"))
			begun, goOn, issued := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			looks := 0
			v.storage.around = func(op, key string, do func() error) error {
				err := do()
				if op == "put" && strings.HasPrefix(key, ledger.Prefix) && looks == 1 {
					close(begun)
					<-goOn
					looks++
				}
				if key == staticRolePrefix && looks == 0 { // the first look has found nothing in the ledger
					looks++
					go func() {
						_, err := v.tryLease(t.Context(), "app")
						issued <- err
					}()
					<-begun
				}
				return err
			}
			resp, err := v.try(logical.DeleteOperation, "config/default")
			close(goOn)
			if issueErr := <-issued; failure(resp, err) == nil && issueErr == nil {
				t.Error("the account is deleted, and the lease's key stranded")
			}
			if looks == 0 {
				t.Error("nothing was begun: the test proves nothing")
			}
		},
		"an account that was refused to be deleted goes on leasing": func(_ *testing.T, v *testVault) {
			v.configure("ttl=1m")
			v.lease("app")
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, "in use")
			v.lease("app")
		},
		"a request that an unverified key overtakes makes no key": func(_ *testing.T, v *testVault) {
			v.configure("ttl=1m")
			v.mustRevoke(v.lease("app"))
			v.storage.after = func(_, key string) error {
				if strings.HasPrefix(key, ledger.Prefix) {
					config := *v.accountConfig()
					config.AccessKey, config.AccountID = v.sim.AddAccount("999999999999").RootKey().AccessKey, ""
					return v.backend.storeAccount(v.t.Context(), v.storage.Storage, "default", &config)
				}
				return nil
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "was changed while the request ran")
			v.storage.after = nil
			v.mustHaveNothingBegun()
			v.mustHaveLive(0)
		},
	})
}

// TestASecondaryWhosePrimaryDidNotVerify has the configuration without what the cloud says
// of it, and finds that out for what it must end, not only for new keys.
func TestASecondaryWhosePrimaryDidNotVerify(t *testing.T) {
	begin := func(v *testVault) {
		v.configure("ttl=10m")
		v.lease("app")
		v.leaveBegun()
		v.replaceConfig(func(c *accountConfig) { c.AccountID = "" })
		v.system.become(consts.ReplicationPerformanceSecondary)
		v.restart()
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"revokes after a restart": func(_ *testing.T, v *testVault) {
			begin(v)
			v.mustRevoke(v.leases[0])
		},
		"rolls back after a restart": func(_ *testing.T, v *testVault) {
			begin(v)
			v.settle(begunAge + 3*rollbackPeriod)
			v.mustHaveNothingBegun()
		},
		"reaps after a restart": func(_ *testing.T, v *testVault) {
			begin(v)
			v.leases = nil
			v.settle(time.Hour)
			v.mustHaveLedger(0)
		},
		"what the primary deletes while the cloud is asked stays deleted": func(t *testing.T, v *testVault) {
			begin(v)
			defer v.sim.Order(cloudsim.Fault{Op: "ReadAccounts", Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})()
			var revoked sync.WaitGroup
			revoked.Go(func() { _ = v.revoke(v.leases[0]) })
			<-time.After(time.Second)
			if err := v.storage.Storage.Delete(t.Context(), "config/default"); err != nil {
				t.Fatal(err)
			}
			v.backend.invalidate(t.Context(), "config/default")
			revoked.Wait()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, `account "default" is not configured`)
		},
		"a refusal of the key holds its next process back": func(t *testing.T, v *testVault) {
			begin(v)
			v.mustRevoke(v.leases[0])
			v.account.SwitchKey(v.root.AccessKey, false)
			if _, err := v.tryLease(t.Context(), "app"); err == nil {
				t.Fatal("leased")
			}
			v.restart()
			v.sim.ResetCalls()
			_, err := v.tryLease(t.Context(), "app")
			if n := len(v.sim.Calls()); err == nil || n != 0 {
				t.Errorf("after %d calls: %v", n, err)
			}
		},
	})
}
