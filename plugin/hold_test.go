// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// mustLockNobody has clients ask for leases of a dead key, the server tick, and others do something every so often, and
// counts the calls that reach the cloud.
func (v *testVault) mustLockNobody(d time.Duration, every time.Duration, others func()) {
	v.t.Helper()
	v.sim.ResetCalls()
	for end, next := time.Now().Add(d), time.Now().Add(every); time.Now().Before(end); <-time.After(10 * time.Second) {
		if _, err := v.tryLease(v.t.Context(), "app"); err == nil {
			v.t.Fatal("a dead key works")
		}
		_ = v.tick()
		if !time.Now().Before(next) {
			others()
			next = time.Now().Add(every)
		}
		if sent := len(v.sim.Calls()); sent >= 4 || v.account.Locked() {
			v.t.Fatalf("%d calls were refused, and the fourth locks the account", sent)
		}
	}
}

// TestADeadKeyLocksNobodyInTheFirstHalfHourWhateverRestarts has processes come and go, and the configuration be read and written.
func TestADeadKeyLocksNobodyInTheFirstHalfHourWhateverRestarts(t *testing.T) {
	t.Parallel()
	die := map[string]func(v *testVault){
		"deleted": func(v *testVault) { v.account.DeleteKey(v.root.AccessKey) },
		"refused": func(v *testVault) { v.order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"}) },
	}
	others := map[string]func(v *testVault){
		"nobody":                        func(*testVault) {},
		"the plugin is restarted":       func(v *testVault) { v.restart() },
		"the configuration is patched":  func(v *testVault) { v.patch("config/default", map[string]any{"max_ttl": "1h"}) },
		"the configuration is read":     func(v *testVault) { v.read("config/default") },
		"another node has written it":   func(v *testVault) { v.backend.invalidate(v.t.Context(), "config/default") },
		"somebody checks the account":   func(v *testVault) { _, _ = v.try(logical.ReadOperation, "check/default") },
		"it was written verify=false":   func(v *testVault) { v.replaceConfig(func(c *accountConfig) { c.AccountID = "" }) },
		"and the plugin restarts often": func(v *testVault) { v.replaceConfig(func(c *accountConfig) { c.AccountID = "" }); v.restart() },
	}
	tests := map[string]func(t *testing.T, v *testVault){}
	for death, die := range die {
		for name, other := range others {
			tests[death+", and each minute: "+name] = func(_ *testing.T, v *testVault) {
				v.configure("ttl=5m")
				v.advance(time.Minute)
				die(v)
				v.mustLockNobody(29*time.Minute+30*time.Second, time.Minute, func() { other(v) })
			}
		}
	}
	inBubble(t, tests)
}

// TestAChangeOfPaceKeepsWhatIsKnownOfTheKey is E12: calls of the client before are under way when the next one begins.
func TestAChangeOfPaceKeepsWhatIsKnownOfTheKey(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, field := range []string{"max_requests_per_second=900", "request_timeout=20s", "max_retries=2", "max_ttl=5h"} {
		tests["E12: "+field] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.account.SwitchKey(v.root.AccessKey, false)
			v.sim.ResetCalls()
			cancel := v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})
			var group sync.WaitGroup
			for range 3 {
				group.Go(func() { _, _ = v.tryLease(t.Context(), "app") })
			}
			<-time.After(time.Second)
			v.write("config/default", field)
			_, _ = v.try(logical.ReadOperation, "roles/app") // opens the next client
			group.Wait()
			cancel()
			for range 5 {
				_, _ = v.tryLease(t.Context(), "app")
			}
			if n := len(v.sim.Calls()); n > 3 || v.account.Locked() {
				t.Errorf("%d refused calls, locked: %v", n, v.account.Locked())
			}
		}
	}
	inBubble(t, tests)
}

// TestAChangeOfTheConfigurationDoesNotDoubleTheCallsUnderWay is E12 with requests that do not wait for those before: two calls of each
// client would be four refusals.
func TestAChangeOfTheConfigurationDoesNotDoubleTheCallsUnderWay(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, field := range []string{"max_ttl=5h", "max_requests_per_second=4"} {
		tests["E12: "+field] = func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.write("config/default", "max_requests_per_second=5") // the default
			<-time.After(time.Minute)
			v.lease("app")
			v.switchKey(v.root.AccessKey, false)
			v.sim.ResetCalls()
			defer v.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 2 * time.Second})()
			var group sync.WaitGroup
			lease := func() { _, _ = v.tryLease(t.Context(), "app") }
			group.Go(lease)
			group.Go(lease)
			<-time.After(500 * time.Millisecond)
			v.write("config/default", field)
			group.Go(lease)
			group.Go(lease)
			group.Wait()
			if n := len(v.sim.Calls()); n > 3 || v.account.Locked() {
				t.Errorf("%d refused calls", n)
			}
		}
	}
	inBubble(t, tests)
}

// TestWhatIsNoNewsOfTheKeyHoldsNothingUp is E1: something stands in the engine's way for minutes, and is over.
func TestWhatIsNoNewsOfTheKeyHoldsNothingUp(t *testing.T) {
	t.Parallel()
	beside := func(v *testVault, d time.Duration, other func()) {
		v.t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); <-time.After(5 * time.Second) {
			other()
			if l, err := v.tryLease(v.t.Context(), "app"); err == nil {
				_ = v.revoke(l)
			}
		}
	}
	// soon has a lease be given within a time of the end of it, and what was given be revoked.
	soon := func(v *testVault, within time.Duration) {
		v.t.Helper()
		for end := time.Now().Add(within); ; <-time.After(5 * time.Second) {
			if _, err := v.tryLease(v.t.Context(), "app"); err == nil {
				break
			} else if !time.Now().Before(end) {
				v.t.Fatalf("after %s: %v", within, err)
			}
		}
		v.mustRevokeAll()
		v.settle(time.Hour)
		v.mustHaveLive(0)
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E1: another program of the account signs with a dead key every 5 s for 10 minutes": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			a, err := v.backend.account(t.Context(), v.storage, "default")
			if err != nil {
				t.Fatal(err)
			}
			config := a.config.access()
			dead := v.account.AddKey(cloudsim.KeySpec{})
			v.account.DeleteKey(dead.AccessKey)
			config.AccessKey, config.SecretKey = dead.AccessKey, provider.Secret(dead.SecretKey)
			locked := false
			beside(v, 10*time.Minute, func() {
				for range 4 { // in a row, without a request of the engine's between them
					other, err := v.openSimulated(config)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = other.OwnKey(t.Context())
				}
				locked = locked || v.account.Locked()
			})
			if !locked {
				t.Error("the account was never locked")
			}
			for v.account.Locked() {
				<-time.After(5 * time.Second)
			}
			soon(v, time.Minute)
		},
		"E1: a gateway answers 401 with a page for 5 minutes": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			stop := v.order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Body: "<html>sign in</html>"})
			beside(v, 5*time.Minute, func() {})
			stop()
			soon(v, 0)
		},
		// This machine's clock, once set, is noticed at once; a cloud's is found right at the next try, and such refusals count.
		"E1: the cloud's clock is 20 minutes off, and then set": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.sim.SetClockSkew(20 * time.Minute)
			beside(v, 5*time.Minute, func() {})
			v.sim.SetClockSkew(0)
			soon(v, 16*time.Minute)
		},
		"E1: the cloud refuses the key for 5 minutes by mistake": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			stop := v.order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"})
			beside(v, 5*time.Minute, func() {})
			stop()
			soon(v, 16*time.Minute) // tries come after 1 and 16 minutes
		},
	})
}

func TestAHoldOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	refuse := cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a new process says since when, and tries when it is time": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			stop := v.order(refuse)
			began := time.Now()
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			v.restart()
			v.sim.ResetCalls()
			_, err := v.tryLease(t.Context(), "app")
			if err == nil || !strings.Contains(err.Error(), "since "+began.UTC().Format(time.RFC3339)) || len(v.sim.Calls()) != 0 {
				t.Errorf("after %d calls: %v", len(v.sim.Calls()), err)
			}
			<-time.After(time.Minute)
			v.lease("app")
			v.restart()
			v.lease("app") // nothing of it is left
		},
		"another key is tried at once, and so is another secret": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			key := v.account.AddKey(cloudsim.KeySpec{})
			v.account.DeleteKey(v.root.AccessKey)
			_, _ = v.tryLease(t.Context(), "app")
			v.write("config/default", "access_key="+key.AccessKey, "secret_key="+key.SecretKey)
			v.lease("app")
			v.restart()
			v.lease("app")
		},
		"a hold of a clock that was a year ahead is not believed": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			stop := v.order(refuse)
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			rewrite(v, holdPrefix+"default", func(h *storedHold) { h.Since, h.Until = time.Now().Add(365*day), time.Now().Add(366*day) })
			v.restart()
			v.lease("app")
		},
		"a restart brings the try of a hold no nearer": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			stop := v.order(refuse)
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			now := time.Now()
			rewrite(v, holdPrefix+"default", func(h *storedHold) {
				h.Why, h.Refusals, h.Since, h.Until = provider.KindClockWrong, 5, now.Add(-64*time.Minute), now.Add(64*time.Minute)
			})
			v.sim.ResetCalls()
			for range 5 {
				v.restart()
				<-time.After(time.Minute)
				_, _ = v.tryLease(t.Context(), "app")
			}
			if n := len(v.sim.Calls()); n != 0 {
				t.Errorf("%d calls within half an hour of the last try", n)
			}
		},
		"what waits for the key comes to its turn when the hold is over": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			v.write("static-roles/db", "user_name=app", "rotation_period=1h", "rotation_grace_period=5m")
			v.settle(time.Hour - 30*time.Second)
			before := v.read("static-creds/db")["access_key"]
			stop := v.order(refuse)
			v.settle(30 * time.Minute)
			stop()
			v.settle(5 * time.Minute) // tried again after 32
			if after := v.read("static-creds/db")["access_key"]; after == before {
				t.Error("the key works again, and the static role is not rotated")
			}
		},
		"a cloud that does not answer when the hold is over has static roles wait as long as ever": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			v.write("static-roles/db", "user_name=app", "rotation_period=5m")
			stop := v.order(refuse)
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			defer v.order(cloudsim.Fault{Kind: cloudsim.RefuseConnection})()
			v.settle(65 * time.Minute)
			if ttl := v.read("static-creds/db")["ttl"].(int64); ttl <= 60 {
				t.Errorf("the next try is in %d seconds", ttl)
			}
		},
		"what waits for the key need not wait for the next try of it, where somebody writes one that works": func(_ *testing.T, v *testVault) {
			v.configure("ttl=5m")
			v.write("static-roles/db", "user_name=app", "rotation_period=1h", "rotation_grace_period=5m")
			before := v.read("static-creds/db")["access_key"]
			v.switchKey(v.root.AccessKey, false)
			v.settle(12 * time.Hour)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
			v.settle(time.Minute)
			if after := v.read("static-creds/db")["access_key"]; after == before {
				v.t.Error("the static role is not rotated")
			}
		},
		"what waits for the key follows a hold that becomes shorter, and is over": func(t *testing.T, v *testVault) {
			now, tries := time.Now(), v.backend.static
			held := func(d time.Duration) provider.Hold {
				return provider.Hold{Why: provider.KindKeyRefused, Until: now.Add(d)}
			}
			tries.failed("db", now, "default", held(day))
			for _, test := range []struct {
				hold provider.Hold
				want time.Time
			}{
				{held(day), now.Add(day)},
				{held(time.Hour), now.Add(time.Hour)},
				{provider.Hold{Why: provider.KindKeyRefused, Until: now, Trying: true}, now.Add(time.Hour)}, // it may fail
				{provider.Hold{}, now},
			} {
				if tries.followHold("default", test.hold); !tries.next("db", now).Equal(test.want) {
					t.Errorf("with %+v it is tried at %s, want %s", test.hold, tries.next("db", now), test.want)
				}
			}
		},
		"it goes with the account": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			stop := v.order(refuse)
			_, _ = v.tryLease(t.Context(), "app")
			stop()
			if hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default"); err != nil || hold == nil ||
				hold.Why != provider.KindKeyRefused {
				t.Fatalf("stored: %v, %v", hold, err)
			}
			<-time.After(time.Hour)
			if _, err := v.request(t.Context(), logical.DeleteOperation, "config/default"); err != nil {
				t.Fatal(err)
			}
			if hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+"default"); err != nil || hold != nil {
				t.Errorf("stored: %v, %v", hold, err)
			}
		},
		"a refusal of a call that deletes the account is stored, though nobody opens that again": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			id := v.rotate()["access_key"].(string)
			v.settle(15 * time.Minute)
			v.switchKey(id, false)
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, `account "default" stays`)
			v.restart()
			v.mustLockNobody(29*time.Minute, time.Minute, func() {})
		},
		"an account whose deletion fails is deleted again and again": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			id := v.rotate()["access_key"].(string)
			v.settle(15 * time.Minute)
			v.switchKey(id, false)
			v.sim.ResetCalls()
			for range 5 {
				v.mustRefuse(logical.DeleteOperation, "config/default", nil, `account "default" stays`)
			}
			v.restart()
			v.mustRefuse(logical.DeleteOperation, "config/default", nil, `account "default" stays`)
			if n := len(v.sim.Calls()); n != 1 || v.account.Locked() {
				t.Errorf("%d calls with a refused key, locked: %v", n, v.account.Locked())
			}
		},
		"one account's hold is not another's": func(t *testing.T, v *testVault) {
			v.configure("ttl=5m")
			second := v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/second", "provider=outscale", "region="+testRegion, "endpoint="+testEndpoint, "access_key="+second.AccessKey,
				"secret_key="+second.SecretKey)
			v.account.AddUser("other")
			v.write("roles/second", "account=second", "user_names=other", "ttl=5m")
			v.account.DeleteKey(v.root.AccessKey)
			for range 30 {
				_, _ = v.tryLease(t.Context(), "app")
				v.mustRevoke(v.lease("second"))
				v.restart()
				<-time.After(time.Minute)
			}
		},
	})
}

func TestAHoldThatIsOverIsForgottenWhateverElseHappensInThatTick(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"": func(t *testing.T, v *testVault) {
			v.configure()
			id := v.rotate()["access_key"].(string) // the key before is deleted in the tick in which the cloud takes this one again
			v.switchKey(id, false)
			v.advance(5 * time.Minute)
			v.switchKey(id, true)
			v.advance(afterHold)
			if entry, err := v.storage.Get(t.Context(), holdPrefix+"default"); entry != nil || err != nil {
				t.Errorf("the cloud has taken the key for minutes, and storage says %s (%v)", entry.Value, err)
			}
		},
	})
}
