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

func TestTheLastUseOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		key := w.domain.AddKey(cloudsim.IAMKeySpec{User: "ci"})
		used, err := w.client.LastUsed(t.Context(), "ci", key.AccessKey)
		mustDo(t, err)
		if !used.IsZero() { // the cloud says that it was used when it was made
			t.Errorf("never used, and got %s", used)
		}
		<-time.After(time.Hour)
		_, err = w.as(t, key).OwnKey(t.Context())
		mustDo(t, err)
		used, err = w.client.LastUsed(t.Context(), "ci", key.AccessKey)
		mustDo(t, err)
		if !used.Equal(time.Now()) {
			t.Errorf("used at %s, and got %s", time.Now(), used)
		}
		w.domain.DeleteKey(key.AccessKey)
		_, err = w.client.LastUsed(t.Context(), "ci", key.AccessKey)
		mustBeKind(t, err, provider.KindNotFound)
	})
}
