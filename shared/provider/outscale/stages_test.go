// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestAKeyIsDeactivatedWithItsDateAndStays(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, user := range []string{"", testUser} {
			ref := w.key(cloudsim.KeySpec{User: user, Expires: later(time.Hour)})
			w.cloud.ResetCalls()
			mustDo(t, w.client.DeactivateKey(t.Context(), ref))
			mustDo(t, w.client.DeactivateKey(t.Context(), ref)) // again is no harm
			key := w.mustHave(t, ref.ID)
			if key.State != cloudsim.Inactive || !key.Expires.Equal(ref.Expires) {
				t.Errorf("got %+v", key)
			}
			w.mustHaveSeen(t, "UpdateAccessKey", "UpdateAccessKey")
			w.updates(t)
		}
	})
}

func TestADeactivatedKeyTellsSinceWhen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
		pass(time.Minute)
		mustDo(t, w.client.DeactivateKey(t.Context(), ref))
		keys, err := w.client.ListKeys(t.Context(), testUser)
		mustDo(t, err)
		if len(keys) != 1 || keys[0].Active || !keys[0].Changed.Equal(time.Now()) {
			t.Errorf("got %+v at %s", keys, time.Now())
		}
	})
}

func TestAKeyWithoutDateGetsOneWhenItIsDeactivated(t *testing.T) {
	w := newWorld(t)
	ref := w.key(cloudsim.KeySpec{User: testUser})
	mustDo(t, w.client.DeactivateKey(t.Context(), ref))
	if key := w.mustHave(t, ref.ID); key.State != cloudsim.Inactive || key.Expires.IsZero() {
		t.Errorf("got %+v", key)
	}
	w.updates(t)
}

func TestAStageOfAKeyThatIsGoneIsDone(t *testing.T) {
	w := newWorld(t)
	ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
	w.account.DeleteKey(ref.ID)
	mustDo(t, w.client.DeactivateKey(t.Context(), ref))
	mustDo(t, w.client.DeleteKey(t.Context(), ref))

	ref.AccountID = "210987654321"
	for _, err := range []error{w.client.DeactivateKey(t.Context(), ref), w.client.DeleteKey(t.Context(), ref)} {
		if err == nil {
			t.Error("another account knows none of our keys, and was believed")
		}
	}
}

func TestDeletingDoesNotSwitchOff(t *testing.T) {
	w := newWorld(t)
	ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
	mustBeKind(t, w.client.DeleteKey(t.Context(), ref), provider.KindConflict)
	if key := w.mustHave(t, ref.ID); key.State != cloudsim.Active {
		t.Errorf("got %+v", key)
	}
	mustDo(t, w.client.DeactivateKey(t.Context(), ref))
	mustDo(t, w.client.DeleteKey(t.Context(), ref))
	w.mustLack(t, ref.ID)
}
