// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"fmt"
	"testing"
)

func TestUsersAreListedInPagesCountedFromZero(t *testing.T) {
	_, a, root := newCloud()
	for i := range 101 {
		a.AddUser(fmt.Sprintf("user-%03d", i))
	}
	cases := map[string]struct {
		body  string
		first string
		count int
		more  bool
	}{
		"the first hundred by default": {`{}`, "user-000", 100, true},
		"the rest":                     {`{"FirstItem":100}`, "user-100", 1, false},
		"a page of the given size":     {`{"FirstItem":1,"ResultsPerPage":2}`, "user-001", 2, true},
		"nothing past the end":         {`{"FirstItem":101}`, "", 0, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got := root.mustSucceed(t, "ReadUsers", test.body)
			if len(got.Users) != test.count || got.HasMoreItems != test.more {
				t.Fatalf("got %d users, more %v; want %d, %v", len(got.Users), got.HasMoreItems, test.count, test.more)
			}
			if test.count > 0 && got.Users[0].UserName != test.first {
				t.Errorf("got %s first, want %s", got.Users[0].UserName, test.first)
			}
		})
	}
	t.Run("one by id", func(t *testing.T) {
		id := root.mustSucceed(t, "ReadUsers", `{"FirstItem":7}`).Users[0].UserId
		got := root.mustSucceed(t, "ReadUsers", fields("Filters", map[string]any{"UserIds": []string{id}})).Users
		if len(got) != 1 || got[0].UserName != "user-007" {
			t.Errorf("got %v", got)
		}
	})
}

func TestAUserLivesFromCreateToDelete(t *testing.T) {
	_, a, root := newCloud()
	made := root.mustSucceed(t, "CreateUser", `{"UserName":"deploy","Path":"/apps/"}`).User
	if made.Path != "/apps/" || made.UserEmail == "" || made.UserId == "" {
		t.Errorf("got %+v", made)
	}
	root.mustRefuse(t, "CreateUser", `{"UserName":"deploy"}`, 409, "9022")

	key := a.AddKey(KeySpec{User: "deploy"})
	root.as(key).mustRefuse(t, "ReadVms", "{}", 401, "7")
	root.mustRefuse(t, "DeleteUser", `{"UserName":"deploy"}`, 409, codeUserInUse)
	a.DeleteKey(key.AccessKey)
	root.mustSucceed(t, "DeleteUser", `{"UserName":"deploy"}`)
	root.mustRefuse(t, "DeleteUser", `{"UserName":"deploy"}`, 400, "5075")
}

func TestDeletingAUserOutOfBandTakesItsKeysAlong(t *testing.T) {
	_, a, root := newCloud()
	key := root.as(a.AddKey(KeySpec{User: "deploy"}))
	a.DeleteUser("deploy")
	key.mustRefuse(t, "ReadVms", "{}", 400, "4120")
	if got := len(a.Keys()); got != 1 {
		t.Errorf("got %d keys, want the root key", got)
	}
}

func TestAUserMayCallWhatItsPatternsAllow(t *testing.T) {
	cases := map[string]struct {
		allow   []string
		op      string
		allowed bool
	}{
		"nothing without patterns":           {nil, "ReadVms", false},
		"everything with api:*":              {[]string{"api:*"}, "CreateAccessKey", true},
		"reads with api:Read*":               {[]string{"api:Read*"}, "ReadAccessKeys", true},
		"no creation with api:Read*":         {[]string{"api:Read*"}, "CreateAccessKey", false},
		"one call by its name":               {[]string{"api:CreateAccessKey"}, "CreateAccessKey", true},
		"no call whose name only begins":     {[]string{"api:Create"}, "CreateAccessKey", false},
		"no call whose name differs in case": {[]string{"api:createaccesskey"}, "CreateAccessKey", false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, a, root := newCloud()
			a.AddUser("deploy", test.allow...)
			user := root.as(a.AddKey(KeySpec{User: "deploy"}))
			if !test.allowed {
				user.mustRefuse(t, test.op, "{}", 401, "7")
				return
			}
			user.mustSucceed(t, test.op, "{}")
		})
	}
}
