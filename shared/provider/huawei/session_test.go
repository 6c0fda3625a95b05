// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestATemporaryKeySignsUntilItsEnd(t *testing.T) {
	for name, spec := range map[string]provider.SessionSpec{
		"of the caller itself":             {Lifetime: MinSession},
		"of an agency of the same account": {Agency: "builders", Lifetime: MinSession},
		"of an agency of another account":  {Agency: "guests", AgencyDomain: "other", Name: "job-12345", Lifetime: MinSession},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				other := w.cloud.AddDomain("other")
				w.domain.AddAgency("builders", w.domain, "iam:users:listUsers")
				other.AddAgency("guests", w.domain, "iam:users:listUsers")
				session, err := w.client.CreateSession(t.Context(), spec)
				mustDo(t, err)
				client := w.as(t, cloudsim.Credentials{AccessKey: session.AccessKey, SecretKey: session.Secret.Reveal()}, func(c *Config) {
					c.SecurityToken = session.Token
				})
				for _, err := range client.ListUsers(t.Context()) {
					mustDo(t, err)
				}
				who, err := client.WhoAmI(t.Context())
				mustDo(t, err)
				if who.Identity.Kind != provider.IdentitySession || who.Key.ID != session.AccessKey {
					t.Errorf("got %+v", who)
				}
				own, err := client.OwnKey(t.Context())
				mustDo(t, err)
				if own != who.Key {
					t.Errorf("got %+v, want %+v", own, who.Key)
				}
				<-time.After(time.Until(session.Expires) + time.Second)
				for _, err := range client.ListUsers(t.Context()) {
					mustBeKind(t, err, provider.KindKeyRefused)
				}
			})
		})
	}
}

func TestASessionMayBeAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, kind := range []cloudsim.FaultKind{cloudsim.DropAnswer, cloudsim.RubbishAnswer, cloudsim.EmptyAnswer, cloudsim.RefuseAfter} {
			w.cloud.Order(cloudsim.Fault{Op: opSessionByToken, Kind: kind, Times: 1})
			session, err := w.client.CreateSession(t.Context(), provider.SessionSpec{Lifetime: time.Hour})
			mustBeKind(t, err, provider.KindUnreachable)
			mustHide(t, err, w.cloud.Secrets()...)
			if session != (provider.Session{}) {
				t.Errorf("got %v", session)
			}
		}
		w.cloud.Order(cloudsim.Fault{Op: opSessionByToken, Kind: cloudsim.Refuse, Status: 429, Code: "IAM.0012", Times: 1})
		_, err := w.client.CreateSession(t.Context(), provider.SessionSpec{Lifetime: time.Hour})
		mustDo(t, err)
	})
}

func TestASessionThatCannotBeHadIsNamed(t *testing.T) {
	w := newWorld(t)
	_, err := w.client.CreateSession(t.Context(), provider.SessionSpec{Agency: "nope", Lifetime: time.Hour})
	mustBeKind(t, err, provider.KindNotFound)
	for name, answer := range map[string]string{
		"no token":   strings.Replace(sessionAnswer, `"securitytoken"`, `"other"`, 1),
		"no end":     strings.Replace(sessionAnswer, `"expires_at"`, `"other"`, 1),
		"no secret":  strings.Replace(sessionAnswer, `"secret"`, `"other"`, 1),
		"no id":      strings.Replace(sessionAnswer, `"access"`, `"other"`, 1),
		"cut off":    sessionAnswer[:len(sessionAnswer)/2],
		"a bad date": strings.Replace(sessionAnswer, "2026-04-17T07:55:18.575000Z", "soon", 1),
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, exchange{status: 201, body: answer})
			_, err := client.CreateSession(t.Context(), provider.SessionSpec{Lifetime: time.Hour})
			mustBeKind(t, err, provider.KindUnreachable)
			mustHide(t, err, "w9ePum0qdfac39ErLD0UdjofYkqort6Iw0qhaaaa", "gQpjbi1ub3J0aC0xAAAA")
		})
	}
}

func TestSessionsThatTheCloudWouldRefuse(t *testing.T) {
	cases := map[string]struct {
		lifetime time.Duration
		policy   string
		good     bool
	}{
		"the shortest":        {15 * time.Minute, "", true},
		"the longest":         {24 * time.Hour, `{"Version":"1.1","Statement":[]}`, true},
		"too short":           {15*time.Minute - time.Second, "", false},
		"too long":            {24*time.Hour + time.Second, "", false},
		"a part of a second":  {time.Hour + time.Millisecond, "", false},
		"a policy of rubbish": {time.Hour, `{"Version"`, false},
		"a policy of a list":  {time.Hour, `[]`, false},
		"a policy of null":    {time.Hour, `null`, false},
		"a policy too long":   {time.Hour, `{"x":"` + strings.Repeat("a", 2048) + `"}`, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if err := CheckSession(test.lifetime, test.policy); (err == nil) != test.good {
				t.Errorf("got %v", err)
			}
		})
	}
}
