// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// manyUsers are more than stand on one page.
const manyUsers = 120

// goneTests hold the proof that a key is gone against those who rename users.
var goneTests = map[string]func(test){
	"a key whose user was renamed is found, prolonged and revoked": func(t test) {
		t.eachKnowledge(func(made provider.IssuedKey, ref provider.KeyRef) {
			t.Admin.RenameUser(t.User, "renamed")
			defer t.Admin.RenameUser("renamed", t.User)
			t.mustFind(ref, made.ID)
			ref.Expires = later(2 * time.Hour)
			t.do(t.Cloud.MoveExpiry(t.Context(), ref))
			if moved := t.find("renamed", made.ID); !moved.End().Equal(ref.Expires) || !moved.Active {
				t.Errorf("got %+v", moved)
			}
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
			t.exists(made.ID, false)
			t.mustBeGone(ref)
		})
	},
	"a key whose user's name has gone to another is revoked, and the other's keys are not": func(t test) {
		t.eachKnowledge(func(made provider.IssuedKey, ref provider.KeyRef) {
			t.Admin.RenameUser(t.User, "renamed")
			t.Admin.AddUser(t.User)
			others := t.Admin.Key(t.User, made.Label+"x")
			t.mustFind(ref, made.ID)
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
			t.exists(made.ID, false)
			t.exists(others, true)
			t.mustBeGone(ref)
			t.Admin.DeleteUser("renamed")
		})
	},
	"a name that had gone to another before the issue leads to that user's key": func(t test) {
		former := t.Admin.UserID(t.User)
		t.Admin.RenameUser(t.User, "renamed")
		t.Admin.AddUser(t.User)
		made := t.key(t.User)
		settle()
		ref := made.Ref(t.ID)
		if !ref.UserIDCertain {
			ref.UserID = former // as the last list of users had it
		}
		t.Admin.RenameUser(t.User, "again")
		t.mustFind(ref, made.ID)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.exists(made.ID, false)
	},
	"a search that goes on after users have swapped their names takes no look for another's": func(t test) {
		made, ref := t.unknown()
		for _, name := range []string{"a", "b", "c"} {
			t.Admin.AddUser(name)
		}
		t.Admin.DeleteUser(t.Other)
		t.Admin.RenameUser(t.User, "z") // nobody has the name that the record knows
		for swapped := range 4 {
			name := []string{"a", "b", "c", "z"}[swapped]
			t.interrupt(ref, 2+swapped)
			t.Admin.RenameUser(name, "held")
			t.Admin.RenameUser(t.nameOf(made.ID), name)
			t.Admin.RenameUser("held", fmt.Sprintf("was-%d", swapped))
		}
		t.mustFind(ref, made.ID)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.exists(made.ID, false)
	},
	"a user that a shifting page hides is found by the next list": func(t test) {
		for i := range manyUsers {
			t.Admin.AddUser(fmt.Sprintf("user-%03d", i))
		}
		_, ref := t.unknown()
		hidden := fmt.Sprintf("user-%03d", 100-2) // the first of the second page, behind the two users of the account
		id := t.Admin.Key(hidden, ref.Label)
		t.Admin.DeleteUser(t.User)
		t.Admin.AddUser(t.User)
		ref.ID = id
		pages := 0
		t.Admin.OnCall(ListUsers, func() {
			if pages++; pages%2 == 0 && pages < 6 {
				t.Admin.DeleteUser(fmt.Sprintf("user-%03d", pages))
			}
		})
		t.mustFind(ref, id)
	},
	"a key is proven gone, whatever is known of its user": func(t test) {
		t.eachKnowledge(func(made provider.IssuedKey, ref provider.KeyRef) {
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
			t.mustBeGone(ref)
			t.kind(t.Cloud.MoveExpiry(t.Context(), ref), provider.KindNotFound)
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
		})
	},
	"a key whose user was never known is found among all, whatever they are called, and proven gone": func(t test) {
		made, ref := t.unknown()
		anybodys := ref
		anybodys.User, anybodys.AnyUser = "", true
		renamed := false
		t.Admin.OnCall(ListKeys, func() {
			if !renamed {
				renamed = true
				t.Admin.RenameUser(t.User, "renamed")
			}
		})
		t.mustFind(anybodys, made.ID)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.mustBeGone(anybodys)
	},
	"a key that was made seconds ago is not gone because no list shows it yet": func(t test) {
		t.eachMadeNow(func(made provider.IssuedKey, ref provider.KeyRef, client provider.Cloud) {
			t.Admin.RenameUser(t.User, "renamed")
			defer t.Admin.RenameUser("renamed", t.User)
			t.kind(client.RevokeKey(t.Context(), ref), provider.KindUnknown)
			if _, found, err := client.FindKey(t.Context(), ref); err == nil && !found {
				t.Error("its absence counts as proven")
			}
			if err := client.MoveExpiry(t.Context(), ref); provider.KindOf(err) == provider.KindNotFound {
				t.Error(err)
			}
			settle()
			t.do(client.RevokeKey(t.Context(), ref))
			t.exists(made.ID, false)
			t.mustBeGone(ref)
		})
	},
	"a key that somebody deleted seconds after it was made is gone half a minute later": func(t test) {
		t.eachMadeNow(func(made provider.IssuedKey, ref provider.KeyRef, client provider.Cloud) {
			t.Admin.DeleteKey(made.ID)
			t.kind(client.RevokeKey(t.Context(), ref), provider.KindUnknown)
			<-time.After(provider.Settling)
			t.do(client.RevokeKey(t.Context(), ref))
			t.mustBeGone(ref)
		})
	},
	"a key that was revoked seconds after it was made is gone at once": func(t test) {
		made := t.key(t.User)
		ref := made.Ref(t.ID)
		ref.Made = time.Now()
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.mustBeGone(ref)
		t.key(t.Other)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
	},
	"a clock that was ahead when a key was made keeps no key from being gone": func(t test) {
		made := t.key(t.User)
		settle()
		ref := made.Ref(t.ID)
		ref.Made = time.Now().Add(time.Hour)
		t.Admin.DeleteKey(made.ID)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
	},
	"a key went with its user, also where the name is another's by now": func(t test) {
		t.eachKnowledge(func(_ provider.IssuedKey, ref provider.KeyRef) {
			t.Admin.DeleteUser(t.User)
			t.mustBeGone(ref)
			t.Admin.AddUser(t.User)
			t.mustBeGone(ref)
			t.do(t.Cloud.RevokeKey(t.Context(), ref))
		})
	},
	"without the right to list users nothing is proven of a user that is not there": func(t test) {
		t.eachKnowledge(func(made provider.IssuedKey, ref provider.KeyRef) {
			t.Admin.RenameUser(t.User, "renamed")
			t.Admin.DeleteUser("renamed")
			defer t.Admin.AddUser(t.User)
			t.Admin.Order(ListUsers, Denied, 1)
			err := t.Cloud.RevokeKey(t.Context(), ref)
			t.kind(err, provider.KindDenied)
			var unproven *provider.UnprovenError
			if !errors.As(err, &unproven) {
				t.Errorf("got %v", err)
			}
			t.mustBeGone(ref)
		})
	},
	"a search goes on from where it stopped, and looks at no user twice": func(t test) {
		for i := range manyUsers {
			t.Admin.AddUser(fmt.Sprintf("user-%03d", i))
		}
		made, ref := t.unknown()
		t.do(t.Cloud.RevokeKey(t.Context(), made.Ref(t.ID)))
		before, tries := t.Admin.Calls(ListKeys), 0
		for ; tries < 20; tries++ {
			ctx, cancel := context.WithCancel(t.Context())
			looks := 0
			t.Admin.OnCall(ListKeys, func() {
				if looks++; looks > 20 {
					cancel()
				}
			})
			_, found, err := t.Cloud.FindKey(ctx, ref)
			cancel()
			if err == nil && !found {
				break
			}
			var unproven *provider.UnprovenError
			if !errors.As(err, &unproven) || !unproven.Further || unproven.Users < manyUsers || unproven.Looked < 10 {
				t.Fatalf("got %v, %v", found, err)
			}
		}
		if calls := t.Admin.Calls(ListKeys) - before; tries < 3 || tries == 20 || calls > manyUsers+3*tries+5 {
			t.Errorf("%d tries took %d calls", tries, calls)
		}
	},
	"a user over which the cloud fails goes behind the others": func(t test) {
		made, ref := t.unknown()
		users := []string{"a", "b", "c", "d"}
		for _, name := range users {
			t.Admin.AddUser(name)
		}
		t.Admin.RenameUser(t.User, "renamed")
		for range len(users) + 5 { // each try fails over the second or third user that it looks at
			calls := 0
			t.Admin.OnCall(ListKeys, func() {
				if calls++; calls == 3 {
					t.Admin.Order(ListKeys, Denied, 1)
				}
			})
			if key, found, err := t.Cloud.FindKey(t.Context(), ref); err == nil && found && key.ID == made.ID {
				return
			} else if err == nil {
				t.Fatalf("got %+v, %v of a key that exists", key, found)
			}
		}
		t.Error("the search came no further")
	},
	"a key whose create was not answered is found by its label under its user's new name": func(t test) {
		spec := t.spec(t.User)
		t.Admin.Order(CreateKey, LostAnswer, 1)
		_, err := t.Cloud.CreateKey(t.Context(), spec)
		t.kind(err, provider.KindAmbiguous)
		settle()
		t.Admin.RenameUser(t.User, "renamed")
		t.Admin.AddUser(t.User)
		ref := provider.KeyRef{AccountID: t.ID, User: t.User, Label: spec.Label, Expires: spec.Expires}
		key, found, err := t.Cloud.FindKey(t.Context(), ref)
		t.do(err)
		if !found || key.Label != spec.Label {
			t.Fatalf("got %+v, %v", key, found)
		}
		t.do(t.Cloud.RevokeKey(t.Context(), key.Ref(t.ID)))
		t.mustBeGone(ref)
	},
	"a key of which neither id nor label is known is never gone": func(t test) {
		_, found, err := t.Cloud.FindKey(t.Context(), provider.KeyRef{AccountID: t.ID, User: t.User})
		if found || err == nil {
			t.Errorf("got %v, %v", found, err)
		}
	},
	"a key is not gone where the key that signs goes in the middle of the proof": func(t test) {
		t.Admin.MayActAs(t.Other)
		signer := t.key(t.Other)
		settle()
		t.eachKnowledge(func(made provider.IssuedKey, ref provider.KeyRef) {
			for op, calls := range map[Op]int{ListUsers: 1, ListKeys: 1} {
				client := t.Admin.As(t.T, signer.ID, signer.Secret)
				t.Admin.RenameUser(t.User, "renamed")
				seen := 0
				t.Admin.OnCall(op, func() {
					if seen++; seen == calls {
						t.Admin.DeleteKey(signer.ID)
					}
				})
				if key, found, err := client.FindKey(t.Context(), ref); err == nil && !found {
					t.Errorf("access key %s passes for gone: %+v", made.ID, key)
				}
				t.Admin.OnCall(op, nil)
				t.Admin.RenameUser("renamed", t.User)
				settle()
				signer = t.key(t.Other)
				settle()
			}
			t.Admin.DeleteKey(made.ID)
		})
	},
	"the caller's own key is found and proven gone by its own list": func(t test) {
		made := t.key("")
		settle()
		ref := made.Ref(t.ID)
		t.mustFind(ref, made.ID)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.mustBeGone(ref)
	},
	"a key of the calling identity is found where another signs by now": func(t test) {
		t.Admin.MayActAs(t.User)
		own := t.key(t.User)
		settle()
		made, err := t.Admin.As(t.T, own.ID, own.Secret).CreateKey(t.Context(), t.spec(""))
		t.do(err)
		settle()
		ref := made.Ref(t.ID)
		ref.User, ref.UserID, ref.UserIDCertain = "", t.Admin.UserID(t.User), true
		t.mustFind(ref, made.ID)
		t.do(t.Cloud.RevokeKey(t.Context(), ref))
		t.exists(made.ID, false)
		t.mustBeGone(ref)
	},
}

// eachKnowledge does something with a key of the account's user, once for each degree to which
// the owner can be known: surely, by a hint, by its name alone, and by a hint that is wrong.
func (t test) eachKnowledge(do func(provider.IssuedKey, provider.KeyRef)) {
	t.Helper()
	for _, known := range []string{"surely", "hint", "name", "wrong"} {
		if !t.hasUser() {
			t.Admin.AddUser(t.User)
		}
		made := t.key(t.User)
		settle()
		ref := made.Ref(t.ID)
		ref.UserID, ref.UserIDCertain = t.Admin.UserID(t.User), known == "surely"
		switch known {
		case "name":
			ref.UserID = ""
		case "wrong":
			ref.UserID = t.Admin.UserID(t.Other)
		}
		t.Logf("the owner is known: %s", known)
		do(made, ref)
	}
}

// eachMadeNow does something with a key that no list shows for some seconds: with the client that has made it, and with one that
// knows of it what its record says. What is known of its user is a hint, a name, or certain.
func (t test) eachMadeNow(do func(made provider.IssuedKey, ref provider.KeyRef, client provider.Cloud)) {
	t.Helper()
	t.Admin.MayActAs(t.Other)
	signer := t.key(t.Other)
	settle()
	for _, known := range []string{"hint", "name", "surely"} {
		for _, client := range []provider.Cloud{t.Cloud, t.Admin.As(t.T, signer.ID, signer.Secret)} {
			t.Admin.HideNewKeys(20 * time.Second)
			made := t.key(t.User)
			t.Admin.HideNewKeys(0)
			ref := made.Ref(t.ID)
			ref.UserID, ref.UserIDCertain = t.Admin.UserID(t.User), known == "surely"
			if known == "name" {
				ref.UserID = ""
			}
			if client != t.Cloud {
				ref.Made = time.Now()
			}
			t.Logf("the owner is known: %s", known)
			do(made, ref, client)
		}
	}
}

func (t test) hasUser() bool {
	exists, _ := t.Admin.HasUser(t.User)
	return exists
}

// unknown makes a key of whose user the name alone is known.
func (t test) unknown() (provider.IssuedKey, provider.KeyRef) {
	t.Helper()
	made := t.key(t.User)
	settle()
	ref := made.Ref(t.ID)
	ref.UserID, ref.UserIDCertain = "", false
	return made, ref
}

// interrupt has a search stop before the call that lists the keys of one user.
func (t test) interrupt(ref provider.KeyRef, at int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	t.Admin.OnCall(ListKeys, func() {
		if calls++; calls >= at {
			cancel()
		}
	})
	defer t.Admin.OnCall(ListKeys, nil)
	if key, found, err := t.Cloud.FindKey(ctx, ref); err == nil && !found {
		t.Fatalf("access key %s passes for gone: %+v", ref.ID, key)
	}
}

// nameOf is the name of the user whose key it is.
func (t test) nameOf(id string) string {
	t.Helper()
	for user, err := range t.Cloud.ListUsers(t.Context()) {
		t.do(err)
		for _, key := range t.listed(user.Name) {
			if key.ID == id {
				return user.Name
			}
		}
	}
	t.Fatalf("nobody has access key %s", id)
	return ""
}

func (t test) mustFind(ref provider.KeyRef, id string) {
	t.Helper()
	key, found, err := t.Cloud.FindKey(t.Context(), ref)
	t.do(err)
	if !found || key.ID != id {
		t.Fatalf("got %+v, %v, want access key %s", key, found, id)
	}
}

func (t test) mustBeGone(ref provider.KeyRef) {
	t.Helper()
	key, found, err := t.Cloud.FindKey(t.Context(), ref)
	t.do(err)
	if found {
		t.Fatalf("got %+v of a key that is gone", key)
	}
}
