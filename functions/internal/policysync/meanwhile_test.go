// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// meanwhile has somebody else act once, when the policy was read and the users are listed.
func (w *world) meanwhile(act func()) {
	var read atomic.Bool
	var once sync.Once
	w.cloud.OnCall(func(call cloudsim.Call) {
		switch {
		case call.Op == "ReadApiAccessPolicy":
			read.Store(true)
		case call.Op == "ReadUsers" && read.Load():
			once.Do(act)
		}
	})
}

// To look at the keys of a large account takes minutes, in which somebody else may change its policy.
func TestAPolicyThatWasChangedWhileTheKeysWereLookedAtIsLeftAsItIs(t *testing.T) {
	const hours2 = 2 * time.Hour
	policyOf := func(life time.Duration, trusted bool) cloudsim.Policy {
		return cloudsim.Policy{MaxAccessKeyExpirationSeconds: int64(life / time.Second), RequireTrustedEnv: trusted}
	}
	for name, test := range map[string]struct {
		before, meanwhile cloudsim.Policy
		fourth            string // the value of a field that this software does not know; empty: it has none
		inForce           time.Duration
		says              string
	}{
		"where both the limit and the trusted sessions were hardened": {policyOf(0, false), policyOf(hours2, true), "", hours2, "now it is: access keys limited to 2h, other fields "},
		"where trusted sessions alone were demanded":                  {policyOf(9*day, false), policyOf(9*day, true), "", 9 * day, `"RequireTrustedEnv":true`},
		"where a field changed that no tool knows yet":                {policyOf(9*day, false), policyOf(9*day, false), `"on"`, 9 * day, `"Fourth":"on"`},
		"where it was widened":                                        {policyOf(9*day, false), policyOf(0, false), "", 0, "now it is: no limit for access keys, other fields "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			own := w.account.AddKey(cloudsim.KeySpec{Expires: ahead(30 * time.Minute), Trusted: true})
			network := &http.Transport{}
			t.Cleanup(network.CloseIdleConnections)
			w.connect(t, own, network) // the description of today knows no fourth field
			w.account.SetPolicy(test.before)
			w.meanwhile(func() {
				w.account.SetPolicy(test.meanwhile)
				if test.fourth != "" {
					w.account.SetPolicyField("Fourth", test.fourth)
				}
			})
			result, err := Run(t.Context(), w.job)
			if err == nil || !strings.Contains(err.Error(), "changed while the keys were looked at: nothing is set, the next run decides again") {
				t.Errorf("got error %v", err)
			}
			if w.account.Policy() != test.meanwhile || w.cloud.CountCalls("UpdateApiAccessPolicy") != 0 {
				t.Errorf("the cloud has %+v, and was sent %d updates", w.account.Policy(), w.cloud.CountCalls("UpdateApiAccessPolicy"))
			}
			r := result.Accounts[0]
			if r.Action != ActionNone || r.InForce != test.inForce || r.After != test.inForce || !strings.Contains(r.Reason, test.says) {
				t.Errorf("got %+v", r)
			}
			if len(w.vault.refreshed) != 0 || w.vault.tuned != 0 {
				t.Errorf("Vault was told of a policy that the run has not set: %+v", w.vault)
			}
		})
	}

	t.Run("and the next run decides on what is in force", func(t *testing.T) {
		w := newWorld(t)
		w.meanwhile(func() { w.account.SetPolicy(policyOf(hours2, true)) })
		_, _ = Run(t.Context(), w.job)
		if r := w.mustRun(t); r.Action != ActionNone || r.Before != hours2 || r.Problem != "" {
			t.Errorf("got %+v", r)
		}
		if w.account.Policy() != policyOf(hours2, true) {
			t.Errorf("the cloud has %+v", w.account.Policy())
		}
	})

	t.Run("and a run in report mode has nothing to read again", func(t *testing.T) {
		w := newWorld(t)
		w.job.Settings.Mode = settings.Report
		if r := w.mustRun(t); r.Action != ActionTighten || w.cloud.CountCalls("ReadApiAccessPolicy") != 1 {
			t.Errorf("got %+v after %d reads", r, w.cloud.CountCalls("ReadApiAccessPolicy"))
		}
	})
}
