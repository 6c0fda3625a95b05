// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestWhoAmI(t *testing.T) {
	root := provider.Identity{Kind: provider.IdentityRoot}
	user := provider.Identity{Kind: provider.IdentityUser, User: testUser}
	unknown := provider.Identity{Kind: provider.IdentityUnknown}
	denied := func(op string) *cloudsim.Fault {
		return &cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 403, Code: "IAM.0002"}
	}
	cases := map[string]struct {
		user       string
		hide       bool
		configured string // "own" or an id
		fault      *cloudsim.Fault
		want       provider.Identity
		kind       provider.Kind // of an error
		says       string
	}{
		"the account's owner":                         {want: root},
		"the owner, whose account is configured":      {configured: "own", want: root},
		"a user":                                      {user: testUser, want: user},
		"a user, whose account is configured":         {user: testUser, configured: "own", want: user},
		"a user that may not see itself":              {user: testUser, fault: denied(opShowUser), want: unknown},
		"a user that may see nothing":                 {user: testUser, configured: "own", hide: true, fault: denied(opShowUser), want: unknown},
		"a user whose account is hidden, configured":  {user: testUser, configured: "own", hide: true, want: user},
		"a user whose account is hidden":              {user: testUser, hide: true, kind: provider.KindDenied, says: "set domain_id"},
		"a user that may not ask for its account":     {user: testUser, configured: "own", fault: denied(opListDomains), want: user},
		"another account configured":                  {configured: wireDomain, kind: provider.KindInvalid, says: "domain_id"},
		"an account that cannot be asked for":         {fault: &cloudsim.Fault{Op: opListDomains, Kind: cloudsim.Refuse}, kind: provider.KindUnreachable},
		"a key that cannot be asked for":              {fault: &cloudsim.Fault{Op: opShowKey, Kind: cloudsim.Refuse}, kind: provider.KindUnreachable},
		"a user that cannot be asked for":             {fault: &cloudsim.Fault{Op: opShowUser, Kind: cloudsim.Refuse}, kind: provider.KindUnreachable},
		"an account list that cannot be read":         {fault: &cloudsim.Fault{Op: opListDomains, Kind: cloudsim.RubbishAnswer, Body: "{}"}, kind: provider.KindUnreachable},
		"an account without an id":                    {fault: &cloudsim.Fault{Op: opListDomains, Kind: cloudsim.RubbishAnswer, Body: `{"domains":[{"id":"../x"}]}`}, kind: provider.KindUnreachable},
		"two accounts, of which none is configured":   {fault: &cloudsim.Fault{Op: opListDomains, Kind: cloudsim.RubbishAnswer, Body: `{"domains":[{"id":"a"},{"id":"b"}]}`}, kind: provider.KindDenied, says: "domain_id"},
		"somebody else's key in the place of our own": {fault: &cloudsim.Fault{Op: opShowKey, Kind: cloudsim.RubbishAnswer, Body: `{"credential":{"access":"AK","user_id":"u"}}`}, kind: provider.KindUnreachable},
		"somebody else in our place":                  {fault: &cloudsim.Fault{Op: opShowUser, Kind: cloudsim.RubbishAnswer, Body: `{"user":{"id":"a","name":"b"}}`}, kind: provider.KindUnreachable},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				key := w.domain.RootKey()
				if test.user != "" {
					key = w.domain.AddKey(cloudsim.IAMKeySpec{User: test.user, Description: ours})
				}
				if test.hide {
					w.domain.HideDomain(test.user)
				}
				if test.fault != nil {
					w.cloud.Order(*test.fault)
				}
				client := w.as(t, key, func(c *Config) { c.DomainID = strings.Replace(test.configured, "own", w.domain.ID(), 1) })
				who, err := client.WhoAmI(t.Context())
				if test.kind != "" {
					mustBeKind(t, err, test.kind)
					if !strings.Contains(err.Error(), test.says) {
						t.Errorf("got %v, want %q in it", err, test.says)
					}
					return
				}
				mustDo(t, err)
				switch test.want.Kind {
				case provider.IdentityUser:
					test.want.UserID = w.userID(test.want.User)
				case provider.IdentityRoot:
					test.want.UserID = w.userID("")
				}
				if who.AccountID != w.domain.ID() || who.Identity != test.want || who.Key.ID != key.AccessKey {
					t.Errorf("got %+v", who)
				}
			})
		})
	}
}

func TestTheAccountIsAskedForOnce(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		_, err := w.client.ListKeys(t.Context(), "")
		mustDo(t, err)
	}
	w.mustHaveSeen(t, opListDomains, opListKeys, opListKeys)
	w.config.DomainID = w.domain.ID()
	_, err := newClient(t, w.config).OwnKey(t.Context())
	mustDo(t, err)
	w.mustHaveSeen(t, opShowKey)
}

func TestWhoWaitsForTheAccountWaitsInItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Op: opListDomains, Kind: cloudsim.Delay, Delay: 10 * time.Second, Times: 1})
		go func() { _, _ = w.client.ListKeys(t.Context(), "") }() // asks, and takes long
		<-time.After(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := time.Now()
		_, err := w.client.CreateKey(ctx, w.spec())
		mustBeKind(t, err, provider.KindUnreachable)
		if time.Since(started) != time.Second {
			t.Errorf("it waited %s", time.Since(started))
		}
		<-time.After(time.Minute)
		if n := w.cloud.CountCalls(opListDomains); n != 1 {
			t.Errorf("the account was asked for %d times", n)
		}
	})
}
