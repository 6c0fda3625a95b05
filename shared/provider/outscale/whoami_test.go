// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
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

func TestWhoAmI(t *testing.T) {
	type who = provider.Identity
	root, unknown := who{Kind: provider.IdentityRoot}, who{Kind: provider.IdentityUnknown}
	engine := who{Kind: provider.IdentityUser, User: "engine"}
	refuse := func(op string, skip int, status int, code string) cloudsim.Fault {
		return cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Skip: skip, Times: 1, Status: status, Code: code}
	}
	cases := map[string]struct {
		user   string // who signs
		allow  []string
		others int // users listed before
		fault  *cloudsim.Fault
		want   who
		kind   provider.Kind // of the error, if there is to be one
		failed bool
	}{
		"the root user":                        {want: root},
		"the root user among fifty users":      {others: 49, want: root},
		"the root user among too many to ask":  {others: 50, want: unknown},
		"a user":                               {user: "engine", allow: []string{"api:*"}, want: engine},
		"the last user that is asked":          {user: "engine", allow: []string{"api:Read*"}, others: 48, want: engine},
		"a user beyond those that are asked":   {user: "engine", allow: []string{"api:Read*"}, others: 49, want: unknown},
		"a user on the second page":            {user: "engine", allow: []string{"api:Read*"}, others: 120, want: unknown},
		"a user that may not read users":       {user: "engine", allow: []string{"api:ReadAccounts", "api:ReadAccessKeys"}, want: unknown},
		"a user that may not read others keys": {user: "engine", allow: []string{"api:*"}, fault: new(refuse("ReadAccessKeys", 1, 401, "7")), want: unknown},
		"a user beside one just deleted":       {user: "engine", allow: []string{"api:*"}, fault: new(refuse("ReadAccessKeys", 1, 400, "5075")), want: engine},
		"the root user beside one just gone":   {fault: new(refuse("ReadAccessKeys", 1, 400, "5075")), want: root},
		"a user that may not read the account": {user: "engine", allow: []string{"api:ReadAccessKeys"}, kind: provider.KindDenied, failed: true},
		"a user that may not read keys":        {user: "engine", allow: []string{"api:ReadAccounts"}, kind: provider.KindDenied, failed: true},
		"a list of users that fails":           {fault: new(refuse("ReadUsers", 0, 500, "0")), kind: provider.KindUnreachable, failed: true},
		"a list of a user's keys that fails":   {fault: new(refuse("ReadAccessKeys", 1, 500, "0")), kind: provider.KindUnreachable, failed: true},
		"an account that is not told": {
			fault: &cloudsim.Fault{Op: "ReadAccounts", Kind: cloudsim.RubbishAnswer, Body: `{"Accounts":[]}`},
			kind:  provider.KindUnreachable, failed: true,
		},
		"a list that the filter was not applied to": {
			fault: &cloudsim.Fault{
				Op: "ReadAccessKeys", Skip: 1, Kind: cloudsim.RubbishAnswer, Body: `{"AccessKeys":[{"AccessKeyId":"AKOFSOMEBODYELSE"}]}`,
			},
			want: root,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i := range test.others {
				w.account.AddUser(fmt.Sprintf("user-%03d", i))
			}
			client, expires := w.client, time.Time{}
			if test.user != "" {
				expires = later(time.Hour)
				w.account.AddUser(test.user, test.allow...)
				client = w.as(t, w.account.AddKey(cloudsim.KeySpec{User: test.user, Expires: expires}))
			}
			if test.fault != nil {
				w.cloud.Order(*test.fault)
			}
			got, err := client.WhoAmI(t.Context())
			if test.failed {
				mustBeKind(t, err, test.kind)
				return
			}
			mustDo(t, err)
			if test.want.Kind == provider.IdentityUser {
				test.want.UserID = w.userID(test.want.User)
			}
			if got.AccountID != testAccount || got.Identity != test.want || !got.Key.Expires.Equal(expires) {
				t.Errorf("got %+v, want %+v of account %s until %s", got, test.want, testAccount, expires)
			}
		})
	}
}

func TestAUserThatIsRenamedMeanwhileDoesNotPassForRoot(t *testing.T) {
	for times, want := range map[int]provider.IdentityKind{1: provider.IdentityUser, 2: provider.IdentityUnknown} {
		w := newWorld(t)
		w.account.AddUser("ops-0", "api:*")
		client := w.as(t, w.account.AddKey(cloudsim.KeySpec{User: "ops-0"}))
		renamed := 0
		w.cloud.OnCall(func(call cloudsim.Call) {
			if call.Op == "ReadAccessKeys" && renamed < min(times, w.cloud.CountCalls("ReadUsers")) {
				w.account.RenameUser(fmt.Sprintf("ops-%d", renamed), fmt.Sprintf("ops-%d", renamed+1))
				renamed++
			}
		})
		who, err := client.WhoAmI(t.Context())
		mustDo(t, err)
		if who.Identity.Kind != want || renamed != times {
			t.Errorf("renamed %d times: got %+v", renamed, who.Identity)
		}
	}
}

func TestASearchThatTakesTooLongGoesOnWhereItStood(t *testing.T) {
	w := newWorld(t)
	const users = 120
	for i := len(w.account.Users()); i < users; i++ {
		w.account.AddUser(fmt.Sprintf("user-%03d", i))
	}
	config := w.config
	for i, want := range []provider.IdentityKind{provider.IdentityUnknown, provider.IdentityUnknown, provider.IdentityRoot} {
		who, err := w.client.WhoAmI(t.Context())
		mustDo(t, err)
		if who.Identity.Kind != want {
			t.Errorf("search %d: got %+v", i, who.Identity)
		}
		config.After = w.client // as after each change of the account
		w.client, err = New(config)
		mustDo(t, err)
	}
	if n := w.cloud.CountCalls("ReadAccessKeys"); n != users+3 {
		t.Errorf("%d lists of keys, want one of each user, and of the engine's own key", n)
	}
}

// At its pace the client lists fewer users than there are. What is deleted meanwhile moves nobody out of the list.
func TestASearchThatCannotListAllUsersInItsTimeGoesOnWithTheList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		const users = 40 * usersPerPage
		for i := range users {
			name, label := fmt.Sprintf("user-%04d", i), keylabel.New("ABCDEFGHIJKLMNOP", keylabel.KindUser)
			w.account.AddUser(name)
			w.account.MoveUser(name, "/"+label.Path())
		}
		w.account.AddUser("z-engine", "api:*")
		client := w.as(t, w.account.AddKey(cloudsim.KeySpec{User: "z-engine"}), func(c *Config) { c.PerSecond = 5 })
		for search := range 8 {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			who, err := client.WhoAmI(ctx)
			cancel()
			if err == nil {
				if who.Identity.User != "z-engine" || search == 0 {
					t.Errorf("got %+v in search %d", who.Identity, search)
				}
				return
			}
			for i := range usersPerPage + usersPerPage/2 {
				w.account.DeleteUser(fmt.Sprintf("user-%04d", search*2*usersPerPage+i))
			}
		}
		t.Errorf("not found with %d pages", w.cloud.CountCalls("ReadUsers"))
	})
}

func TestAKeyThatIsNotListed(t *testing.T) {
	unlisted := cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RubbishAnswer, Body: `{"AccessKeys":[]}`}
	t.Run("is waited for, since the lists alone tell whose it is", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t)
			unlisted.Times = 2
			w.cloud.Order(unlisted)
			if who, err := w.client.WhoAmI(t.Context()); err != nil || who.Key.ID != w.config.AccessKey {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	})
	t.Run("is named where it stays so: its signature was taken", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t)
			unlisted.Times = 0
			w.cloud.Order(unlisted)
			_, err := w.client.WhoAmI(t.Context())
			if !errors.Is(err, provider.ErrUnlisted) || !strings.Contains(err.Error(), "does not list access key "+w.config.AccessKey) {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestUsersAreListedPageByPage(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for i := range 249 {
			w.account.AddUser(fmt.Sprintf("user-%03d", i))
		}
		var names []string
		for user, err := range w.client.ListUsers(t.Context()) {
			mustDo(t, err)
			if user.Path != "/" {
				t.Errorf("got the path %q", user.Path)
			}
			names = append(names, user.Name)
		}
		if want := w.account.Users(); !slices.Equal(names, want) {
			t.Errorf("got %d users, want the %d in their order", len(names), len(want))
		}
		w.mustHaveSeen(t, "ReadUsers", "ReadUsers", "ReadUsers")

		w.cloud.ResetCalls()
		for range w.client.ListUsers(t.Context()) {
			break
		}
		w.mustHaveSeen(t, "ReadUsers")
	})
}

// What is remembered of a long list is its end: each user comes once all the same, and what is deleted meanwhile moves nobody out of it.
func TestALongListMissesNobodyAndRepeatsNobody(t *testing.T) {
	w := newWorld(t)
	const users = 30 * usersPerPage
	for i := range users {
		w.account.AddUser(fmt.Sprintf("user-%04d", i))
	}
	pages := 0
	w.cloud.OnCall(func(call cloudsim.Call) {
		if call.Op != "ReadUsers" {
			return
		}
		switch pages++; {
		case pages%3 == 0 && pages < 30: // of pages that were read, some users at once
			for i := range usersPerPage / 2 {
				w.account.DeleteUser(fmt.Sprintf("user-%04d", pages*usersPerPage/4+i))
			}
		case pages >= 30 && pages%2 == 0: // and then one at each page
			w.account.DeleteUser(fmt.Sprintf("user-%04d", pages))
		}
	})
	listed := map[string]int{}
	for user, err := range w.client.ListUsers(t.Context()) {
		mustDo(t, err)
		listed[user.Name]++
	}
	for _, name := range w.account.Users() {
		if listed[name] != 1 {
			t.Errorf("user %s was listed %d times", name, listed[name])
		}
	}
	if deleted := users - len(w.account.Users()); deleted < users/10 || pages < 4*maxShifts {
		t.Errorf("%d users were deleted, and %d pages read", deleted, pages)
	}
}

// A page that repeats is no further page: an account of two users would have thousands.
func TestAPageThatRepeatsEndsAListWithAnError(t *testing.T) {
	w := newWorld(t)
	w.cloud.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.RubbishAnswer, Body: `{"Users":[{"UserId":"A","UserName":"a"},{"UserId":"B","UserName":"b"}],"HasMoreItems":true}`})
	var names []string
	var last error
	for user, err := range w.client.ListUsers(t.Context()) {
		if last = err; err == nil {
			names = append(names, user.Name)
		}
	}
	mustBeKind(t, last, provider.KindUnreachable)
	if !slices.Equal(names, []string{"a", "b"}) || w.cloud.CountCalls("ReadUsers") != 2 {
		t.Errorf("got %q in %d calls", names, w.cloud.CountCalls("ReadUsers"))
	}
}

func TestAListMissesNoUserWhenOthersAreDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	for i := range 249 {
		w.account.AddUser(fmt.Sprintf("user-%03d", i))
	}
	pages := 0
	w.cloud.OnCall(func(call cloudsim.Call) {
		if pages++; call.Op == "ReadUsers" && pages > 1 && pages < 6 {
			for i := range 7 {
				w.account.DeleteUser(fmt.Sprintf("user-%03d", pages*10+i))
			}
		}
	})
	listed := map[string]int{}
	for user, err := range w.client.ListUsers(t.Context()) {
		mustDo(t, err)
		listed[user.Name]++
	}
	for _, name := range w.account.Users() {
		if listed[name] != 1 {
			t.Errorf("user %s was listed %d times", name, listed[name])
		}
	}
}

func TestAListOfUsersEnds(t *testing.T) {
	cases := map[string]struct {
		body string
		fail bool
	}{
		"with an error at an empty page that promises more": {`{"Users":[],"HasMoreItems":true}`, true},
		"with an error at a user without an id":             {`{"Users":[{"UserName":"u"}]}`, true},
		"at a page that does not say":                       {`{"Users":[]}`, false},
		"with an error where there is none":                 {`{}`, true},
		"with an error at rubbish":                          {`{"Users":`, true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.Order(cloudsim.Fault{Kind: cloudsim.RubbishAnswer, Body: test.body})
			var last error
			for user, err := range w.client.ListUsers(t.Context()) {
				if err == nil {
					t.Errorf("got the user %v", user)
				}
				last = err
			}
			if (last != nil) != test.fail {
				t.Errorf("got %v", last)
			}
			w.mustHaveSeen(t, "ReadUsers")
		})
	}
}
