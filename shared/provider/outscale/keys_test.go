// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestAKeyIsMadeListedMovedAndRevoked(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, user := range []string{"", testUser} {
			spec := provider.KeySpec{User: user, Label: "cloudkeys:x", Expires: later(time.Hour)}
			made, err := w.client.CreateKey(t.Context(), spec)
			mustDo(t, err)
			if made.User != user || made.Label != spec.Label || !made.Expires.Equal(spec.Expires) || !made.LiveAt(time.Now()) || made.Created.IsZero() {
				t.Errorf("got %v, want what was asked for: %v", made, spec)
			}
			_, err = w.as(t, cloudsim.Credentials{AccessKey: made.ID, SecretKey: made.Secret.Reveal()}).AccountID(t.Context())
			if user == "" {
				mustDo(t, err) // signs for the root user
			} else {
				mustBeKind(t, err, provider.KindDenied) // signs, for a user that may do nothing
			}

			keys, err := w.client.ListKeys(t.Context(), user)
			mustDo(t, err)
			if last := keys[len(keys)-1]; last != made.Key {
				t.Errorf("the list has %+v, want %+v", last, made.Key)
			}
			ref := provider.KeyRef{AccountID: testAccount, User: user, ID: made.ID, Expires: later(2 * time.Hour)}
			mustDo(t, w.client.MoveExpiry(t.Context(), ref))
			if got := w.mustHave(t, made.ID); !got.Expires.Equal(ref.Expires) || got.Tag != spec.Label {
				t.Errorf("got %+v, want the label kept and the date moved to %s", got, ref.Expires)
			}
			mustDo(t, w.client.RevokeKey(t.Context(), ref))
			w.mustLack(t, made.ID)
		}
		w.updates(t)
	})
}

func TestAKeyWithoutADateNeverExpires(t *testing.T) {
	w := newWorld(t)
	made, err := w.client.CreateKey(t.Context(), provider.KeySpec{})
	mustDo(t, err)
	if !made.Expires.IsZero() || made.Label != "" {
		t.Errorf("got %v", made)
	}
	if body := strings.TrimSpace(string(w.cloud.Calls()[0].Body)); body != "{}" {
		t.Errorf("%s was sent: OUTSCALE refuses empty strings", body)
	}
}

func TestADateIsSentAsTheCloudKeepsIt(t *testing.T) {
	w := newWorld(t)
	at := later(time.Hour).In(time.FixedZone("", 7200))
	_, err := w.client.CreateKey(t.Context(), provider.KeySpec{Expires: at})
	mustDo(t, err)
	want := `{"ExpirationDate":"` + at.UTC().Format("2006-01-02T15:04:05") + `.000Z"}`
	if body := strings.TrimSpace(string(w.cloud.Calls()[0].Body)); body != want {
		t.Errorf("%s was sent, want %s", body, want)
	}
}

func TestTheListHasExpiredAndInactiveKeys(t *testing.T) {
	w := newWorld(t)
	past := later(-time.Hour)
	expired := w.key(cloudsim.KeySpec{User: testUser, Tag: "expired", Created: later(-2 * time.Hour), Expires: past})
	w.key(cloudsim.KeySpec{User: testUser, Tag: "inactive", Inactive: true})
	w.key(cloudsim.KeySpec{Tag: "the root user's"})
	keys, err := w.client.ListKeys(t.Context(), testUser)
	mustDo(t, err)
	if len(keys) != 2 || keys[0].ID != expired.ID || keys[1].Label != "inactive" {
		t.Fatalf("got %+v", keys)
	}
	// OUTSCALE lists an expired key as ACTIVE: its date decides.
	if !keys[0].Active || keys[0].LiveAt(time.Now()) || !keys[0].Expires.Equal(past) || keys[1].Active {
		t.Errorf("got %+v", keys)
	}
}

func TestAnIdentityWithoutKeysHasAnEmptyList(t *testing.T) {
	w := newWorld(t)
	keys, err := w.client.ListKeys(t.Context(), testUser)
	if err != nil || keys == nil || len(keys) != 0 {
		t.Errorf("got %v and error %v", keys, err)
	}
}

func TestAListThatCannotBeReadIsAnErrorAndNotEmpty(t *testing.T) {
	cases := map[string]struct{ body, want string }{
		"no list":            {`{}`, "the answer holds no list"},
		"nothing":            {` `, "could not be read"},
		"null":               {`null`, "the answer holds no list"},
		"a page":             {`<html>`, "could not be read"},
		"a date of creation": {`{"AccessKeys":[{"AccessKeyId":"AK1","CreationDate":"x"}]}`, `access key "AK1": "x" is not a date`},
		"a date of expiry":   {`{"AccessKeys":[{"AccessKeyId":"AK1","ExpirationDate":"x"}]}`, `access key "AK1": "x" is not a date`},
		"a date of change":   {`{"AccessKeys":[{"AccessKeyId":"AK1","LastModificationDate":"x"}]}`, `access key "AK1": "x" is not a date`},
		"a key without id":   {`{"AccessKeys":[{"AccessKeyId":"AK1"},{"State":"ACTIVE"}]}`, "an access key without an id"},
		"null for a key":     {`{"AccessKeys":[null]}`, "an access key without an id"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.Order(cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: test.body})
			keys, err := w.client.ListKeys(t.Context(), "")
			mustBeKind(t, err, provider.KindUnreachable)
			if keys != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v and error %v, want %q", keys, err, test.want)
			}
		})
	}
}

// An answer about another key is no success, whatever its status, and nor is one that says that something else was done.
func TestAnAnswerToAChangeIsHeldAgainstTheRequest(t *testing.T) {
	asked := later(time.Hour)
	answer := func(id, state string, expires time.Time) string {
		date := ""
		if !expires.IsZero() {
			date = `,"ExpirationDate":"` + expires.Format("2006-01-02T15:04:05.000-0700") + `"`
		}
		return `{"AccessKey":{"AccessKeyId":"` + id + `","SecretKey":"secret","State":"` + state + `"` + date + `},"ResponseContext":{"RequestId":"1"}}`
	}
	ref := provider.KeyRef{AccountID: testAccount, User: testUser, ID: "AK1", Expires: asked}
	calls := map[string]func(c *Client) error{
		"CreateKey": func(c *Client) error {
			_, err := c.CreateKey(t.Context(), provider.KeySpec{User: testUser, Expires: asked})
			return err
		},
		"MoveExpiry":    func(c *Client) error { return c.MoveExpiry(t.Context(), ref) },
		"RelabelKey":    func(c *Client) error { return c.RelabelKey(t.Context(), ref) },
		"DeactivateKey": func(c *Client) error { return c.DeactivateKey(t.Context(), ref) },
	}
	const noDate, early, late, minutes, otherKey, otherState = "no date", "a date too early", "a date too late", "a date to the minute", "another key", "ACTIVE"
	bodies := map[string]string{
		noDate: answer("AK1", "ACTIVE", time.Time{}), early: answer("AK1", "ACTIVE", asked.Add(-11*time.Second)),
		late: answer("AK1", "ACTIVE", asked.Add(61*time.Second)), minutes: answer("AK1", "ACTIVE", asked.Add(59*time.Second)),
		otherKey: answer("AK2", "INACTIVE", asked), otherState: answer("AK1", "ACTIVE", asked),
	}
	refused := map[string][]string{
		"CreateKey": {noDate, early, late}, "MoveExpiry": {noDate, early, late, otherKey}, "RelabelKey": {otherKey},
		"DeactivateKey": {noDate, early, late, minutes, otherKey, otherState}, // none of which says INACTIVE
	}
	for name, call := range calls {
		for what, body := range bodies {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWorld(t)
				w.cloud.Order(cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: body})
				err := call(w.client)
				if !slices.Contains(refused[name], what) {
					mustDo(t, err)
					return
				}
				mustBeKind(t, err, provider.KindAmbiguous)
			})
		}
	}
}

func TestMovingAnExpirySendsTheDateAndNoState(t *testing.T) {
	for _, inactive := range []bool{false, true} {
		w := newWorld(t)
		ref := w.key(cloudsim.KeySpec{User: testUser, Tag: "label", Expires: later(time.Hour), Inactive: inactive})
		ref.Expires = later(3 * time.Hour)
		if err := w.client.MoveExpiry(t.Context(), ref); errors.Is(err, provider.ErrSwitchedOff) != inactive || !inactive && err != nil {
			t.Errorf("inactive %t: %v", inactive, err)
		}

		key := w.mustHave(t, ref.ID)
		if (key.State == cloudsim.Inactive) != inactive || !key.Expires.Equal(ref.Expires) || key.Tag != "label" {
			t.Errorf("got %+v, want the date alone changed", key)
		}
		sent := w.updates(t)[0]
		if sent.State != nil || sent.Tag != nil || sent.ClearTag != nil || *sent.UserName != testUser || *sent.AccessKeyId != ref.ID {
			t.Errorf("sent %+v", sent)
		}
	}
}

func TestMovingAnExpiryToNeverIsRefused(t *testing.T) {
	w := newWorld(t)
	ref := w.key(cloudsim.KeySpec{Expires: later(time.Hour)})
	ref.Expires = time.Time{}
	if err := w.client.MoveExpiry(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "live for ever") {
		t.Errorf("got %v", err)
	}
	w.mustHaveSeen(t)
}

func TestMovingAnExpiryThatFails(t *testing.T) {
	cases := map[string]struct {
		prepare func(w *world, ref *provider.KeyRef)
		want    provider.Kind
	}{
		"of a key that is gone": {func(w *world, ref *provider.KeyRef) { w.account.DeleteKey(ref.ID) }, provider.KindNotFound},
		"of a user that is gone": {
			func(w *world, _ *provider.KeyRef) { w.account.DeleteUser(testUser) }, provider.KindNotFound,
		},
		"into the past": {func(_ *world, ref *provider.KeyRef) { ref.Expires = later(-time.Hour) }, provider.KindInvalid},
		"beyond the policy": {func(w *world, _ *provider.KeyRef) {
			w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 60})
		}, provider.KindInvalid},
		"with an empty answer": {func(w *world, _ *provider.KeyRef) {
			w.cloud.Order(cloudsim.Fault{Kind: cloudsim.EmptyAnswer})
		}, provider.KindAmbiguous},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
			test.prepare(w, &ref)
			mustBeKind(t, w.client.MoveExpiry(t.Context(), ref), test.want)
			w.updates(t)
		})
	}
}

func TestAnUpdateKeepsItsDateWhateverTheAPIMakesOfOneWithout(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, cloudsim.WithRules(cloudsim.Rules{KeepDateOnUpdate: keeps}))
			ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
			w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Times: 1})
			if err := w.client.RevokeKey(t.Context(), ref); err == nil {
				t.Fatal("the delete was to fail")
			}
			if key := w.mustHave(t, ref.ID); key.State != cloudsim.Inactive || !key.Expires.Equal(ref.Expires) {
				t.Errorf("got %+v, want it INACTIVE until %s", key, ref.Expires)
			}
			w.updates(t)
		})
	}
}

func TestMovingADateOfAKeyThatIsNotFound(t *testing.T) {
	cases := map[string]struct {
		happen func(w *world, id string)
		want   provider.Kind
	}{
		"is not found where the key is gone":  {func(w *world, id string) { w.account.DeleteKey(id) }, provider.KindNotFound},
		"is not found where its user is gone": {func(w *world, _ string) { w.account.DeleteUser(testUser) }, provider.KindNotFound},
		"is nothing certain where it is still listed": {func(w *world, _ string) {
			w.cloud.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 400, Code: "4000"})
		}, provider.KindUnknown},
		"is nothing certain where all answers say so, as for a dead key of our own": {func(w *world, _ string) {
			w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Code: "4000"})
		}, provider.KindUnknown},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
				test.happen(w, ref.ID)
				ref.Expires = later(2 * time.Hour)
				mustBeKind(t, w.client.MoveExpiry(t.Context(), ref), test.want)
			})
		})
	}
}

func TestRelabelKey(t *testing.T) {
	for name, expires := range map[string]time.Time{
		"a key with a date keeps it": time.Now().Add(time.Hour).UTC().Truncate(time.Second),
		"a key without one has none": {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			made := w.account.AddKey(cloudsim.KeySpec{User: testUser, Tag: "before", Expires: expires})
			for range 2 {
				ref := provider.KeyRef{User: testUser, ID: made.AccessKey, Label: "after", Expires: expires}
				if err := w.client.RelabelKey(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
			}
			if key, _ := w.account.Key(made.AccessKey); key.Tag != "after" || !key.Expires.Equal(expires) || key.State != cloudsim.Active {
				t.Errorf("got %+v", key)
			}
		})
	}
}

func TestAKeyIsTrustedWhereTheCloudSaysSo(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		trusted := w.account.AddKey(cloudsim.KeySpec{User: testUser, Trusted: true, Expires: later(time.Hour)})
		w.account.AddKey(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
		keys, err := w.client.ListKeys(t.Context(), testUser)
		mustDo(t, err)
		for _, key := range keys {
			if key.Trusted != (key.ID == trusted.AccessKey) {
				t.Errorf("got %+v", key)
			}
		}
	})
}
