// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"cmp"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// trouble is a reason for refusals that lies elsewhere than in the engine's key. during is called each second.
type trouble struct {
	lasts  time.Duration
	every  time.Duration // the engine's own calls; 0: each second
	begin  func(w *world) (end func())
	during func(w *world, second int)
	within time.Duration // of its end the engine is served again
	says   []provider.Kind
}

func refusing(fault cloudsim.Fault) func(w *world) func() {
	return func(w *world) func() { return w.cloud.Order(fault) }
}

func clockOff(skew time.Duration) func(w *world) func() {
	return func(w *world) func() {
		w.cloud.SetClockSkew(skew)
		return func() { w.cloud.SetClockSkew(0) }
	}
}

var troubles = map[string]trouble{
	"another program signs with a dead key every 5 s for ten minutes": {
		lasts: 10 * time.Minute, every: 30 * time.Second, begin: func(*world) func() { return func() {} },
		during: func(w *world, second int) {
			if second%5 == 0 {
				w.account.UseDeadKey()
			}
		},
		within: 10 * time.Minute, says: []provider.Kind{provider.KindLockedOut},
	},
	"a gateway answers 401 with a page for five minutes": {
		lasts: 5 * time.Minute, begin: refusing(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Body: "<html>login</html>"}),
		within: time.Second, says: []provider.Kind{provider.KindUnknown, provider.KindUnreachable},
	},
	"the clocks are 20 min apart for half a minute": {
		lasts: 30 * time.Second, begin: clockOff(20 * time.Minute),
		within: 31 * time.Second, says: []provider.Kind{provider.KindClockWrong},
	},
	"the cloud refuses the key for five minutes by mistake": {
		lasts: 5 * time.Minute, begin: refusing(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"}),
		within: 12 * time.Minute, says: []provider.Kind{provider.KindKeyRefused},
	},
	"the cloud refuses the key for three hours by mistake": {
		lasts: 3 * time.Hour, begin: refusing(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"}),
		within: 3 * time.Hour, says: []provider.Kind{provider.KindKeyRefused},
	},
	"the cloud does not know the key for five minutes by mistake": {
		lasts: 5 * time.Minute, begin: refusing(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Code: "4120"}),
		within: 26 * time.Minute, says: []provider.Kind{provider.KindKeyUnclear},
	},
	"the account is locked until support unlocks it, after two hours": {
		lasts: 2 * time.Hour, begin: refusing(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "11"}),
		within: time.Hour, says: []provider.Kind{provider.KindLockedOut},
	},
	"the account is locked, and the cloud does not say until when": {
		lasts: 10 * time.Minute, begin: refusing(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "13"}),
		within: time.Hour, says: []provider.Kind{provider.KindLockedOut},
	},
}

func TestTroubleThatIsNoNewsOfTheKeyEndsSoonAfterItsCause(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				_, err := w.client.ListKeys(t.Context(), "")
				mustDo(t, err)
				end := trouble.begin(w)
				said := map[provider.Kind]int{}
				for second := 0; time.Duration(second)*time.Second < trouble.lasts; second++ {
					if trouble.during != nil {
						trouble.during(w, second)
					}
					if time.Duration(second)*time.Second%cmp.Or(trouble.every, time.Second) != 0 {
						pass(time.Second)
						continue
					}
					if _, err := w.client.ListKeys(t.Context(), ""); err != nil {
						said[provider.KindOf(err)]++
					}
					pass(time.Second)
				}
				end()
				for _, kind := range trouble.says {
					delete(said, kind)
				}
				if len(said) > 0 {
					t.Errorf("the errors say also %v, want %v alone", said, trouble.says)
				}
				over := time.Now()
				for {
					if _, err = w.client.ListKeys(t.Context(), ""); err == nil {
						return
					}
					if time.Since(over) > trouble.within {
						t.Fatalf("%s after its cause has gone: %v", time.Since(over), err)
					}
					pass(time.Second)
				}
			})
		})
	}
}
