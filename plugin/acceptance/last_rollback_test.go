// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestLastRollback disables and moves a mount right after a create whose answer was lost: in the one
// rollback that the server sends before, the engine removes the key that nobody got.
func TestLastRollback(t *testing.T) {
	t.Parallel()
	lose := func(m *mount) {
		m.t.Helper()
		m.configure()
		create := m.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})
		list := m.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: 500})
		_, err := m.server.Client.Logical().ReadWithContext(m.t.Context(), m.path+"/creds/app")
		create()
		list()
		if err == nil {
			m.t.Fatal("leased")
		}
	}
	keys := func(m *mount) (n int) {
		for _, key := range m.account.Keys() {
			if key.User == "app" {
				n++
			}
		}
		return n
	}
	t.Run("secrets disable", func(t *testing.T) {
		t.Parallel()
		m := newMount(t)
		lose(m)
		if n := keys(m); n == 0 {
			t.Fatal("the create was not carried out: the test proves nothing")
		}
		if err := m.server.Client.Sys().UnmountWithContext(t.Context(), m.path); err != nil {
			t.Fatal(err)
		}
		if n := keys(m); n != 0 {
			t.Errorf("%d keys of the mount live on", n)
		}
	})
	t.Run("secrets move", func(t *testing.T) {
		t.Parallel()
		m := newMount(t)
		lose(m)
		to := m.path + "-moved"
		if err := m.server.Client.Sys().RemountWithContext(t.Context(), m.path, to); err != nil {
			t.Fatal(err)
		}
		if n := keys(m); n != 0 {
			t.Errorf("%d keys of the mount live on", n)
		}
		m.path = to
		until(t, time.Minute, "the moved mount leases", func() bool {
			_, err := m.server.Client.Logical().ReadWithContext(t.Context(), m.path+"/creds/app")
			return err == nil
		})
	})
}
