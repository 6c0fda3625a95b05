// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
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
		})
	}
}

func TestBothFieldsOfThePolicyAreAlwaysSent(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		own := w.account.AddKey(cloudsim.KeySpec{Expires: later(30 * time.Minute)})
		w.account.DeleteKey(w.config.AccessKey) // it has no date
		client := w.as(t, own)
		for _, policy := range []provider.AccessPolicy{
			{MaxKeyLifetime: time.Hour, RequireTrustedEnv: true},
			{MaxKeyLifetime: 2 * time.Hour},
			{},
		} {
			w.cloud.ResetCalls()
			mustDo(t, client.SetAccessPolicy(t.Context(), policy))
			want := cloudsim.Policy{
				MaxAccessKeyExpirationSeconds: int64(policy.MaxKeyLifetime / time.Second),
				RequireTrustedEnv:             policy.RequireTrustedEnv,
			}
			if w.account.Policy() != want {
				t.Errorf("the cloud has %+v, want %+v", w.account.Policy(), want)
			}
			w.mustHaveSeen(t, "UpdateApiAccessPolicy")
			var sent struct {
				MaxAccessKeyExpirationSeconds *int64
				RequireTrustedEnv             *bool
			}
			body := w.cloud.Calls()[0].Body
			mustDo(t, json.Unmarshal(body, &sent))
			if sent.RequireTrustedEnv == nil || sent.MaxAccessKeyExpirationSeconds == nil {
				t.Errorf("sent %s", body)
			}
		}
	})
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
			err := w.as(t, own).SetAccessPolicy(t.Context(), provider.AccessPolicy{MaxKeyLifetime: time.Hour})
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

func TestAPolicyThatTheAPICannotExpressIsRefusedBeforeAnyCall(t *testing.T) {
	cases := map[string]provider.AccessPolicy{
		"a negative lifetime":             {MaxKeyLifetime: -time.Hour},
		"a part of a second":              {MaxKeyLifetime: time.Nanosecond},
		"more than whole seconds":         {MaxKeyLifetime: time.Second + time.Millisecond},
		"beyond a hundred years":          {MaxKeyLifetime: 101 * 365 * 24 * time.Hour},
		"unlimited with trusted sessions": {RequireTrustedEnv: true},
	}
	for name, policy := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if err := w.client.SetAccessPolicy(t.Context(), policy); err == nil || !strings.Contains(err.Error(), "cannot be set") {
				t.Errorf("got %v", err)
			}
			w.mustHaveSeen(t)
		})
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
			mustBeKind(t, w.client.SetAccessPolicy(t.Context(), provider.AccessPolicy{}), test.want)
		})
	}
}
