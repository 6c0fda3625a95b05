// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/outscale"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const (
	eimAccount  = "123456789012"
	eimDocument = `{"Statement":[{"Effect":"Allow","Action":["api:Read*"],"Resource":["*"]}]}`
)

// eim is an account with policies and groups, and a client on it; the API's own
// description judges all that passes between.
type eim struct {
	sim     *cloudsim.Cloud
	account *cloudsim.Account
	client  *outscale.Client
	label   keylabel.Label
	rights  provider.Rights
}

func newEIM(t *testing.T) *eim {
	t.Helper()
	e := &eim{sim: cloudsim.New(), label: keylabel.New(keylabel.NewID(), keylabel.KindUser)}
	e.account = e.sim.AddAccount(eimAccount)
	e.account.AddGroup("/", "readers")
	e.account.AddGroup("/ci/", "builders")
	e.rights = provider.Rights{
		PolicyORNs: []string{e.account.AddPolicy("one", "api:Read*"), e.account.AddPolicy("two"), e.account.AddPolicy("three")},
		Document:   eimDocument,
		Groups:     []string{"readers", "/ci/builders"},
	}
	e.client = e.as(t, e.account.RootKey())
	return e
}

func (e *eim) as(t *testing.T, key cloudsim.Credentials) *outscale.Client {
	t.Helper()
	client, err := outscale.New(outscale.Config{
		AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "eu-west-2", UserAgent: "test",
		Timeout: 15 * time.Second, PerSecond: 1e6, Base: contract.New(t).Wrap(e.sim.Transport()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// user makes a user with all its rights and a key.
func (e *eim) user(t *testing.T) provider.User {
	t.Helper()
	user, err := e.client.CreateUser(t.Context(), provider.UserSpec{Name: "job", Path: "/team/", Label: e.label.String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.client.GrantUser(t.Context(), user, e.rights); err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.CreateKey(t.Context(), provider.KeySpec{User: "job", Label: e.label.String(), Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	return user
}

func (e *eim) ref(user provider.User) provider.UserRef {
	return provider.UserRef{AccountID: eimAccount, ID: user.ID, Name: user.Name, Label: e.label.String()}
}

// hidesUsers has the list of users lack them all.
func (e *eim) hidesUsers() (cancel func()) {
	return e.sim.Order(cloudsim.Fault{
		Op: "ReadUsers", Kind: cloudsim.RubbishAnswer, Body: `{"Users":[],"HasMoreItems":false,"ResponseContext":{}}`,
	})
}

func mustBeOfKind(t *testing.T, err error, kind provider.Kind) {
	t.Helper()
	if err == nil || provider.KindOf(err) != kind {
		t.Errorf("got %v, want an error of kind %q", err, kind)
	}
}

// inEIM runs each test in fake time.
func inEIM(t *testing.T, tests map[string]func(t *testing.T, e *eim)) {
	t.Helper()
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newEIM(t)) })
		})
	}
}

func TestUsersOfALease(t *testing.T) {
	inEIM(t, map[string]func(t *testing.T, e *eim){
		"a user gets its label in its path and all its rights": func(t *testing.T, e *eim) {
			user := e.user(t)
			got, _ := e.account.User("job")
			if got.Path != "/team/"+e.label.Path() || user.Label != e.label.String() || user.ID != got.ID || user.Path != got.Path {
				t.Errorf("got %+v and %+v", user, got)
			}
			slices.Sort(got.Linked)
			slices.Sort(got.Groups)
			if len(got.Linked) != 3 || got.Inline["cloudkeys"] != eimDocument || !slices.Equal(got.Groups, []string{"/ci/builders", "/readers"}) {
				t.Errorf("got %+v", got)
			}
		},
		"the list tells whose users they are": func(t *testing.T, e *eim) {
			e.user(t)
			e.account.AddUser("foreign")
			labels := map[string]string{}
			for user, err := range e.client.ListUsers(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				labels[user.Name] = user.Label
			}
			if len(labels) != 2 || labels["job"] != e.label.String() || labels["foreign"] != "" {
				t.Errorf("got %v", labels)
			}
		},
		"a name that is taken is a conflict": func(t *testing.T, e *eim) {
			e.account.AddUser("job")
			_, err := e.client.CreateUser(t.Context(), provider.UserSpec{Name: "job", Path: "/", Label: e.label.String()})
			if provider.KindOf(err) != provider.KindConflict {
				t.Errorf("got %v", err)
			}
		},
		"a user without a label is not made": func(t *testing.T, e *eim) {
			if _, err := e.client.CreateUser(t.Context(), provider.UserSpec{Name: "job", Path: "/"}); err == nil || len(e.sim.Calls()) != 0 {
				t.Errorf("got %v after %d calls", err, len(e.sim.Calls()))
			}
		},
		"an empty answer is no proof that a right was given": func(t *testing.T, e *eim) {
			user := e.user(t)
			for _, op := range []string{"LinkPolicy", "PutUserPolicy", "AddUserToUserGroup"} {
				cancel := e.sim.Order(cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 200, Body: "{}"})
				if err := e.client.GrantUser(t.Context(), user, e.rights); provider.KindOf(err) != provider.KindAmbiguous {
					t.Errorf("%s: got %v", op, err)
				}
				cancel()
			}
		},
		"an answer without a user is ambiguous": func(t *testing.T, e *eim) {
			e.sim.Order(cloudsim.Fault{Op: "CreateUser", Kind: cloudsim.EmptyAnswer})
			_, err := e.client.CreateUser(t.Context(), provider.UserSpec{Name: "job", Path: "/", Label: e.label.String()})
			if provider.KindOf(err) != provider.KindAmbiguous {
				t.Errorf("got %v", err)
			}
		},
		"rights are given at the same time": func(t *testing.T, e *eim) {
			e.sim.Order(cloudsim.Fault{Kind: cloudsim.DelayAnswer, Delay: 20 * time.Millisecond})
			started := time.Now()
			e.user(t)
			if took := time.Since(started); took != 60*time.Millisecond {
				t.Errorf("user, rights and key took %s", took)
			}
		},
		"users of leases are not asked whose key the engine's own is": func(t *testing.T, e *eim) {
			for i := range 60 {
				label := keylabel.New(e.label.Instance, keylabel.KindUser).String()
				if _, err := e.client.CreateUser(t.Context(), provider.UserSpec{Name: fmt.Sprintf("job-%d", i), Path: "/", Label: label}); err != nil {
					t.Fatal(err)
				}
			}
			e.account.AddUser("vault", "api:*")
			e.sim.ResetCalls()
			who, err := e.as(t, e.account.AddKey(cloudsim.KeySpec{User: "vault"})).WhoAmI(t.Context())
			if err != nil || who.Identity.User != "vault" {
				t.Errorf("got %+v, %v", who.Identity, err)
			}
			if n := len(e.sim.Calls()); n != 4 {
				t.Errorf("%d calls", n)
			}
		},
		"a right that does not exist is named": func(t *testing.T, e *eim) {
			e.rights.Groups = append(e.rights.Groups, "nope")
			user, err := e.client.CreateUser(t.Context(), provider.UserSpec{Name: "job", Path: "/", Label: e.label.String()})
			if err != nil {
				t.Fatal(err)
			}
			err = e.client.GrantUser(t.Context(), user, e.rights)
			if provider.KindOf(err) != provider.KindNotFound || !strings.Contains(err.Error(), "group nope: AddUserToUserGroup") {
				t.Errorf("got %v", err)
			}
		},
	})
}

func TestNamesThatTheCloudWouldRefuse(t *testing.T) {
	for path, good := range map[string]bool{
		"/": true, "/ci/": true, "/ci/team_1/": true, "": false, "ci": false, "/ci": false, "ci/": false, "//": false, "/a-b/": false, "/a b/": false,
		"/" + strings.Repeat("a", 400) + "/": true, "/" + strings.Repeat("a", 500) + "/": false,
	} {
		if err := outscale.CheckUserPath(path); (err == nil) != good {
			t.Errorf("path %q: %v", path, err)
		}
	}
	for orn, good := range map[string]bool{
		"orn:ows:idauth::012345678910:policy/read": true, "orn:ows:iam:x:012345678910:policy/a/b": true,
		"": false, "read": false, "orn:ows:idauth::0123:policy/read": false, "orn:ows:idauth::012345678910:user/x": false, "orn:ows:idauth::012345678910:policy/a b": false,
	} {
		if err := outscale.CheckPolicyORN(orn); (err == nil) != good {
			t.Errorf("ORN %q: %v", orn, err)
		}
	}
	for group, good := range map[string]bool{
		"builders": true, "/builders": true, "/ci/builders": true, "a+b=c,d.e@f_g-h": true,
		"": false, "/ci/": false, "ci/builders": false, "a b": false, strings.Repeat("a", 129): false,
	} {
		if err := outscale.CheckGroup(group); (err == nil) != good {
			t.Errorf("group %q: %v", group, err)
		}
	}
}
