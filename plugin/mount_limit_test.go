// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestMountLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m mountLimit
		system := &logical.StaticSystemView{}
		if got := m.maxTTL(system); got != 0 {
			t.Errorf("a server that cannot be asked gives %s", got)
		}
		system.MaxLeaseTTLVal = time.Hour
		if got := m.maxTTL(system); got != time.Hour {
			t.Errorf("the failure was kept: %s", got)
		}
		system.MaxLeaseTTLVal = 2 * time.Hour
		if got := m.maxTTL(system); got != time.Hour {
			t.Errorf("the server was asked again: %s", got)
		}
		<-time.After(mountLimitFor)
		if got := m.maxTTL(system); got != 2*time.Hour {
			t.Errorf("a mount that was tuned stays at %s", got)
		}
	})
}
