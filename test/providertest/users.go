// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// lease is a user made for one lease, with rights and a key.
type lease struct {
	user provider.User
	key  provider.IssuedKey
	ref  provider.UserRef
}

const leaseUser = "v-job-1"

func (t test) userSpec() provider.UserSpec {
	return provider.UserSpec{Name: leaseUser, Path: "/", Label: t.label(keylabel.KindUser)}
}

func (t test) lease() lease {
	t.Helper()
	spec := t.userSpec()
	user, err := t.Cloud.CreateUser(t.Context(), spec)
	t.do(err)
	t.do(t.Cloud.GrantUser(t.Context(), user, t.Rights))
	key, err := t.Cloud.CreateKey(t.Context(), provider.KeySpec{User: user.Name, Label: spec.Label, Expires: t.spec("").Expires})
	t.do(err)
	return lease{user, key, provider.UserRef{AccountID: t.ID, ID: user.ID, Name: user.Name, Label: spec.Label}}
}

func (t test) users() map[string]provider.User {
	t.Helper()
	users := map[string]provider.User{}
	for user, err := range t.Cloud.ListUsers(t.Context()) {
		t.do(err)
		users[user.Name] = user
	}
	return users
}

func (t test) userGone(want bool) {
	t.Helper()
	if exists, _ := t.Admin.HasUser(leaseUser); exists == want {
		t.Errorf("the user is gone: %v, want %v", !exists, want)
	}
}

var userTests = map[string]func(test){
	"a user is made with rights and a key, and goes with all of it": func(t test) {
		l := t.lease()
		if exists, rights := t.Admin.HasUser(leaseUser); !exists || rights != len(t.Rights.Groups)+len(t.Rights.PolicyORNs) {
			t.Errorf("it exists: %v, with %d rights", exists, rights)
		}
		if l.user.ID == "" || l.user.Label != l.ref.Label || l.key.User != leaseUser {
			t.Errorf("got %+v and %v", l.user, l.key)
		}
		t.do(t.Cloud.RemoveUser(t.Context(), l.ref))
		t.userGone(true)
		t.exists(l.key.ID, false)
		t.do(t.Cloud.RemoveUser(t.Context(), l.ref))
	},
	"the list says which users the engine has made": func(t test) {
		l := t.lease()
		t.Admin.AddUser("foreign")
		users := t.users()
		if users[leaseUser] != l.user || users["foreign"].Label != "" || users["foreign"].ID == "" || users[t.User].ID == "" {
			t.Errorf("got %+v", users)
		}
		for range t.Cloud.ListUsers(t.Context()) {
			break
		}
	},
	"a user whose id never became known is found by its label": func(t test) {
		l := t.lease()
		settle()
		l.ref.ID = ""
		t.do(t.Cloud.RemoveUser(t.Context(), l.ref))
		t.userGone(true)
	},
	"a name that is taken is a conflict, and its owner stays as it is": func(t test) {
		t.Admin.AddUser(leaseUser)
		_, err := t.Cloud.CreateUser(t.Context(), t.userSpec())
		t.kind(err, provider.KindConflict)
		t.userGone(false)
	},
	"a user without a label is not made": func(t test) {
		if _, err := t.Cloud.CreateUser(t.Context(), provider.UserSpec{Name: leaseUser, Path: "/"}); err == nil {
			t.Error("it was made")
		}
		t.userGone(true)
	},
	"a user is removed only with its label": func(t test) {
		l := t.lease()
		settle()
		for _, label := range []string{"", "by hand", t.label(keylabel.KindUser), t.label(keylabel.KindLease)} {
			ref := l.ref
			ref.Label = label
			if err := t.Cloud.RemoveUser(t.Context(), ref); err == nil {
				t.Errorf("removed with the label %q", label)
			}
		}
		t.userGone(false)
		t.exists(l.key.ID, true)
	},
	"a foreign user that has got the name is not touched": func(t test) {
		l := t.lease()
		settle()
		t.Admin.DeleteUser(leaseUser)
		t.Admin.AddUser(leaseUser)
		id := t.Admin.Key(leaseUser, "by hand")
		for _, known := range []string{l.ref.ID, ""} {
			l.ref.ID = known
			t.do(t.Cloud.RemoveUser(t.Context(), l.ref))
		}
		t.userGone(false)
		t.exists(id, true)
		if keys := t.listed(leaseUser); len(keys) != 1 || keys[0].ID != id {
			t.Errorf("the name leads to the keys %+v, want those of its new owner", keys)
		}
	},
	"a further key of the user goes with it": func(t test) {
		l := t.lease()
		further := t.Admin.Key(leaseUser, "")
		settle()
		t.do(t.Cloud.RemoveUser(t.Context(), l.ref))
		t.exists(further, false)
	},
	"a right that does not exist is named": func(t test) {
		user, err := t.Cloud.CreateUser(t.Context(), t.userSpec())
		t.do(err)
		err = t.Cloud.GrantUser(t.Context(), user, t.Missing)
		t.kind(err, provider.KindNotFound)
		if err == nil || !strings.Contains(err.Error(), t.MissingName) {
			t.Errorf("got %v, want one that names %s", err, t.MissingName)
		}
	},
	"a user whose create was ambiguous is found by its label": func(t test) {
		for _, fault := range lossy {
			t.Admin.Order(CreateUser, fault, 1)
			spec := t.userSpec()
			_, err := t.Cloud.CreateUser(t.Context(), spec)
			t.kind(err, provider.KindAmbiguous)
			if user := t.users()[leaseUser]; user.Label != spec.Label {
				t.Errorf("%s: got %+v", fault, user)
			}
			t.do(t.Cloud.RemoveUser(t.Context(), provider.UserRef{AccountID: t.ID, Name: leaseUser, Label: spec.Label}))
			t.userGone(true)
		}
	},
	"a removal that fails at any step goes on when it is repeated": func(t test) {
		for _, op := range []Op{ListKeys, UpdateKey, DeleteKey, DeleteUser} {
			for _, fault := range []Fault{LostAnswer, Error} {
				l := t.lease()
				settle()
				t.Admin.Order(op, fault, 1)
				if err := t.Cloud.RemoveUser(t.Context(), l.ref); err == nil {
					t.Errorf("%s: %s passed for a success", op, fault)
				}
				t.do(t.Cloud.RemoveUser(t.Context(), l.ref))
				t.userGone(true)
			}
		}
	},
	"another account is not believed that a user is gone": func(t test) {
		l := t.lease()
		settle()
		if err := t.Admin.OtherAccount(t.T).RemoveUser(t.Context(), l.ref); err == nil || provider.KindOf(err) == provider.KindNotFound {
			t.Errorf("got %v", err)
		}
		t.userGone(false)
	},
}
