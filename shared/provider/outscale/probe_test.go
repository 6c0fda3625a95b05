// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestProbePermissions(t *testing.T) {
	everything := []provider.Use{
		provider.UseKeys, provider.UseUsers, provider.UseInlinePolicies, provider.UseManagedPolicies, provider.UseGroups,
	}
	denied := func(t *testing.T, problems []error) []string {
		t.Helper()
		var ops []string
		for _, problem := range problems {
			var refused *provider.Error
			if !errors.As(problem, &refused) || refused.Kind != provider.KindDenied {
				t.Fatalf("got %v", problem)
			}
			ops = append(ops, refused.Op)
		}
		return ops
	}
	for name, rules := range map[string]cloudsim.Rules{
		"where a permitted dry run is a success":           {},
		"where a permitted dry run is an error of its own": {DryRunRefuses: true},
	} {
		t.Run("the root user may do everything, "+name, func(t *testing.T) {
			w := newWorld(t, cloudsim.WithRules(rules))
			if problems := w.client.ProbePermissions(t.Context(), everything...); len(problems) != 0 {
				t.Errorf("got %v", problems)
			}
		})
		t.Run("each call that a user may not make is named, "+name, func(t *testing.T) {
			w := newWorld(t, cloudsim.WithRules(rules))
			w.account.AddUser("vault", "api:Read*", "api:CreateAccessKey", "api:UpdateAccessKey", "api:PutUserPolicy")
			signer := w.account.AddKey(cloudsim.KeySpec{User: "vault"})
			config := w.config
			config.AccessKey, config.SecretKey = signer.AccessKey, provider.Secret(signer.SecretKey)
			got := denied(t, newClient(t, config).ProbePermissions(t.Context(), everything...))
			want := []string{
				"DeleteAccessKey", "CreateUser", "DeleteUser", "DeleteUserPolicy", "LinkPolicy", "UnlinkPolicy",
				"AddUserToUserGroup", "RemoveUserFromUserGroup",
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v", got)
			}
		})
	}
	t.Run("an account that is locked is asked once", func(t *testing.T) {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "13"})
		problems := w.client.ProbePermissions(t.Context(), everything...)
		if len(problems) != 1 || provider.KindOf(problems[0]) != provider.KindLockedOut || len(w.cloud.Calls()) != 1 {
			t.Errorf("got %v after %d calls", problems, len(w.cloud.Calls()))
		}
	})
	t.Run("it makes and removes nothing", func(t *testing.T) {
		w := newWorld(t)
		w.client.ProbePermissions(t.Context(), everything...)
		if users, keys := w.account.Users(), w.account.Keys(); len(users) != 1 || len(keys) != 1 {
			t.Errorf("%d users, %d keys", len(users), len(keys))
		}
	})
}

func TestClockSkew(t *testing.T) {
	w := newWorld(t)
	if _, known := w.client.ClockSkew(); known {
		t.Error("known without a call")
	}
	w.cloud.SetClockSkew(time.Minute)
	if _, err := w.client.OwnKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if skew, known := w.client.ClockSkew(); !known || skew < 58*time.Second || skew > time.Minute {
		t.Errorf("got %s, known %t", skew, known)
	}
}
