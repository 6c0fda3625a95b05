// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestLogin(t *testing.T) {
	const login, password = "owner@example.com", "correct horse battery staple"
	signedIn := func(t *testing.T, w *world, password string) *Client {
		t.Helper()
		w.account.SetLogin(login, "correct horse battery staple")
		config := w.config
		config.AccessKey, config.SecretKey = "", ""
		config.Login, config.Password = login, provider.Secret(password)
		return newClient(t, config)
	}
	t.Run("it makes, lists and deletes keys of the root user, and reads the policy", func(t *testing.T) {
		w := newWorld(t)
		c := signedIn(t, w, password)
		key, err := c.CreateKey(t.Context(), provider.KeySpec{Label: "label", Expires: time.Now().Add(time.Hour).Truncate(time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.AccessPolicy(t.Context()); err != nil {
			t.Error(err)
		}
		if keys, err := c.ListKeys(t.Context(), ""); err != nil || len(keys) != 2 {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		if err := c.RevokeKey(t.Context(), key.Ref("")); err != nil {
			t.Error(err)
		}
	})
	t.Run("a wrong password is a refused key, and is not tried again", func(t *testing.T) {
		w := newWorld(t)
		c := signedIn(t, w, "wrong")
		for range 3 {
			if _, err := c.ListKeys(t.Context(), ""); provider.KindOf(err) != provider.KindKeyRefused {
				t.Errorf("got %v", err)
			}
		}
		if calls := w.cloud.Calls(); len(calls) != 1 {
			t.Errorf("%d calls", len(calls))
		}
	})
	t.Run("neither shows in what the cloud says", func(t *testing.T) {
		w := newWorld(t)
		c := signedIn(t, w, password)
		w.cloud.Order(cloudsim.Fault{
			Kind: cloudsim.Refuse, Status: 400,
			Body: `{"Errors":[{"Type":"T","Code":"4001","Details":"` + login + ` with ` + password + `"}]}`,
		})
		_, err := c.ListKeys(t.Context(), "")
		if err == nil || strings.Contains(err.Error(), login) || strings.Contains(err.Error(), password) {
			t.Errorf("got %v", err)
		}
	})
	for name, config := range map[string]Config{
		"both kinds of credentials": {AccessKey: "A", SecretKey: "B", Login: "C", Password: "D", Region: "eu-west-2"},
		"a login without password":  {Login: "C", Region: "eu-west-2"},
		"nothing to sign with":      {Region: "eu-west-2"},
	} {
		t.Run(name+" makes no client", func(t *testing.T) {
			if _, err := New(config); err == nil {
				t.Error("made")
			}
		})
	}
}
