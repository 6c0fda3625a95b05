// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"errors"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

var keyTests = map[string]func(test){
	"a key is made, listed, moved and revoked, for a user and for the caller": func(t test) {
		for _, user := range []string{t.User, ""} {
			spec := t.spec(user)
			made, err := t.Cloud.CreateKey(t.Context(), spec)
			t.do(err)
			if made.ID == "" || made.Secret == "" || made.User != user || made.Label != spec.Label || !made.Active || made.Created.IsZero() {
				t.Errorf("got %v for %+v", made, spec)
			}
			if !made.End().Equal(spec.Expires) || made.Expires.IsZero() == t.Cloud.ExpiresKeys() {
				t.Errorf("the key ends at %s or is due at %s, want %s", made.Expires, made.Due, spec.Expires)
			}
			if keys := t.listed(user); !slices.Contains(keys, made.Key) {
				t.Errorf("the list %+v lacks %+v", keys, made.Key)
			}
			ref := made.Ref(t.ID)
			ref.Expires = later(2 * time.Hour)
			t.do(t.Cloud.MoveExpiry(t.Context(), ref))
			moved := t.find(user, made.ID)
			if !moved.End().Equal(ref.Expires) || moved.Label != spec.Label || !moved.Active {
				t.Errorf("got %+v, want the date alone moved to %s", moved, ref.Expires)
			}
			settle()
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
			t.exists(made.ID, false)
		}
	},
	"a new key signs, and a revoked one no longer": func(t test) {
		t.Admin.MayActAs(t.User)
		made := t.key(t.User)
		own, err := t.Admin.As(t.T, made.ID, made.Secret).OwnKey(t.Context())
		t.do(err)
		if own.ID != made.ID || own.Label != made.Label {
			t.Errorf("it says it is %+v, want %+v", own, made.Key)
		}
		settle()
		t.do(t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)))
		before := t.Admin.Calls(AnyCall)
		_, err = t.Admin.As(t.T, made.ID, made.Secret).OwnKey(t.Context())
		t.kind(err, provider.KindKeyRefused, provider.KindKeyUnclear)
		if sent := t.Admin.Calls(AnyCall) - before; sent > 2 {
			t.Errorf("%d calls were sent with a dead key", sent)
		}
	},
	"a user without keys has an empty list": func(t test) {
		if keys := t.listed(t.User); keys == nil || len(keys) != 0 {
			t.Errorf("got %+v", keys)
		}
	},
	"a user that does not exist is not found": func(t test) {
		_, err := t.Cloud.ListKeys(t.Context(), "nobody")
		t.kind(err, provider.KindNotFound)
		_, err = t.Cloud.CreateKey(t.Context(), t.spec("nobody"))
		t.kind(err, provider.KindNotFound)
	},
	"keys of others are listed as they are, each under its own user": func(t test) {
		foreign := t.Admin.Key(t.User, "by hand")
		t.Admin.Key(t.Other, "elsewhere")
		keys := t.listed(t.User)
		if len(keys) != 1 || keys[0].ID != foreign || keys[0].Label != "by hand" || keys[0].User != t.User || !keys[0].End().IsZero() {
			t.Errorf("got %+v", keys)
		}
	},
	"at the quota there are no more keys, and there is room after a revocation": func(t test) {
		var last provider.IssuedKey
		for range t.Cloud.KeyQuota() {
			last = t.key(t.User)
		}
		_, err := t.Cloud.CreateKey(t.Context(), t.spec(t.User))
		t.kind(err, provider.KindQuota)
		settle()
		t.do(t.Cloud.RevokeKey(t.Context(), last.Ref(t.ID)))
		t.key(t.User)
	},
	"moving a date wakes no key that is switched off": func(t test) {
		made := t.key(t.User)
		stages, ok := t.Cloud.(provider.Stages)
		if !ok {
			return
		}
		t.do(stages.DeactivateKey(t.Context(), made.Ref(t.ID)))
		ref := made.Ref(t.ID)
		ref.Expires = later(2 * time.Hour)
		if err := t.Cloud.MoveExpiry(t.Context(), ref); !errors.Is(err, provider.ErrSwitchedOff) {
			t.Errorf("got %v, want %v", err, provider.ErrSwitchedOff)
		}
		if moved := t.find(t.User, made.ID); moved.Active || !moved.End().Equal(ref.Expires) {
			t.Errorf("got %+v", moved)
		}
	},
	"moving the date of a key that is gone is not found": func(t test) {
		made := t.key(t.User)
		settle()
		t.do(t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)))
		t.kind(t.Cloud.MoveExpiry(t.Context(), made.Ref(t.ID)), provider.KindNotFound)
	},
	"no date is no reason to move one": func(t test) {
		ref := t.key(t.User).Ref(t.ID)
		ref.Expires = time.Time{}
		if err := t.Cloud.MoveExpiry(t.Context(), ref); err == nil {
			t.Error("the key was made to live for ever")
		}
	},
}

var revocationTests = map[string]func(test){
	"revoking twice is a success, also at once": func(t test) {
		ref := t.key(t.User).Ref(t.ID)
		for range 2 {
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
		}
	},
	"a key that went with its user is a success": func(t test) {
		ref := t.key(t.User).Ref(t.ID)
		settle()
		t.Admin.DeleteUser(t.User)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
	},
	"a key switched off already is removed": func(t test) {
		made := t.key(t.User)
		if stages, ok := t.Cloud.(provider.Stages); ok {
			t.do(stages.DeactivateKey(t.Context(), made.Ref(t.ID)))
		}
		settle()
		t.do(t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)))
		t.exists(made.ID, false)
	},
	"no other key is touched": func(t test) {
		foreign := []string{t.Admin.Key(t.User, "by hand"), t.Admin.Key(t.Other, "")}
		made := t.key(t.User)
		settle()
		t.do(t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)))
		for _, id := range foreign {
			if exists, active := t.Admin.HasKey(id); !exists || !active {
				t.Errorf("access key %s was touched", id)
			}
		}
	},
	"another account is not believed that a key is gone": func(t test) {
		made := t.key(t.User)
		settle()
		err := t.Admin.OtherAccount(t.T).RevokeKey(t.Context(), made.Ref(t.ID))
		if err == nil || provider.KindOf(err) == provider.KindNotFound {
			t.Errorf("got %v", err)
		}
		t.exists(made.ID, true)
	},
	"a dead signing key is not believed that a key is gone": func(t test) {
		t.Admin.MayActAs(t.Other)
		signer, made := t.key(t.Other), t.key(t.User)
		settle()
		client := t.Admin.As(t.T, signer.ID, signer.Secret)
		t.do(t.Cloud.RevokeKey(t.Context(), signer.Ref(t.ID)))
		if err := client.RevokeKey(t.Context(), made.Ref(t.ID)); err == nil || provider.KindOf(err) == provider.KindNotFound {
			t.Errorf("got %v", err)
		}
		t.exists(made.ID, true)
	},
}

var stageTests = map[string]func(test){
	"a key is switched off and then removed, each step twice": func(t test) {
		stages, ok := t.Cloud.(provider.Stages)
		if !ok {
			return
		}
		made := t.key(t.User)
		settle()
		for range 2 {
			t.do(stages.DeactivateKey(t.Context(), made.Ref(t.ID)))
			if exists, active := t.Admin.HasKey(made.ID); !exists || active {
				t.Errorf("it exists: %v, and signs: %v", exists, active)
			}
		}
		if off := t.find(t.User, made.ID); off.Active || off.Label != made.Label || !off.End().Equal(made.End()) {
			t.Errorf("got %+v, want label and date kept: %+v", off, made.Key)
		}
		for range 2 {
			t.do(stages.DeleteKey(t.Context(), made.Ref(t.ID)))
			t.exists(made.ID, false)
		}
		t.do(stages.DeactivateKey(t.Context(), made.Ref(t.ID)))
	},
	"a key of somebody else's keeps its text when it is switched off": func(t test) {
		stages, ok := t.Cloud.(provider.Stages)
		if !ok {
			return
		}
		id := t.Admin.Key(t.User, "by hand")
		t.do(stages.DeactivateKey(t.Context(), t.find(t.User, id).Ref(t.ID)))
		if off := t.find(t.User, id); off.Active || off.Label != "by hand" {
			t.Errorf("got %+v", off)
		}
	},
}

func (t test) find(user, id string) provider.Key {
	t.Helper()
	for _, key := range t.listed(user) {
		if key.ID == id {
			return key
		}
	}
	t.Fatalf("access key %s is not listed", id)
	return provider.Key{}
}
