// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"encoding/json"
	"fmt"
	"reflect"
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
			{MaxAccessKeyExpirationSeconds: 864_000, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: true},
		} {
			w.account.SetPolicy(policy)
			got, err := w.client.AccessPolicy(t.Context())
			mustDo(t, err)
			want := provider.AccessPolicy{
				MaxKeyLifetime:    time.Duration(policy.MaxAccessKeyExpirationSeconds) * time.Second,
				RequireTrustedEnv: policy.RequireTrustedEnv,
				SecureMode:        policy.RequireTrustedEnvSecureMode,
				Rest: fmt.Sprintf(`{"RequireTrustedEnv":%v,"RequireTrustedEnvSecureMode":%v}`,
					policy.RequireTrustedEnv, policy.RequireTrustedEnvSecureMode),
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
		"with a broken number":   `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":60.5,"RequireTrustedEnv":false}}`,
		"with an odd switch":     `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":60,"RequireTrustedEnv":false,"RequireTrustedEnvSecureMode":"on"}}`,
		"with a null switch":     `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":60,"RequireTrustedEnv":false,"RequireTrustedEnvSecureMode":null}}`,
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

// bounded is a client whose own key does not stand in the way of a policy of an hour.
func (w *world) bounded(t *testing.T) *Client {
	t.Helper()
	own := w.account.AddKey(cloudsim.KeySpec{Expires: later(30 * time.Minute), Trusted: true})
	w.account.DeleteKey(w.config.AccessKey) // it never expires
	return w.as(t, own)
}

// setLifetime sets the bound on the life of keys, and nothing else.
func setLifetime(t *testing.T, c *Client, wanted time.Duration) error {
	t.Helper()
	policy, err := c.AccessPolicy(t.Context())
	mustDo(t, err)
	policy.MaxKeyLifetime = wanted
	return c.SetAccessPolicy(t.Context(), policy)
}

func TestAllOfThePolicyIsSentBackAsItWasRead(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		client := w.bounded(t)
		for _, was := range []cloudsim.Policy{
			{MaxAccessKeyExpirationSeconds: 3600, RequireTrustedEnv: true},
			{MaxAccessKeyExpirationSeconds: 3600, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: true},
			{},
		} {
			w.account.SetPolicy(was)
			mustDo(t, setLifetime(t, client, 2*time.Hour))
			was.MaxAccessKeyExpirationSeconds = 7200
			if w.account.Policy() != was {
				t.Errorf("the cloud has %+v, want %+v", w.account.Policy(), was)
			}
		}
	})
}

// The next version of the API will have a further field, as the last one had.
func TestAFieldThatNobodyHasHeardOfIsKept(t *testing.T) {
	for name, rules := range map[string]cloudsim.Rules{
		"by a cloud that wants it":            {},
		"by a cloud that takes it for false":  {PolicyForgets: true},
		"by a cloud that knows no third one":  {NoSecureMode: true},
		"by one that knows two, and is loose": {NoSecureMode: true, PolicyForgets: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cloudsim.WithRules(rules))
			w.config.Base = w.cloud.Transport() // the description of today knows no such field
			w.account.SetPolicy(cloudsim.Policy{
				MaxAccessKeyExpirationSeconds: 86_400, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: !rules.NoSecureMode,
			})
			before := w.account.Policy()
			fields := map[string]string{"Fourth": "true", "Fifth": `{"a": [1, 2.50, "<&>"]}`, "Sixth": "12345678901234567890"}
			for field, value := range fields {
				w.account.SetPolicyField(field, value)
			}
			client := w.bounded(t)
			mustDo(t, setLifetime(t, client, time.Hour))
			before.MaxAccessKeyExpirationSeconds = 3600
			if w.account.Policy() != before {
				t.Errorf("got %+v, want %+v", w.account.Policy(), before)
			}
			for field, value := range fields {
				if got := w.account.PolicyField(field); !reflect.DeepEqual(decoded(t, got), decoded(t, value)) {
					t.Errorf("%s is now %s, want %s", field, got, value)
				}
			}
		})
	}
}

// decoded is what a JSON text says, its numbers digit by digit.
func decoded(t *testing.T, text string) (value any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	mustDo(t, decoder.Decode(&value))
	return value
}

func TestAPolicyThatWasNotReadIsNotWritten(t *testing.T) {
	w := newWorld(t)
	read, err := w.client.AccessPolicy(t.Context())
	mustDo(t, err)
	w.cloud.ResetCalls()
	trusted, secure := read, read
	trusted.RequireTrustedEnv, secure.SecureMode = true, true
	trusted.MaxKeyLifetime = time.Hour
	for name, policy := range map[string]provider.AccessPolicy{
		"made up": {MaxKeyLifetime: time.Hour}, "with trusted sessions switched on": trusted, "with secure mode switched on": secure,
		"of null": {Rest: "null"}, "of rubbish": {Rest: "{"},
	} {
		if err := w.client.SetAccessPolicy(t.Context(), policy); err == nil {
			t.Errorf("one %s was written", name)
		}
	}
	w.mustHaveSeen(t)
}

func TestAnAnswerWithAnotherPolicyThanWasWrittenIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	w.cloud.Order(cloudsim.Fault{Op: opUpdatePolicy, Kind: cloudsim.RubbishAnswer, Body: `{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":0,"RequireTrustedEnv":false,"RequireTrustedEnvSecureMode":true}}`})
	err := setLifetime(t, w.client, 0)
	mustBeKind(t, err, provider.KindAmbiguous)
	if !strings.Contains(err.Error(), "in RequireTrustedEnvSecureMode") {
		t.Errorf("got %v", err)
	}
}

func TestAnUpdateThatIsWrongInItselfIsNoKeyInTheWay(t *testing.T) {
	for _, kind := range []string{"MissingParameter", "InvalidParameter", "InvalidParameterType"} {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Op: opUpdatePolicy, Kind: cloudsim.Refuse, Status: 400, Body: `{"Errors":[{"Code":"4003","Type":"` + kind + `"}]}`})
		mustBeKind(t, setLifetime(t, w.client, 0), provider.KindInvalid)
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
			client := w.bounded(t)
			ref := w.key(test.spec)
			err := setLifetime(t, client, time.Hour)
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
		"with errors in a 200": {
			cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Status: 200, Body: `{"Errors":[{"Code":"4110","Type":"InvalidParameterValue"}]}`}, provider.KindPolicyViolated,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.fault.Op = "UpdateApiAccessPolicy"
			w.cloud.Order(test.fault)
			mustBeKind(t, setLifetime(t, w.client, 0), test.want)
		})
	}
}
