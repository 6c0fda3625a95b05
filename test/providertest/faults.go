// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"context"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

var faultTests = map[string]func(test){
	"a create whose answer is lost is ambiguous, sent once, and found by its label": func(t test) {
		for _, fault := range lossy {
			spec := t.spec(t.User)
			before := t.Admin.Calls(CreateKey)
			t.Admin.Order(CreateKey, fault, 1)
			key, err := t.Cloud.CreateKey(t.Context(), spec)
			t.kind(err, provider.KindAmbiguous)
			t.hidden(err, key)
			if key != (provider.IssuedKey{}) || t.Admin.Calls(CreateKey) != before+1 {
				t.Errorf("%s: got %v after %d calls", fault, key, t.Admin.Calls(CreateKey)-before)
			}
			keys := t.listed(t.User)
			found := slices.IndexFunc(keys, func(k provider.Key) bool { return k.Label == spec.Label })
			if found < 0 || len(keys) != 1 {
				t.Fatalf("%s: the list is %+v, want one key with the label %s", fault, keys, spec.Label)
			}
			t.do(t.Cloud.RevokeKey(t.Context(), keys[found].Ref(t.ID)))
			t.exists(keys[found].ID, false)
		}
	},
	"a create whose fate is unknown is ambiguous also where nothing was done": func(t test) {
		for _, fault := range []Fault{LostRequest, Error} {
			t.Admin.Order(CreateKey, fault, 1)
			_, err := t.Cloud.CreateKey(t.Context(), t.spec(t.User))
			t.kind(err, provider.KindAmbiguous)
			if n := t.Admin.KeyCount(t.User); n != 0 {
				t.Errorf("%s: %d keys", fault, n)
			}
		}
	},
	"a revocation that fails at any step goes on when it is repeated": func(t test) {
		for _, op := range []Op{UpdateKey, DeleteKey} {
			for _, fault := range []Fault{LostAnswer, ErrorAfterwards, LostRequest, Error} {
				made := t.key(t.User)
				settle()
				t.Admin.Order(op, fault, 1)
				if err := t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)); err == nil {
					t.Errorf("%s: %s passed for a success", op, fault)
				}
				t.do(t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)))
				t.exists(made.ID, false)
			}
		}
	},
	"a throttled call is repeated": func(t test) {
		t.Admin.Order(CreateKey, Throttled, 2)
		t.key(t.User)
		if n := t.Admin.KeyCount(t.User); n != 1 || t.Admin.Calls(CreateKey) != 3 {
			t.Errorf("%d keys after %d calls", n, t.Admin.Calls(CreateKey))
		}
	},
	"a call throttled for long says so, and has done nothing": func(t test) {
		t.Admin.Order(CreateKey, Throttled, 0)
		_, err := t.Cloud.CreateKey(t.Context(), t.spec(t.User))
		t.kind(err, provider.KindThrottled)
		if n := t.Admin.KeyCount(t.User); n != 0 {
			t.Errorf("%d keys", n)
		}
	},
	"a permission that is missing is named so, and tried once": func(t test) {
		t.Admin.Order(CreateKey, Denied, 0)
		_, err := t.Cloud.CreateKey(t.Context(), t.spec(t.User))
		t.kind(err, provider.KindDenied)
		if n := t.Admin.Calls(CreateKey); n != 1 {
			t.Errorf("%d calls", n)
		}
	},
	"a list that cannot be read is an error, and never empty": func(t test) {
		t.key(t.User)
		for _, fault := range []Fault{TruncatedAnswer, EmptyAnswer, LostAnswer, Error, Denied} {
			t.Admin.Order(ListKeys, fault, 1)
			keys, err := t.Cloud.ListKeys(t.Context(), t.User)
			if err == nil || len(keys) > 0 || provider.KindOf(err) == provider.KindAmbiguous {
				t.Errorf("%s: got %+v and %v", fault, keys, err)
			}
		}
	},
	"an ended context sends nothing": func(t test) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := t.Cloud.CreateKey(ctx, t.spec(t.User))
		t.kind(err, provider.KindUnreachable)
		if n := t.Admin.Calls(AnyCall); n != 0 {
			t.Errorf("%d calls", n)
		}
	},
	"no error shows a secret": func(t test) {
		faults := append([]Fault{LostRequest, Error, Throttled, Denied}, lossy...)
		for _, fault := range faults {
			made := t.key(t.User)
			t.hidden(made, &made)
			settle()
			t.Admin.Order(AnyCall, fault, 5)
			_, err := t.Cloud.CreateKey(t.Context(), t.spec(t.User))
			t.hidden(err)
			t.hidden(t.Cloud.MoveExpiry(t.Context(), made.Ref(t.ID)))
			settle()
			t.do(t.empty(t.User))
		}
	},
}

// empty revokes all keys of a user, and lets the ordered faults run out.
func (t test) empty(user string) (err error) {
	for range 10 {
		keys, listErr := t.Cloud.ListKeys(t.Context(), user)
		err = listErr
		for _, key := range keys {
			if revokeErr := t.Cloud.RevokeKey(t.Context(), key.Ref(t.ID)); revokeErr != nil {
				err = revokeErr
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

var callerTests = map[string]func(test){
	"the root key is the account's": func(t test) {
		who, err := t.Cloud.WhoAmI(t.Context())
		t.do(err)
		if who.AccountID != t.ID || who.Identity.Kind != provider.IdentityRoot || who.Key.ID == "" || who.Key.User != "" || !who.Key.Active {
			t.Errorf("got %+v", who)
		}
		own, err := t.Cloud.OwnKey(t.Context())
		t.do(err)
		if own.ID != who.Key.ID {
			t.Errorf("got %+v, want %+v", own, who.Key)
		}
	},
	"a user's key is that user's": func(t test) {
		t.Admin.MayActAs(t.User)
		made := t.key(t.User)
		who, err := t.Admin.As(t.T, made.ID, made.Secret).WhoAmI(t.Context())
		t.do(err)
		want := provider.Identity{Kind: provider.IdentityUser, User: t.User, UserID: t.Admin.UserID(t.User)}
		if who.AccountID != t.ID || who.Identity != want ||
			who.Key.ID != made.ID || who.Key.Label != made.Label {
			t.Errorf("got %+v", who)
		}
	},
	"a user without rights is denied others' keys": func(t test) {
		made := t.key(t.User)
		_, err := t.Admin.As(t.T, made.ID, made.Secret).ListKeys(t.Context(), t.Other)
		t.kind(err, provider.KindDenied)
	},
	"the access policy can be read": func(t test) {
		policy, err := t.Cloud.AccessPolicy(t.Context())
		t.do(err)
		policy.Rest = "" // as the cloud has it
		if policy != (provider.AccessPolicy{}) {
			t.Errorf("got %+v of an account without one", policy)
		}
	},
	"the label of a root key is kept": func(t test) {
		made, err := t.Cloud.CreateKey(t.Context(), provider.KeySpec{Label: t.label(keylabel.KindRoot)})
		t.do(err)
		if !made.End().IsZero() || t.find("", made.ID).Label != made.Label {
			t.Errorf("got %+v", made)
		}
	},
}
