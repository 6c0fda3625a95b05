// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestANodeThatIsNotActiveLeavesTheCloudAlone has the server call the engine on a node that is not the active one, as OpenBao's
// standbys do. What such a node finds in storage may be old.
func TestANodeThatIsNotActiveLeavesTheCloudAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"rollback: a key whose request it has not seen the end of": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			v.leaveBegun()
			v.mustLeaveAlone(nil, func() error {
				<-time.After(begunAge + rollbackPeriod)
				return v.tick()
			})
		},
		"periodic work: an expired key": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil
			v.mustLeaveAlone(nil, func() error {
				<-time.After(time.Hour)
				return v.tick()
			})
		},
		"a revocation": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h")
			l := v.lease("app")
			v.mustLeaveAlone(logical.ErrReadOnly, func() error { return v.revoke(l) })
		},
		"a renewal": func(t *testing.T, v *testVault) {
			v.configure("ttl=1h", "max_ttl=3h")
			l := v.lease("app")
			v.mustLeaveAlone(logical.ErrReadOnly, func() error { return v.renew(l, 2*time.Hour) })
		},
	})
}

// mustLeaveAlone has do done on each kind of node that is not active. It must answer that, and call no cloud.
func (v *testVault) mustLeaveAlone(answer error, do func() error) {
	v.t.Helper()
	for name, state := range map[string]consts.ReplicationState{
		"a performance standby": consts.ReplicationPerformanceStandby,
		"a DR secondary":        consts.ReplicationDRSecondary,
	} {
		v.system.become(state)
		v.restart()
		calls, before := 0, v.account.Keys()
		v.sim.OnAnswer(func(cloudsim.Call) { calls++ })
		if err := do(); !errors.Is(err, answer) {
			v.t.Errorf("%s answers %v, want %v", name, err, answer)
		}
		if calls != 0 || len(v.account.Keys()) != len(before) {
			v.t.Errorf("%s made %d calls; of %d keys %d are left", name, calls, len(before), len(v.account.Keys()))
		}
	}
}
