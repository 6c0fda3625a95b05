// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// TestAKeyThatHangsKeepsNoOther has the cloud leave calls about some keys unanswered.
func TestAKeyThatHangsKeepsNoOther(t *testing.T) {
	t.Parallel()
	const others = 5
	// overdue are expired keys that Vault has forgotten; the first came due first.
	overdue := func(v *testVault, n int) (ids []string) {
		for range n {
			ids = append(ids, v.lease("app").AccessKey())
			<-time.After(time.Second)
		}
		v.leases = nil
		return ids
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"the keys that came due after it are reaped in the same tick": func(_ *testing.T, v *testVault) {
			hang := v.hangOver()
			v.configure("ttl=10m")
			hang(overdue(v, 1+others)[:1])
			v.advance(10*time.Minute + lifetime.DefaultExpiryGrace + lifetime.ClockMargin + 2*rollbackPeriod)
			v.mustHaveLedger(1)
		},
		"several that hang do not keep one that comes due later": func(t *testing.T, v *testVault) {
			hang := v.hangOver()
			v.configure("ttl=10m")
			stuck := overdue(v, 8)
			hang(stuck)
			v.advance(30 * time.Minute)
			v.lease("app")
			v.leases = nil
			// Three ticks, in each of which two of those that hang may come first.
			v.advance(10*time.Minute + lifetime.DefaultExpiryGrace + lifetime.ClockMargin + 3*rollbackPeriod)
			v.mustHaveLedger(len(stuck))
			for _, id := range stuck {
				entry, err := v.backend.findKey(t.Context(), v.storage, id)
				if err != nil || entry == nil || entry.Problem == "" {
					t.Errorf("%s: %v, %v: nobody is told why it is still there", id, entry, err)
				}
			}
		},
		"where the rest of the tick takes all but a moment, they take turns": func(t *testing.T, v *testVault) {
			hang := v.hangOver()
			v.configure("ttl=10m")
			hang(overdue(v, 1+others)[:1])
			// Left to chance, a comparison comes due meanwhile in one run of ninety: its read takes that moment in each tick.
			later := &reconcileState{Next: time.Now().Add(reconcilePeriod)}
			if err := save(t.Context(), v.storage, reconcilePrefix+"default", later); err != nil {
				t.Fatal(err)
			}
			v.storage.before = func(op, key string) error {
				if op == "get" && strings.HasPrefix(key, ledger.Prefix) {
					<-time.After(tickBudget/2 - time.Second/2)
				}
				return nil
			}
			v.advance(10*time.Minute + lifetime.DefaultExpiryGrace + lifetime.ClockMargin + 2*(2+others)*rollbackPeriod)
			v.storage.before = nil
			v.mustHaveLedger(1)
		},
		"once the cloud answers again it goes, too": func(_ *testing.T, v *testVault) {
			hang := v.hangOver()
			v.configure("ttl=10m")
			hang(overdue(v, 1))
			v.advance(30 * time.Minute)
			v.mustHaveLedger(1)
			hang(nil)
			v.advance(lifetime.LongestPause)
			v.mustHaveLedger(0)
		},
		"unfinished requests whose clean-up hangs keep no other": func(t *testing.T, v *testVault) {
			hang := v.hangOver()
			v.configure("ttl=10m")
			var users, texts []string
			for _, user := range []string{"a", "b", "c", "d", "e", "f"} {
				v.account.AddUser(user)
				v.write("roles/"+user, "user_names="+user)
				users, texts = append(users, user), append(texts, `"UserName":"`+user+`"`)
			}
			hang(texts)
			for _, user := range users {
				if _, err := v.try(logical.ReadOperation, "creds/"+user); err == nil || v.begunOf(user) != 1 {
					t.Fatalf("user %s has %d unfinished requests (%v)", user, v.begunOf(user), err)
				}
			}
			hang(texts[:4])
			for range 8 {
				<-time.After(rollbackPeriod)
				_ = v.tick() // it says what it could not clean up
			}
			for _, user := range users[4:] {
				if v.begunOf(user) != 0 {
					t.Errorf("the request of user %s is still unfinished", user)
				}
			}
			hang(nil)
			v.advance(10 * time.Minute)
			v.mustHaveNothingBegun()
		},
	})
}

// hangingNetwork answers no call of one operation (empty: of any) whose body holds one of some texts.
type hangingNetwork struct {
	next  http.RoundTripper
	op    string
	texts []string
}

// RoundTrip implements http.RoundTripper.
func (n *hangingNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(text)) // the chain has made this request for its own use
	for _, about := range n.texts {
		if strings.HasSuffix(req.URL.Path, n.op) && strings.Contains(string(text), about) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
	}
	return n.next.RoundTrip(req)
}
