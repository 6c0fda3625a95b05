// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestPermissionsToReadAreTriedAndNoOthers(t *testing.T) {
	everything := []provider.Use{provider.UseGroups, provider.UseKeys, provider.UseUsers, provider.UseInlinePolicies, provider.UseManagedPolicies, provider.UseUsers}
	w := newWorld(t)
	mustDo(t, first(w.client.WhoAmI(t.Context())))
	w.cloud.ResetCalls()
	if problems := w.client.ProbePermissions(t.Context(), everything...); len(problems) != 0 {
		t.Errorf("got %v", problems)
	}
	w.mustHaveSeen(t, opListGroups, opListUsers)
	if problems := w.client.ProbePermissions(t.Context(), provider.UseKeys); len(problems) != 0 {
		t.Errorf("got %v", problems)
	}
	w.mustHaveSeen(t)

	weak := w.as(t, w.domain.AddKey(cloudsim.IAMKeySpec{User: testUser}))
	problems := weak.ProbePermissions(t.Context(), everything...)
	if len(problems) != 2 || !strings.Contains(problems[0].Error(), opListGroups) || !strings.Contains(problems[1].Error(), opListUsers) {
		t.Fatalf("got %v", problems)
	}
	for _, problem := range problems {
		mustBeKind(t, problem, provider.KindDenied)
	}
}

func first(_ provider.Whoami, err error) error { return err }
