// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestDisabledUsersAreListedToo(t *testing.T) {
	for _, rules := range []cloudsim.HuaweiRules{{}, {ListHidesNothing: true}} {
		w := newWorld(t)
		w.cloud.SetHuaweiRules(rules)
		w.domain.AddUser("asleep")
		w.domain.SetUserEnabled("asleep", false)
		id := w.domain.AddKey(cloudsim.IAMKeySpec{User: "asleep"}).AccessKey
		var names []string
		for user, err := range w.client.ListUsers(t.Context()) {
			mustDo(t, err)
			names = append(names, user.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, []string{"acme", "asleep", testUser}) {
			t.Errorf("got %q", names)
		}
		keys, err := w.client.ListKeys(t.Context(), "asleep")
		mustDo(t, err)
		if len(keys) != 1 || keys[0].ID != id {
			t.Errorf("got %+v", keys)
		}
	}
}

// The filters of the list of users are not to be relied on.
func TestAUserIsFoundByItsExactName(t *testing.T) {
	const all = `{"users":[{"id":"1a","name":"Deploy","enabled":true},{"id":"2b","name":"deploy-2","enabled":true},{"id":"3c","name":"deploy","enabled":true}]}`
	client, server := serve(t, exchange{status: 200, body: all}, exchange{status: 200, body: `{"credentials":[]}`})
	_, err := client.ListKeys(t.Context(), "deploy")
	mustDo(t, err)
	var targets []string
	for _, r := range server.requests {
		targets = append(targets, r.target)
	}
	want := []string{
		"GET /v3/users?domain_id=" + wireDomain + "&enabled=true&name=deploy", "GET /v3.0/OS-CREDENTIAL/credentials?user_id=3c",
	}
	if !slices.Equal(targets, want) {
		t.Errorf("sent %q, want %q", targets, want)
	}
}

func TestANameThatIsNobodysIsNotFoundAndNotGuessed(t *testing.T) {
	client, server := serve(t, exchange{status: 200, body: `{"users":[{"id":"1a","name":"deploy a","enabled":true}]}`})
	_, err := client.CreateKey(t.Context(), provider.KeySpec{User: "deploy A&B"})
	mustBeKind(t, err, provider.KindNotFound)
	if server.count() != 2 || !strings.HasSuffix(server.requests[0].target, "&name=deploy%20A%26B") {
		t.Errorf("sent %+v", server.requests)
	}
	if !strings.Contains(err.Error(), `no user named "deploy A&B"`) {
		t.Errorf("got %v", err)
	}
}

func TestAUserMadeAnewUnderItsNameIsFound(t *testing.T) {
	w := newWorld(t)
	_, err := w.client.ListKeys(t.Context(), testUser)
	mustDo(t, err)
	w.domain.DeleteUser(testUser)
	_, err = w.client.ListKeys(t.Context(), testUser)
	mustBeKind(t, err, provider.KindNotFound)
	w.domain.AddUser(testUser)
	key, err := w.client.CreateKey(t.Context(), w.spec())
	mustDo(t, err)
	if made, _ := w.domain.Key(key.ID); made.User != testUser {
		t.Errorf("got %+v", made)
	}
}

// What the cloud answers to the id of a user that is gone is documented for none of the calls.
func TestARefusedIDIsLookedUpAnewWhateverTheRefusal(t *testing.T) {
	users := func(id string) exchange {
		return exchange{status: 200, body: `{"users":[{"id":"` + id + `","name":"deploy","enabled":true}]}`}
	}
	none := exchange{status: 200, body: `{"credentials":[]}`}
	for name, refusal := range map[string]exchange{
		"an invalid parameter": {status: 400, body: `{"error_code":"IAM.0011","error_msg":"Request parameter user_id is invalid."}`},
		"no permission":        {status: 403, body: `{"error":{"message":"You have no permission.","code":403}}`},
		"not found":            {status: 404, body: `{"error":{"message":"Could not find user: 1a.","code":404}}`},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := serve(t, refusal, users(wireUserID), none)
			client.names.put("deploy", "1a")
			_, err := client.ListKeys(t.Context(), "deploy")
			mustDo(t, err)
			if client.names.get("deploy") != wireUserID || server.count() != 3 {
				t.Errorf("sent %+v", server.requests)
			}
		})
		t.Run(name+", and it is the same user still", func(t *testing.T) {
			client, server := serve(t, refusal, users(wireUserID), none)
			client.names.put("deploy", wireUserID)
			_, err := client.ListKeys(t.Context(), "deploy")
			if err == nil || server.count() != 2 {
				t.Errorf("got %v, sent %+v", err, server.requests)
			}
		})
	}
	t.Run("a key that may not list users either hears what it may not", func(t *testing.T) {
		client, _ := serve(t, exchange{status: 403, body: `{"error":{"message":"Not this.","code":403}}`}, exchange{status: 403, body: `{"error":{"message":"Nor that.","code":403}}`})
		client.names.put("deploy", "1a")
		_, err := client.ListKeys(t.Context(), "deploy")
		mustBeKind(t, err, provider.KindDenied)
		if !strings.Contains(err.Error(), opListKeys) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a quota is the user's own", func(t *testing.T) {
		client, server := serve(t, exchange{status: 400, body: `{"error":{"message":"akSkNumExceed","code":400}}`})
		client.justMade("deploy", wireUserID)
		_, err := client.CreateKey(t.Context(), provider.KeySpec{User: "deploy", Label: ours, Expires: due})
		mustBeKind(t, err, provider.KindQuota)
		server.sent(t)
	})
}

func TestNamesAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		n.put("a", "1")
		if n.get("a") != "1" || n.get("b") != "" {
			t.Error("it does not remember")
		}
		<-time.After(namesKept + time.Second)
		if n.get("a") != "" {
			t.Error("it remembers for ever")
		}
		for i := range maxNames + 1 {
			n.put(fmt.Sprint(i), "x")
		}
		if len(n.ids) > maxNames {
			t.Errorf("it remembers %d names", len(n.ids))
		}
	})
}

func TestRightsAreGivenByGroupsAlone(t *testing.T) {
	w := newWorld(t)
	for _, rights := range []provider.Rights{{PolicyORNs: []string{"x"}}, {Document: "{}"}} {
		err := w.client.GrantUser(t.Context(), provider.User{ID: wireUserID}, rights)
		mustBeKind(t, err, provider.KindInvalid)
	}
	mustDo(t, w.client.GrantUser(t.Context(), provider.User{ID: wireUserID}, provider.Rights{}))
	w.mustHaveSeen(t)
}

func TestAUserLeavesItsGroupsBeforeItGoes(t *testing.T) {
	w := newWorld(t)
	w.domain.AddGroup("readers")
	user, _, err := w.job(t.Context())
	mustDo(t, err)
	w.cloud.ResetCalls()
	mustDo(t, w.client.RemoveUser(t.Context(), w.userRef(user)))
	w.mustHaveSeen(t, opShowUser, opListKeys, opUpdateKey, opDeleteKey, opGroupsOf, opLeaveGroup, opDeleteUser)
}

func TestAUserIsProgrammaticAndHasNoPassword(t *testing.T) {
	w := newWorld(t)
	text := label(keylabel.KindUser)
	user, err := w.client.CreateUser(t.Context(), provider.UserSpec{Name: "job-1", Path: "/ignored/", Label: text})
	mustDo(t, err)
	if got, _ := w.domain.User("job-1"); got.AccessMode != "programmatic" || got.Description != text || !got.Enabled || got.ID != user.ID || user.Label != text {
		t.Errorf("got %+v and %+v", got, user)
	}
}

func TestTheAccountsUsersAreAQuota(t *testing.T) {
	w := newWorld(t)
	for i := range 49 {
		w.domain.AddUser(fmt.Sprintf("user-%d", i))
	}
	_, err := w.client.CreateUser(t.Context(), provider.UserSpec{Name: "job-1", Label: label(keylabel.KindUser)})
	mustBeKind(t, err, provider.KindQuota)
}

func TestNamesThatTheCloudWouldRefuse(t *testing.T) {
	for name, good := range map[string]bool{
		"job-1": true, "a b_c.d": true, "_x": true, strings.Repeat("a", 64): true,
		"": false, "1job": false, " job": false, "a/b": false, "a@b": false, "a\n": false, strings.Repeat("a", 65): false,
	} {
		if err := CheckUserName(name); (err == nil) != good {
			t.Errorf("user %q: %v", name, err)
		}
	}
	for group, good := range map[string]bool{
		"readers": true, "Leser der Abteilung 3": true, "运维": true, strings.Repeat("a", 128): true,
		"": false, "a\nb": false, strings.Repeat("a", 129): false,
	} {
		if err := CheckGroup(group); (err == nil) != good {
			t.Errorf("group %q: %v", group, err)
		}
	}
}

// A key must never be made for who had the name a moment ago.
func TestAKeyIsMadeForWhoHasTheNameNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, err := w.client.ListKeys(t.Context(), testUser) // remembers the id
		mustDo(t, err)
		w.domain.RenameUser(testUser, "former")
		heir := w.domain.AddUser(testUser)
		made, err := w.client.CreateKey(t.Context(), w.spec())
		mustDo(t, err)
		if key, _ := w.domain.Key(made.ID); key.UserID != heir {
			t.Errorf("the key is of user %s, who is now called %q", key.UserID, key.User)
		}
	})
}

// One odd id hid all users, and with them all keys of the account.
func TestIDsOfAnyShapeAreListed(t *testing.T) {
	const users = `{"users":[{"id":"07609fb9-358010e2.1f7b_c003","name":"hyphen"},{"id":"../x","name":"odd"},{"id":"` + wireUserID + `","name":"plain"}]}`
	client, _ := serve(t, exchange{status: 200, body: users})
	var names []string
	for user, err := range client.ListUsers(t.Context()) {
		mustDo(t, err)
		names = append(names, user.Name)
	}
	if !slices.Equal(names, []string{"hyphen", "odd", "plain"}) {
		t.Errorf("got %q", names)
	}
	const keys = `{"credentials":[{"access":"AK-1.x","user_id":"07609fb9-358010e2.1f7b_c003","status":"active","create_time":"20260108T062519Z"}]}`
	client, _ = serve(t, exchange{status: 200, body: users}, exchange{status: 200, body: keys})
	listed, err := client.ListKeys(t.Context(), "hyphen")
	mustDo(t, err)
	if len(listed) != 1 || listed[0].ID != "AK-1.x" || listed[0].Created.IsZero() {
		t.Errorf("got %+v", listed)
	}
}

func TestAnOddIDNeverEntersAPath(t *testing.T) {
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a?b", "a#b", "a%2fb", " ", "-", strings.Repeat("a", 129), "a\n"} {
		client, server := serve(t, exchange{status: 204})
		mustBeKind(t, client.deleteKey(t.Context(), id), provider.KindInvalid)
		if server.count() != 0 {
			t.Errorf("%q was sent", id)
		}
	}
}
