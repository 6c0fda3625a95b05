// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestRemoveUser(t *testing.T) {
	mustBeGone := func(t *testing.T, e *eim) {
		t.Helper()
		if _, there := e.account.User("job"); there {
			t.Error("the user is still there")
		}
		if keys := e.account.Keys(); len(keys) != 1 {
			t.Errorf("%d keys, want the root key alone", len(keys))
		}
	}
	tests := map[string]func(t *testing.T, e *eim){
		"a user goes with all that hangs on it, the key dying first": func(t *testing.T, e *eim) {
			user := e.user(t)
			e.account.AddKey(cloudsim.KeySpec{User: "job"}) // made by the leased key itself
			e.sim.ResetCalls()
			if err := e.client.RemoveUser(t.Context(), e.ref(user)); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, e)
			var changes []string
			for _, call := range e.sim.Calls() {
				if !strings.HasPrefix(call.Op, "Read") {
					changes = append(changes, call.Op)
				}
			}
			if len(changes) != 11 || changes[0] != "UpdateAccessKey" || changes[len(changes)-1] != "DeleteUser" {
				t.Errorf("calls: %v", changes)
			}
			if slices.Index(changes, "UnlinkPolicy") < slices.Index(changes, "DeleteAccessKey") {
				t.Errorf("rights before keys: %v", changes)
			}
		},
		"so it does where its id never became known": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			ref.ID = ""
			if err := e.client.RemoveUser(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, e)
		},
		"removing twice is a success": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			for range 2 {
				if err := e.client.RemoveUser(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
			}
		},
		"a foreign user of the same name is not touched": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			<-time.After(provider.Settling)
			e.account.DeleteUser("job")
			e.account.AddUser("job")
			for _, id := range []string{ref.ID, ""} {
				ref.ID = id
				if err := e.client.RemoveUser(t.Context(), ref); err != nil {
					t.Error(err)
				}
			}
			if _, there := e.account.User("job"); !there {
				t.Error("somebody else's user was deleted")
			}
		},
		"one that was made seconds ago is not gone because no list shows it yet": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			byLabel := ref
			byLabel.ID, byLabel.Made = "", time.Now()
			heard := ref
			heard.Made = time.Now()
			cancel := e.hidesUsers()
			mustBeOfKind(t, e.client.RemoveUser(t.Context(), ref), provider.KindUnknown)
			for _, known := range []provider.UserRef{heard, byLabel} {
				mustBeOfKind(t, e.as(t, e.account.RootKey()).RemoveUser(t.Context(), known), provider.KindUnknown)
			}
			cancel()
			if err := e.client.RemoveUser(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, e)
		},
		"nor one whose create was not answered": func(t *testing.T, e *eim) {
			e.sim.Order(cloudsim.Fault{Op: "CreateUser", Kind: cloudsim.DropAnswer, Times: 1})
			spec := provider.UserSpec{Name: "job", Path: "/", Label: e.label.String()}
			_, err := e.client.CreateUser(t.Context(), spec)
			mustBeOfKind(t, err, provider.KindAmbiguous)
			ref := provider.UserRef{AccountID: eimAccount, Name: "job", Label: spec.Label}
			cancel := e.hidesUsers()
			mustBeOfKind(t, e.client.RemoveUser(t.Context(), ref), provider.KindUnknown)
			cancel()
			if err := e.client.RemoveUser(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, e)
		},
		"a user with another label is not touched": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			for _, label := range []string{"", "Group1", keylabel.New(e.label.Instance, keylabel.KindLease).String(), keylabel.New(e.label.Instance, keylabel.KindUser).String()} {
				ref.Label = label
				if err := e.client.RemoveUser(t.Context(), ref); err == nil {
					t.Errorf("removed with the label %q", label)
				}
			}
			if user, there := e.account.User("job"); !there || user.Keys != 1 || len(user.Linked) != 3 {
				t.Errorf("got %+v", user)
			}
		},
		"absence is not believed of another account": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			other := e.as(t, e.sim.AddAccount("210987654321").RootKey())
			if err := other.RemoveUser(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "210987654321") {
				t.Errorf("got %v", err)
			}
		},
		"with the signing key dead nothing is a success": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			e.account.DeleteKey(e.account.RootKey().AccessKey)
			if err := e.client.RemoveUser(t.Context(), ref); err == nil {
				t.Error("removed")
			}
		},
		"4000 is no proof that a user is gone: it is said of everything once the signing key is": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			<-time.After(provider.Settling)
			for _, id := range []string{ref.ID, ""} {
				ref.ID = id
				e.sim.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 400, Code: "4000", Times: 1})
				mustBeOfKind(t, e.client.RemoveUser(t.Context(), ref), provider.KindUnknown)
			}
			if user, there := e.account.User("job"); !there || user.Keys != 1 {
				t.Errorf("got %+v", user)
			}
		},
		"5075 is one": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			<-time.After(provider.Settling)
			e.account.DeleteUser("job")
			e.sim.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 400, Code: "5075"})
			if err := e.client.RemoveUser(t.Context(), ref); err != nil {
				t.Error(err)
			}
		},
		"an empty answer is no proof that the user is gone": func(t *testing.T, e *eim) {
			ref := e.ref(e.user(t))
			for _, body := range []string{" ", "{}"} { // no body at all would mean the API's own
				cancel := e.sim.Order(cloudsim.Fault{Op: "DeleteUser", Kind: cloudsim.Refuse, Status: 200, Body: body})
				if err := e.client.RemoveUser(t.Context(), ref); err == nil {
					t.Errorf("removed with %q", body)
				}
				cancel()
			}
			if err := e.client.RemoveUser(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, e)
		},
		"more policies than fit on a page are all unlinked": func(t *testing.T, e *eim) {
			for i := range 120 {
				e.rights.PolicyORNs = append(e.rights.PolicyORNs, e.account.AddPolicy(fmt.Sprintf("more-%d", i)))
			}
			if err := e.client.RemoveUser(t.Context(), e.ref(e.user(t))); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, e)
		},
	}
	for _, op := range []string{
		"ReadUsers", "ReadAccessKeys", "UpdateAccessKey", "DeleteAccessKey", "ReadUserPolicies", "ReadLinkedPolicies", "ReadUserGroupsPerUser",
		"UnlinkPolicy", "DeleteUserPolicy", "RemoveUserFromUserGroup", "DeleteUser",
	} {
		for _, kind := range []cloudsim.FaultKind{cloudsim.Refuse, cloudsim.RefuseAfter, cloudsim.DropAnswer} {
			tests[fmt.Sprintf("%s fails (%s): an error, and the next attempt goes on", op, kind)] = func(t *testing.T, e *eim) {
				ref := e.ref(e.user(t))
				<-time.After(provider.Settling)
				e.sim.Order(cloudsim.Fault{Op: op, Kind: kind, Times: 1})
				err := e.client.RemoveUser(t.Context(), ref)
				var fault *provider.Error
				if !errors.As(err, &fault) || fault.Op != op {
					t.Errorf("got %v", err)
				}
				if err := e.client.RemoveUser(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
				mustBeGone(t, e)
			}
		}
	}
	inEIM(t, tests)
}
