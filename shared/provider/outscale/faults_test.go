// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// operations are all that a client does, each on a key of its own.
func operations(w *world) map[string]func(ctx context.Context, c *Client) error {
	// Each has a key of its own: a map's order is random, and a key that another
	// operation deleted would make this one fail.
	key := func() provider.KeyRef {
		return w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
	}
	moved, deactivated, deleted := key(), key(), w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour), Inactive: true})
	revoke := func(spec cloudsim.KeySpec) func(context.Context, *Client) error {
		ref := w.key(spec)
		return func(ctx context.Context, c *Client) error { return c.RevokeKey(ctx, ref) }
	}
	gone := provider.KeyRef{AccountID: testAccount, User: testUser, ID: "GONEGONEGONEGONEGONE", Expires: later(time.Hour)}
	return map[string]func(ctx context.Context, c *Client) error{
		"CreateKey": func(ctx context.Context, c *Client) error {
			_, err := c.CreateKey(ctx, provider.KeySpec{User: testUser, Label: "label", Expires: later(time.Hour)})
			return err
		},
		"CreateKey for itself": func(ctx context.Context, c *Client) error {
			_, err := c.CreateKey(ctx, provider.KeySpec{})
			return err
		},
		"ListKeys": func(ctx context.Context, c *Client) error {
			_, err := c.ListKeys(ctx, testUser)
			return err
		},
		"MoveExpiry":                    func(ctx context.Context, c *Client) error { return c.MoveExpiry(ctx, moved) },
		"RevokeKey":                     revoke(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)}),
		"RevokeKey of its own":          revoke(cloudsim.KeySpec{Expires: later(time.Hour)}),
		"RevokeKey of one that is gone": func(ctx context.Context, c *Client) error { return c.RevokeKey(ctx, gone) },
		"DeactivateKey":                 func(ctx context.Context, c *Client) error { return c.DeactivateKey(ctx, deactivated) },
		"DeleteKey":                     func(ctx context.Context, c *Client) error { return c.DeleteKey(ctx, deleted) },
		"WhoAmI": func(ctx context.Context, c *Client) error {
			_, err := c.WhoAmI(ctx)
			return err
		},
		"AccessPolicy": func(ctx context.Context, c *Client) error {
			_, err := c.AccessPolicy(ctx)
			return err
		},
		"SetAccessPolicy": func(ctx context.Context, c *Client) error {
			return c.SetAccessPolicy(ctx, provider.AccessPolicy{Rest: `{"RequireTrustedEnv":false,"RequireTrustedEnvSecureMode":false}`})
		},
	}
}

// mustHideSecrets searches an error, however shown, for any part of any secret.
func mustHideSecrets(t *testing.T, w *world, err error) {
	t.Helper()
	if err == nil {
		return
	}
	encoded, jsonErr := json.Marshal(err)
	mustDo(t, jsonErr)
	view := fmt.Sprintf("%v %+v %#v %s %q", err, err, err, encoded, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		view += fmt.Sprintf(" %+v", e)
	}
	for _, secret := range w.cloud.Secrets() {
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(view, secret[i:i+8]) {
				t.Errorf("an error shows a part of a secret key: %s", view)
				return
			}
		}
	}
}

// everyFault returns all kinds of faults, some of which speak of secrets.
func everyFault(w *world) map[string]cloudsim.Fault {
	secrets, _ := json.Marshal(strings.Join(w.cloud.Secrets(), " "))
	echo := `{"Errors":[{"Type":` + string(secrets) + `,"Details":` + string(secrets) + `,"Code":"4001"}]}`
	faults := map[string]cloudsim.Fault{
		"throttled by the platform":    {Kind: cloudsim.Throttle, Status: 503},
		"refused key":                  {Kind: cloudsim.Refuse, Status: 401, Code: "1"},
		"denied":                       {Kind: cloudsim.Refuse, Status: 401, Code: "7"},
		"locked out":                   {Kind: cloudsim.Refuse, Status: 401, Code: "13"},
		"not found":                    {Kind: cloudsim.Refuse, Status: 400, Code: "4000"},
		"invalid":                      {Kind: cloudsim.Refuse, Status: 400, Code: "4047"},
		"conflict":                     {Kind: cloudsim.Refuse, Status: 409, Code: "6003"},
		"quota":                        {Kind: cloudsim.Refuse, Status: 400, Code: "10005"},
		"a page":                       {Kind: cloudsim.RefuseAfter, Status: 502, Body: "<html>" + string(secrets)},
		"the secret where JSON breaks": {Kind: cloudsim.RubbishAnswer, Body: string(secrets) + "}"},
		"the secret beside a number":   {Kind: cloudsim.RubbishAnswer, Body: `{"AccessKey":{"AccessKeyId":1,"SecretKey":` + string(secrets) + `}}`},
		"the secret in a date":         {Kind: cloudsim.RubbishAnswer, Body: `{"AccessKey":{"AccessKeyId":"x","SecretKey":"x","ExpirationDate":` + string(secrets) + `}}`},
		"the client's secret in the error": {
			Kind: cloudsim.Refuse, Status: 400,
			Body: strings.ReplaceAll(echo, string(secrets), `"`+w.config.SecretKey.Reveal()+`"`),
		},
	}
	for _, kind := range []cloudsim.FaultKind{
		cloudsim.Refuse, cloudsim.RefuseAfter, cloudsim.DropRequest, cloudsim.DropAnswer, cloudsim.RefuseConnection,
		cloudsim.Delay, cloudsim.DelayAnswer, cloudsim.EmptyAnswer, cloudsim.RubbishAnswer, cloudsim.Throttle,
		cloudsim.Burst4120, cloudsim.Outage,
	} {
		faults[string(kind)] = cloudsim.Fault{Kind: kind, Delay: time.Minute}
		if kind != cloudsim.Delay && kind != cloudsim.DelayAnswer {
			faults[string(kind)] = cloudsim.Fault{Kind: kind}
		}
	}
	return faults
}

func TestNoErrorShowsASecretWhateverGoesWrong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		probe := newWorld(t)
		for op := range operations(probe) {
			for name := range everyFault(probe) {
				w := newWorld(t)
				do := operations(w)[op]
				fault := everyFault(w)[name]
				w.cloud.Order(fault)
				if fault.Kind == cloudsim.Throttle {
					_, _ = w.client.AccessPolicy(t.Context()) // takes the one token there is
				}
				err := do(t.Context(), w.client)
				if err == nil {
					t.Errorf("%s under %q: no error", op, name)
				}
				mustHideSecrets(t, w, err)
				w.updates(t)
			}
		}
	})
}

func TestWhatACreateThatFailedHasLeftIsKnownByItsKind(t *testing.T) {
	const untilTheEnd = 10 // times or more: as long as the caller waits
	cases := map[string]struct {
		fault cloudsim.Fault
		kind  provider.Kind
		sent  int
		keys  int // made, whose secret is lost
	}{
		"refused with 500":                {cloudsim.Fault{Kind: cloudsim.Refuse}, provider.KindAmbiguous, 1, 0},
		"done, then refused with 500":     {cloudsim.Fault{Kind: cloudsim.RefuseAfter}, provider.KindAmbiguous, 1, 1},
		"done, then refused with 504":     {cloudsim.Fault{Kind: cloudsim.RefuseAfter, Status: 504}, provider.KindAmbiguous, 1, 1},
		"done, then 503 without the code": {cloudsim.Fault{Kind: cloudsim.RefuseAfter, Status: 503}, provider.KindAmbiguous, 1, 1},
		"the request is lost":             {cloudsim.Fault{Kind: cloudsim.DropRequest}, provider.KindAmbiguous, 1, 0},
		"the answer is lost":              {cloudsim.Fault{Kind: cloudsim.DropAnswer}, provider.KindAmbiguous, 1, 1},
		"the request takes too long":      {cloudsim.Fault{Kind: cloudsim.Delay, Delay: time.Minute}, provider.KindAmbiguous, 1, 0},
		"the answer takes too long":       {cloudsim.Fault{Kind: cloudsim.DelayAnswer, Delay: time.Minute}, provider.KindAmbiguous, 1, 1},
		"a success with an empty answer":  {cloudsim.Fault{Kind: cloudsim.EmptyAnswer}, provider.KindAmbiguous, 1, 1},
		"an empty 201":                    {cloudsim.Fault{Kind: cloudsim.EmptyAnswer, Status: 201}, provider.KindAmbiguous, 1, 1},
		"a success cut in the middle":     {cloudsim.Fault{Kind: cloudsim.RubbishAnswer}, provider.KindAmbiguous, 1, 1},
		"a success that is a page":        {cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: "<html>"}, provider.KindAmbiguous, 1, 1},
		"a success of null":               {cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: "null"}, provider.KindAmbiguous, 1, 1},
		"a success without a key":         {cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: "{}"}, provider.KindAmbiguous, 1, 1},
		"a success without the key's id": {
			cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: `{"AccessKey":{"SecretKey":"x"}}`}, provider.KindAmbiguous, 1, 1,
		},
		"a success without the secret": {
			cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: `{"AccessKey":{"AccessKeyId":"x"}}`}, provider.KindAmbiguous, 1, 1,
		},
		"a success with a date that cannot be read": {
			cloudsim.Fault{
				Kind: cloudsim.RubbishAnswer,
				Body: `{"AccessKey":{"AccessKeyId":"x","SecretKey":"x","ExpirationDate":"tomorrow"}}`,
			}, provider.KindAmbiguous, 1, 1,
		},
		"a connection refused for long": {cloudsim.Fault{Kind: cloudsim.RefuseConnection}, provider.KindUnreachable, untilTheEnd, 0},
		"a burst":                       {cloudsim.Fault{Kind: cloudsim.Burst4120}, provider.KindKeyUnclear, 2, 0},
		"a quota":                       {cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Code: "10005"}, provider.KindQuota, 1, 0},
		"a throttled call": {
			cloudsim.Fault{Kind: cloudsim.Refuse, Status: 429, Code: "24"}, provider.KindThrottled, untilTheEnd, 0,
		},
		"a throttled platform": {
			cloudsim.Fault{Kind: cloudsim.Refuse, Status: 503, Code: "6"}, provider.KindThrottled, untilTheEnd, 0,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				w.cloud.Order(test.fault)
				key, err := w.client.CreateKey(t.Context(), provider.KeySpec{User: testUser, Label: "label"})
				mustBeKind(t, err, test.kind)
				mustHideSecrets(t, w, err)
				if key != (provider.IssuedKey{}) {
					t.Errorf("got the key %v beside an error", key)
				}
				if got := w.cloud.CountCalls("CreateAccessKey"); got != test.sent && (test.sent != untilTheEnd || got < untilTheEnd) {
					t.Errorf("the create was sent %d times, want %d", got, test.sent)
				}
				if got := len(w.account.Keys()) - 1; got != test.keys {
					t.Errorf("the cloud has %d new keys, want %d", got, test.keys)
				}
			})
		})
	}
}

func TestACallThatEndsBeforeItIsSentIsUnreachable(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.client.CreateKey(ctx, provider.KeySpec{})
	mustBeKind(t, err, provider.KindUnreachable)
	if !errors.Is(err, context.Canceled) || len(w.cloud.Calls()) != 0 {
		t.Errorf("got %v and %d calls", err, len(w.cloud.Calls()))
	}
}

func TestACreateThatIsThrottledUntilItsTimeIsUpHasMadeNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 429, Code: "24", Times: 3})
		ctx, cancel := context.WithCancel(t.Context())
		w.cloud.OnAnswer(func(cloudsim.Call) { time.AfterFunc(time.Nanosecond, cancel) })
		_, err := w.client.CreateKey(ctx, provider.KeySpec{})
		mustBeKind(t, err, provider.KindUnreachable)
	})
}
