// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"
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
