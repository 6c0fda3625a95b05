// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// The cloud locks a key after more than five bad authentications in a row.
func TestADeadKeyUnderFiftyConcurrentCalls(t *testing.T) {
	deaths := map[string]struct {
		rules cloudsim.HuaweiRules
		die   func(w *world, own *cloudsim.Credentials)
		calls int
	}{
		"deleted":             {die: func(w *world, own *cloudsim.Credentials) { w.domain.DeleteKey(own.AccessKey) }, calls: 2},
		"with a wrong secret": {die: func(_ *world, own *cloudsim.Credentials) { own.SecretKey = "WRONG" + own.SecretKey[5:] }, calls: 1},
		"inactive": {
			die: func(w *world, own *cloudsim.Credentials) { w.domain.SetKeyState(own.AccessKey, cloudsim.IAMInactive) }, calls: 1,
		},
		"inactive, refused by the gateway": {
			rules: cloudsim.HuaweiRules{InactiveKeyIs401: true},
			die:   func(w *world, own *cloudsim.Credentials) { w.domain.SetKeyState(own.AccessKey, cloudsim.IAMInactive) }, calls: 1,
		},
		"of a disabled user": {die: func(w *world, _ *cloudsim.Credentials) { w.domain.SetUserEnabled(testUser, false) }, calls: 1},
	}
	for name, death := range deaths {
		for _, configured := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.cloud.SetHuaweiRules(death.rules)
					own := w.domain.AddKey(cloudsim.IAMKeySpec{User: testUser})
					death.die(w, &own)
					w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 100 * time.Millisecond})
					client := w.as(t, own, func(c *Config) {
						c.PerSecond = 5
						if configured {
							c.DomainID = w.domain.ID()
						}
					})
					var group sync.WaitGroup
					for range 50 {
						group.Go(func() {
							_, err := client.ListKeys(t.Context(), "")
							if kind := provider.KindOf(err); kind != provider.KindKeyRefused && kind != provider.KindKeyUnclear {
								t.Errorf("got %v of kind %q", err, kind)
							}
						})
					}
					group.Wait()
					if sent := len(w.cloud.Calls()); sent != death.calls {
						t.Errorf("%d calls with a dead key reached the cloud, want %d", sent, death.calls)
					}
					if w.domain.Locked(own.AccessKey) {
						t.Error("the key is locked")
					}
				})
			})
		}
	}
}

// A key that dies while calls are under way costs a refusal for each of these.
func TestAKeyThatDiesInUseIsNotLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.domain.AddUser(testUser, cloudsim.SecurityAdministrator)
		own := w.domain.AddKey(cloudsim.IAMKeySpec{User: testUser})
		client := w.as(t, own, func(c *Config) { c.PerSecond = 5 })
		_, err := client.ListKeys(t.Context(), "")
		mustDo(t, err)
		w.domain.DeleteKey(own.AccessKey)
		w.cloud.ResetCalls()
		w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 300 * time.Millisecond})
		for range 10 {
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() { _, _ = client.ListKeys(t.Context(), "") }) // refused, which is the point
			}
			group.Wait()
			<-time.After(time.Minute)
		}
		if sent := len(w.cloud.Calls()); sent > 4 || w.domain.Locked(own.AccessKey) {
			t.Errorf("%d calls were sent, locked: %v", sent, w.domain.Locked(own.AccessKey))
		}
	})
}

func TestANewKeyThatIsNotKnownYetIsTriedOnceMore(t *testing.T) {
	for delay, works := range map[time.Duration]bool{time.Second: true, time.Minute: false} {
		slow(t, cloudsim.HuaweiRules{ActivationDelay: delay}, func(t *testing.T, w *world) {
			key, err := w.client.CreateKey(t.Context(), w.spec())
			mustDo(t, err)
			w.cloud.ResetCalls()
			client := w.as(t, cloudsim.Credentials{AccessKey: key.ID, SecretKey: key.Secret.Reveal()}, func(c *Config) { c.DomainID = w.domain.ID() })
			_, err = client.OwnKey(t.Context())
			if works != (err == nil) || len(w.cloud.Calls()) != 2 || w.domain.Locked(key.ID) {
				t.Errorf("known after %s: got %v after %d calls, locked: %v", delay, err, len(w.cloud.Calls()), w.domain.Locked(key.ID))
			}
			if !works {
				mustBeKind(t, err, provider.KindKeyUnclear)
			}
		})
	}
}

func TestALockedKeySaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		own := w.domain.RootKey()
		own.SecretKey = "WRONG"
		for range 6 {
			_, err := w.as(t, own).ListKeys(t.Context(), "")
			if err == nil {
				t.Fatal("a wrong secret signs")
			}
		}
		_, err := w.client.ListKeys(t.Context(), "")
		mustBeKind(t, err, provider.KindLockedOut)
	})
}
