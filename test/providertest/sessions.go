// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

var sessionTests = map[string]func(test){
	"a temporary key of the caller ends when it was told to": func(t test) {
		sessions, ok := t.Cloud.(provider.Sessions)
		if !ok {
			return
		}
		session, err := sessions.CreateSession(t.Context(), provider.SessionSpec{Lifetime: time.Hour})
		t.do(err)
		if left := time.Until(session.Expires); left > time.Hour || left < time.Hour-time.Second {
			t.Errorf("it ends in %s", left)
		}
		if session.AccessKey == "" || session.Secret == "" || session.Token == "" {
			t.Errorf("got %v", session)
		}
		t.hidden(session, &session)
	},
	"a life that the cloud does not give is refused": func(t test) {
		sessions, ok := t.Cloud.(provider.Sessions)
		if !ok {
			return
		}
		for _, lifetime := range []time.Duration{0, time.Second, 8760 * time.Hour, time.Hour + time.Millisecond} {
			_, err := sessions.CreateSession(t.Context(), provider.SessionSpec{Lifetime: lifetime})
			t.kind(err, provider.KindInvalid)
		}
	},
}
