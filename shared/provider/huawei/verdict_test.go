// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestTroubleThatIsNoNewsOfTheKeyEndsSoonAfterItsCause has reasons for refusals that lie elsewhere than in the engine's key.
func TestTroubleThatIsNoNewsOfTheKeyEndsSoonAfterItsCause(t *testing.T) {
	refusing := func(fault cloudsim.Fault) func(w *world) func() {
		fault.Kind = cloudsim.Refuse
		return func(w *world) func() { return w.cloud.Order(fault) }
	}
	troubles := map[string]struct {
		lasts  time.Duration
		begin  func(w *world) (end func())
		during func(w *world)
		within time.Duration // of its end the engine is served again
		says   provider.Kind
	}{
		"somebody who knows the key's id uses it with a wrong secret each second": {
			lasts: 10 * time.Minute, begin: func(*world) func() { return func() {} },
			during: func(w *world) { w.domain.UseWrongSecret(w.config.AccessKey) },
			within: 5 * time.Minute, says: provider.KindLockedOut,
		},
		"a gateway answers 401 with a page": {
			lasts: 5 * time.Minute, begin: refusing(cloudsim.Fault{Status: 401, Body: "<html>login</html>"}), says: provider.KindUnknown,
		},
		"the clocks are 20 min apart": {
			lasts: 10 * time.Minute, begin: func(w *world) func() {
				w.cloud.SetClockSkew(-20 * time.Minute)
				return func() { w.cloud.SetClockSkew(0) }
			},
			within: time.Minute, says: provider.KindClockWrong,
		},
		"the cloud refuses the key by mistake": {
			lasts: 5 * time.Minute, begin: refusing(cloudsim.Fault{Status: 401, Code: "APIGW.0301"}), within: 12 * time.Minute, says: provider.KindKeyRefused,
		},
		"the account is locked, and IAM does not say until when": {
			lasts: 10 * time.Minute, begin: refusing(cloudsim.Fault{Status: 401, Code: "IAM.0061"}), within: time.Hour, says: provider.KindLockedOut,
		},
	}
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				_, err := w.client.ListKeys(t.Context(), "")
				mustDo(t, err)
				end := trouble.begin(w)
				for began := time.Now(); time.Since(began) < trouble.lasts; <-time.After(7 * time.Second) {
					if trouble.during != nil {
						trouble.during(w)
					}
					if _, err := w.client.ListKeys(t.Context(), ""); err != nil {
						mustBeKind(t, err, trouble.says)
					}
					for range 6 {
						if trouble.during != nil {
							trouble.during(w)
						}
					}
				}
				end()
				over := time.Now()
				for {
					if _, err = w.client.ListKeys(t.Context(), ""); err == nil {
						return
					}
					if time.Since(over) > trouble.within {
						t.Fatalf("%s after its cause has gone: %v", time.Since(over), err)
					}
					<-time.After(time.Second)
				}
			})
		})
	}
}
