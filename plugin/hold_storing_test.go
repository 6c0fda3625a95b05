// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestWhatIsKnownOfTheKeyIsStored when it is learned, whoever learns it and whatever fails meanwhile.
func TestWhatIsKnownOfTheKeyIsStored(t *testing.T) {
	t.Parallel()
	refuse := cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"}
	fail := func(op string) func(string, string) error {
		return func(called, key string) error {
			if called == op && strings.HasPrefix(key, holdPrefix) {
				return errInjected
			}
			return nil
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a refusal that a tidy meets is stored before the next tick": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			defer v.order(refuse)()
			v.write("tidy")
			synctest.Wait()
			if hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default"); err != nil || hold == nil || hold.Refusals != 1 {
				t.Errorf("stored: %+v, %v", hold, err)
			}
		},
		"a refusal of a rotation between two ticks is stored": func(t *testing.T, v *testVault) {
			v.onTime = true
			v.restart()
			v.write("config/default", v.accountFields()...)
			v.write("static-roles/db", "user_name=app", "rotation_period=5m", "rotation_grace_period=30s")
			v.settle(4*time.Minute + 30*time.Second)
			defer v.order(refuse)()
			v.settle(time.Minute)
			<-time.After(61 * time.Second) // no tick, and no request
			hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default")
			if err != nil || hold == nil || hold.Refusals != 2 {
				t.Errorf("stored: %+v, %v", hold, err)
			}
		},
		"what could not be stored is stored by the next tick": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			stop := v.order(refuse)
			v.storage.before = fail("put")
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			puts := 0
			v.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, holdPrefix) {
					puts++
					return errInjected
				}
				return nil
			}
			for range 10 {
				v.read("config/default")
			}
			if _ = v.tick(); puts != 1 {
				t.Errorf("storing it is tried %d times by ten requests and a tick, want once by the tick", puts)
			}
			v.storage.before = nil
			_ = v.tick()
			if hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default"); err != nil || hold == nil || hold.Refusals != 1 {
				t.Errorf("stored: %+v, %v", hold, err)
			}
		},
		"and what could not be removed is removed by the next tick": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			stop := v.order(refuse)
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			<-time.After(time.Minute)
			v.storage.before = fail("delete")
			v.lease("app")
			v.storage.before = nil
			v.mustTick()
			if hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default"); err != nil || hold != nil {
				t.Errorf("stored: %+v, %v", hold, err)
			}
		},
		"an account that could not be deleted keeps its own": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			v.account.DeleteKey(v.root.AccessKey)
			_, _ = v.tryLease(t.Context(), "app")
			v.storage.before = func(op, key string) error {
				if op == "delete" && key == configPrefix+"default" {
					return errInjected
				}
				return nil
			}
			if _, err := v.request(t.Context(), logical.DeleteOperation, "config/default", "force=true"); err == nil {
				t.Error("the delete has not failed")
			}
			v.storage.before = nil
			v.sim.ResetCalls()
			_ = v.tick()
			hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default")
			if err != nil || hold == nil || len(v.sim.Calls()) > 0 {
				t.Errorf("after %d calls with the key is stored: %+v, %v", len(v.sim.Calls()), hold, err)
			}
		},
		"a refusal that is stored while its account is deleted goes too": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			defer v.order(refuse)()
			_, _ = v.tryLease(t.Context(), "app")
			v.storage.around = func(op, key string, do func() error) error {
				err := do()
				if op == "delete" && key == configPrefix+"default" {
					v.backend.holds.Store("default", true)
					v.backend.storeHolds(t.Context(), v.storage)
				}
				return err
			}
			if _, err := v.request(t.Context(), logical.DeleteOperation, "config/default", "force=true"); err != nil {
				t.Fatal(err)
			}
			v.storage.around = nil
			if hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default"); err != nil || hold != nil {
				t.Errorf("stored: %+v, %v", hold, err)
			}
		},
	})
}
