// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestNewRefusesWhatItCannotUse(t *testing.T) {
	good := Config{AccessKey: "AK", SecretKey: "SK", Region: "eu-west-101"}
	cases := map[string]struct {
		change func(c *Config)
		want   string
	}{
		"no access key":          {func(c *Config) { c.AccessKey = "" }, "access_key"},
		"no secret key":          {func(c *Config) { c.SecretKey = "" }, "secret_key"},
		"no region":              {func(c *Config) { c.Region = "" }, "region"},
		"an account by its name": {func(c *Config) { c.DomainID = "my company" }, "domain_id"},
		"a name in one word":     {func(c *Config) { c.DomainID = "my-company" }, "domain_id"},
		"a bad certificate":      {func(c *Config) { c.TLS = transport.TLS{CACert: "rubbish"} }, "ca_cert"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			config := good
			test.change(&config)
			if _, err := New(config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want one about %s", err, test.want)
			}
		})
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

func TestTheCloudsBounds(t *testing.T) {
	client := newWorld(t).client
	if client.KeyQuota() != 2 || client.ExpiresKeys() {
		t.Errorf("a quota of %d, and keys that expire: %v", client.KeyQuota(), client.ExpiresKeys())
	}
}

func TestAClientIsNeverPrintedWithItsSecrets(t *testing.T) {
	config := Config{AccessKey: "AK", SecretKey: wireSecret, SecurityToken: "TOKENTOKENTOKEN", Region: "eu-west-101", PerSecond: 1}
	client := newClient(t, config)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		for _, value := range []any{client, config, &config} {
			if view := fmt.Sprintf(verb, value); strings.Contains(view, wireSecret) || strings.Contains(view, "TOKENTOKEN") {
				t.Errorf("%s of %T shows a secret", verb, value)
			}
		}
	}
}

func TestTheSameOverHTTP(t *testing.T) {
	w := newWorld(t)
	client := newClient(t, Config{
		AccessKey: w.config.AccessKey, SecretKey: w.config.SecretKey, Region: "eu-west-101", Endpoint: w.cloud.StartHuawei(t),
		UserAgent: "test", Timeout: 5 * time.Second, PerSecond: 1000,
	})
	key, err := client.CreateKey(t.Context(), w.spec())
	mustDo(t, err)
	if _, there := w.domain.Key(key.ID); !there {
		t.Error("the key was not made")
	}
	w.cloud.Order(cloudsim.Fault{Op: opListKeys, Kind: cloudsim.Redirect, Code: "https://login.example/", Times: 1})
	_, err = client.ListKeys(t.Context(), testUser)
	mustBeKind(t, err, provider.KindUnreachable)
	client.Close()
	_, err = client.ListKeys(t.Context(), testUser) // and can be used on
	mustDo(t, err)
}

func TestRetriesAreForCallsThatChangedNothing(t *testing.T) {
	const untilTheEnd = 10 // times or more: as long as the caller waits
	cases := map[string]struct {
		fault cloudsim.Fault
		kind  provider.Kind
		sent  int
		keys  int
	}{
		"throttled by the gateway":    {cloudsim.Fault{Kind: cloudsim.Refuse, Status: 429, Code: "APIGW.0308"}, provider.KindThrottled, untilTheEnd, 0},
		"throttled by IAM":            {cloudsim.Fault{Kind: cloudsim.Refuse, Status: 429, Code: "IAM.0012"}, provider.KindThrottled, untilTheEnd, 0},
		"a gateway that is overtaxed": {cloudsim.Fault{Kind: cloudsim.Refuse, Status: 503}, provider.KindAmbiguous, 1, 0},
		"no connection":               {cloudsim.Fault{Kind: cloudsim.RefuseConnection}, provider.KindUnreachable, untilTheEnd, 0},
		"an answer that takes long":   {cloudsim.Fault{Kind: cloudsim.DelayAnswer, Delay: time.Minute}, provider.KindAmbiguous, 1, 1},
		"a redirect":                  {cloudsim.Fault{Kind: cloudsim.Redirect, Code: "https://login.example/"}, provider.KindUnreachable, 1, 0},
		"another success":             {cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Status: 200, Body: madeKey}, provider.KindAmbiguous, 1, 1},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				test.fault.Op = opCreateKey
				w.cloud.Order(test.fault)
				_, err := w.client.CreateKey(t.Context(), w.spec())
				mustBeKind(t, err, test.kind)
				user, _ := w.domain.User(testUser)
				if sent := w.cloud.CountCalls(opCreateKey); sent != test.sent && (test.sent != untilTheEnd || sent < untilTheEnd) || user.Keys != test.keys {
					t.Errorf("sent %d times, %d keys made", sent, user.Keys)
				}
			})
		})
	}
}

func TestAnEndedContextEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Op: opCreateKey, Kind: cloudsim.DelayAnswer, Delay: 10 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := time.Now()
		_, err := w.client.CreateKey(ctx, w.spec())
		mustBeKind(t, err, provider.KindAmbiguous)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(started))
		}
	})
}
