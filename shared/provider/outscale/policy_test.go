// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

func TestThePolicyIsRead(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, policy := range []cloudsim.Policy{
			{},
			{MaxAccessKeyExpirationSeconds: 86400},
			{MaxAccessKeyExpirationSeconds: 3_153_600_000, RequireTrustedEnv: true},
		} {
			w.account.SetPolicy(policy)
			got, err := w.client.AccessPolicy(t.Context())
			mustDo(t, err)
			want := provider.AccessPolicy{
				MaxKeyLifetime:    time.Duration(policy.MaxAccessKeyExpirationSeconds) * time.Second,
				RequireTrustedEnv: policy.RequireTrustedEnv,
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	})
}

func TestAPolicyThatCannotBeReadIsAnErrorAndNotUnlimited(t *testing.T) {
	for name, body := range map[string]string{
		"without the number":     `{"ApiAccessPolicy":{"RequireTrustedEnv":false}}`,
		"without the other part": `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":60}}`,
		"without a policy":       `{}`,
		"with null":              `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":null,"RequireTrustedEnv":false}}`,
		"with a text":            `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":"60","RequireTrustedEnv":false}}`,
		"with a negative number": `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":-1,"RequireTrustedEnv":false}}`,
		"beyond a hundred years": `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":9300000000,"RequireTrustedEnv":false}}`,
		"empty":                  ` `,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.Order(cloudsim.Fault{Op: "ReadApiAccessPolicy", Kind: cloudsim.RubbishAnswer, Body: body})
			got, err := w.client.AccessPolicy(t.Context())
			mustBeKind(t, err, provider.KindUnreachable)
			if got != (provider.AccessPolicy{}) {
				t.Errorf("got %+v beside an error", got)
			}
			_, err = w.client.SetMaxKeyLifetime(t.Context(), time.Hour)
			mustBeKind(t, err, provider.KindUnreachable)
			if w.cloud.CountCalls("UpdateApiAccessPolicy") != 0 {
				t.Error("a policy that could not be read was written")
			}
		})
	}
}

func TestTrustedSessionsStayAsTheyAre(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		w := newWorld(t)
		own := w.account.AddKey(cloudsim.KeySpec{Expires: later(30 * time.Minute)})
		w.account.DeleteKey(w.config.AccessKey) // it has no date
		w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 7200, RequireTrustedEnv: trusted})
		got, err := w.as(t, own).SetMaxKeyLifetime(t.Context(), time.Hour)
		mustDo(t, err)
		if want := (provider.AccessPolicy{MaxKeyLifetime: time.Hour, RequireTrustedEnv: trusted}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if want := (cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600, RequireTrustedEnv: trusted}); w.account.Policy() != want {
			t.Errorf("the cloud has %+v, want %+v", w.account.Policy(), want)
		}
		w.mustHaveSeen(t, "ReadApiAccessPolicy", "UpdateApiAccessPolicy")
		var sent struct {
			MaxAccessKeyExpirationSeconds *int64
			RequireTrustedEnv             *bool
		}
		mustDo(t, json.Unmarshal(w.cloud.Calls()[1].Body, &sent))
		if sent.RequireTrustedEnv == nil || *sent.RequireTrustedEnv != trusted || *sent.MaxAccessKeyExpirationSeconds != 3600 {
			t.Errorf("sent %s", w.cloud.Calls()[1].Body)
		}
	}
}

func TestTheBoundCanBeTakenAway(t *testing.T) {
	w := newWorld(t)
	w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600})
	got, err := w.client.SetMaxKeyLifetime(t.Context(), 0)
	if err != nil || got.MaxKeyLifetime != 0 || w.account.Policy().MaxAccessKeyExpirationSeconds != 0 {
		t.Errorf("got %+v and error %v", got, err)
	}
}

func TestAPolicyThatExistingKeysDoNotAllow(t *testing.T) {
	cases := map[string]struct {
		spec cloudsim.KeySpec
		want string
	}{
		"because one lives longer":   {cloudsim.KeySpec{User: testUser, Expires: later(2 * time.Hour)}, "remaining lifetime"},
		"because one never expires":  {cloudsim.KeySpec{User: testUser}, "has no expiration date"},
		"because one lives as long":  {cloudsim.KeySpec{User: testUser, Expires: later(time.Hour + 2*time.Second)}, "remaining lifetime"},
		"because one that is unused": {cloudsim.KeySpec{User: testUser, Inactive: true}, "has no expiration date"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			own := w.account.AddKey(cloudsim.KeySpec{Expires: later(30 * time.Minute)})
			w.account.DeleteKey(w.config.AccessKey)
			ref := w.key(test.spec)
			_, err := w.as(t, own).SetMaxKeyLifetime(t.Context(), time.Hour)
			mustBeKind(t, err, provider.KindPolicyViolated)
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), ref.ID) {
				t.Errorf("got %v, want it to name the key", err)
			}
			if w.account.Policy() != (cloudsim.Policy{}) {
				t.Errorf("the cloud has %+v", w.account.Policy())
			}
		})
	}
}

func TestALifetimeThatWouldBecomeUnlimitedIsRefused(t *testing.T) {
	for _, lifetime := range []time.Duration{-time.Hour, time.Nanosecond, 999 * time.Millisecond} {
		w := newWorld(t)
		if _, err := w.client.SetMaxKeyLifetime(t.Context(), lifetime); err == nil || !strings.Contains(err.Error(), "cannot be set") {
			t.Errorf("%s: got %v", lifetime, err)
		}
		w.mustHaveSeen(t)
	}
}

func TestAPolicyUpdateThatFails(t *testing.T) {
	cases := map[string]struct {
		fault cloudsim.Fault
		want  provider.Kind
	}{
		"with a conflict":       {cloudsim.Fault{Kind: cloudsim.Refuse, Status: 409, Code: "9018"}, provider.KindPolicyViolated},
		"without permission":    {cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "7"}, provider.KindDenied},
		"with its answer lost":  {cloudsim.Fault{Kind: cloudsim.DropAnswer}, provider.KindAmbiguous},
		"with an empty success": {cloudsim.Fault{Kind: cloudsim.EmptyAnswer}, provider.KindAmbiguous},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.fault.Op = "UpdateApiAccessPolicy"
			w.cloud.Order(test.fault)
			_, err := w.client.SetMaxKeyLifetime(t.Context(), 0)
			mustBeKind(t, err, test.want)
		})
	}
}
