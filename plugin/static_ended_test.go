// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAStaticKeyThatSomebodyHasEndedIsReplaced: a key past a date that somebody has moved is as dead as one that was deleted.
func TestAStaticKeyThatSomebodyHasEndedIsReplaced(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"within a day": func(_ *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			ended, _ := v.key(v.staticKey(role))
			v.account.RewriteKey(ended.ID, ended.Tag, time.Now().Add(time.Minute))
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			v.mustBeLive(true, v.staticKey(role))
		},
		"also while others have all other slots of its user": func(_ *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			ended, _ := v.key(v.staticKey(role))
			for range v.backend.openedAccount("default").cloud.KeyQuota() - 1 {
				v.account.AddKey(cloudsim.KeySpec{User: ended.User})
			}
			v.account.RewriteKey(ended.ID, ended.Tag, time.Now().Add(time.Minute))
			v.settle(2 * rollbackPeriod)
			v.write("rotate-role/" + role)
			v.mustBeLive(true, v.staticKey(role))
			v.mustBeLive(false, ended.ID)
		},
		"but one that works gives no slot up": func(_ *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			key, _ := v.key(v.staticKey(role))
			for range v.backend.openedAccount("default").cloud.KeyQuota() - 1 {
				v.account.AddKey(cloudsim.KeySpec{User: key.User})
			}
			v.mustRefuse(logical.UpdateOperation, "rotate-role/"+role, nil, "cannot be rotated")
			v.mustBeLive(true, key.ID)
		},
		"not while it never expires, or expires later": func(t *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			key, _ := v.key(v.staticKey(role))
			for _, date := range []time.Time{{}, time.Now().Add(day)} {
				v.account.RewriteKey(key.ID, key.Tag, date)
				v.tidy()
				if v.staticKey(role) != key.ID {
					t.Errorf("replaced, with the date %s", date)
				}
			}
		},
	})
}
