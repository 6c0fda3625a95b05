// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

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

func TestAUsersKeyIsMadeInactiveWithItsDateAndThenDeleted(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
		mustDo(t, w.client.RevokeKey(t.Context(), ref))
		w.mustLack(t, ref.ID)
		w.mustHaveSeen(t, "UpdateAccessKey", "DeleteAccessKey")
		sent := w.updates(t)[0]
		if *sent.State != "INACTIVE" || *sent.ExpirationDate != ref.Expires.Format(dateFormat) || *sent.UserName != testUser {
			t.Errorf("sent %s until %s for %s", *sent.State, *sent.ExpirationDate, *sent.UserName)
		}
	})
}

func TestAKeyOfTheCallerItselfIsDeletedAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ref := w.key(cloudsim.KeySpec{Expires: later(time.Hour)})
		mustDo(t, w.client.RevokeKey(t.Context(), ref))
		w.mustLack(t, ref.ID)
		w.mustHaveSeen(t, "DeleteAccessKey")
	})
}

func TestARevokedKeyHasADateEvenIfItHadNone(t *testing.T) {
	w := newWorld(t)
	ref := w.key(cloudsim.KeySpec{User: testUser})
	w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse})
	mustBeKind(t, w.client.RevokeKey(t.Context(), ref), provider.KindAmbiguous)
	if key := w.mustHave(t, ref.ID); key.Expires.IsZero() || time.Until(key.Expires) > removalTime {
		t.Errorf("the key lives until %s", key.Expires)
	}
}

// An expired key whose delete is refused takes a date in the future to be deleted.
// On an ACTIVE key that date would bring it back to life.
func TestAnExpiredKeyIsNeverLiveWhileItIsRevoked(t *testing.T) {
	cases := map[string]struct {
		user string
		ops  []string
	}{
		"of a user":            {testUser, []string{"UpdateAccessKey", "DeleteAccessKey"}},
		"of the caller itself": {"", []string{"DeleteAccessKey", "UpdateAccessKey", "DeleteAccessKey"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, cloudsim.WithRules(cloudsim.Rules{RefuseExpiredDelete: true}))
				w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 60})
				ref := w.key(cloudsim.KeySpec{User: test.user, Expires: later(time.Minute)})
				pass(2 * time.Minute)

				states := []string{}
				look := func(cloudsim.Call) {
					key, ok := w.account.Key(ref.ID)
					if ok && key.Live(time.Now()) {
						t.Errorf("the key is live: %+v", key)
					}
					states = append(states, key.State)
				}
				w.cloud.OnCall(look)
				w.cloud.OnAnswer(look)
				mustDo(t, w.client.RevokeKey(t.Context(), ref))
				w.mustLack(t, ref.ID)
				w.mustHaveSeen(t, test.ops...)
				if !slices.Contains(states, cloudsim.Inactive) {
					t.Errorf("the key was seen in the states %q", states)
				}
				sent := w.updates(t)
				at, err := parseDate(sent[0].ExpirationDate)
				if err != nil || len(sent) != 1 || *sent[0].State != "INACTIVE" || !at.After(time.Now()) || at.After(time.Now().Add(time.Minute)) {
					t.Errorf("sent %s until %s", *sent[0].State, at)
				}
			})
		})
	}
}

func TestAnExpiredKeyThatCanBeDeletedIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for _, user := range []string{"", testUser} {
			ref := w.key(cloudsim.KeySpec{User: user, Expires: later(time.Minute)})
			pass(2 * time.Minute)
			mustDo(t, w.client.RevokeKey(t.Context(), ref))
			w.mustLack(t, ref.ID)
		}
	})
}

func TestARevokeThatWasCutShortGoesOnWhenCalledAgain(t *testing.T) {
	cases := map[string]struct {
		fault cloudsim.Fault
		dead  bool // after the first try
	}{
		"before the first call":           {cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.DropRequest, Times: 1}, false},
		"with the first answer lost":      {cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.DropAnswer, Times: 1}, true},
		"between the two calls":           {cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.DropRequest, Times: 1}, true},
		"with the second answer lost":     {cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.DropAnswer, Times: 1}, true},
		"with the second answer empty":    {cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.EmptyAnswer, Times: 1}, true},
		"with the second answer rubbish":  {cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.RubbishAnswer, Times: 1}, true},
		"with the second answered by 502": {cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.RefuseAfter, Status: 502, Times: 1}, true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
				w.cloud.Order(test.fault)
				mustBeKind(t, w.client.RevokeKey(t.Context(), ref), provider.KindAmbiguous)
				if key, ok := w.account.Key(ref.ID); ok && key.Live(time.Now()) == test.dead {
					t.Errorf("got %+v, want it dead: %v", key, test.dead)
				}
				pass(2 * time.Hour) // the date resent may have passed meanwhile
				mustDo(t, w.client.RevokeKey(t.Context(), ref))
				w.mustLack(t, ref.ID)
				mustDo(t, w.client.RevokeKey(t.Context(), ref))
				w.updates(t)
			})
		})
	}
}

func TestAKeyThatIsGoneIsASuccessOnlyAfterTheAccountConfirmedIt(t *testing.T) {
	asked := map[string][]string{
		"":       {"ReadAccounts", "ReadAccessKeys"},
		testUser: {"ReadAccounts", "ReadAccessKeys", "ReadUsers", "ReadAccessKeys", "ReadUsers"},
	}
	for user, want := range asked {
		w := newWorld(t)
		ref := w.key(cloudsim.KeySpec{User: user, Expires: later(time.Hour)})
		w.account.DeleteKey(ref.ID)
		mustDo(t, w.client.RevokeKey(t.Context(), ref))
		if ops := w.ops(); !slices.Equal(ops[1:], want) {
			t.Errorf("the cloud received %q", ops)
		}
	}
}

func TestAKeyWentWithItsUser(t *testing.T) {
	w := newWorld(t)
	ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
	w.account.DeleteUser(testUser)
	w.account.AddUser("another")
	mustDo(t, w.client.RevokeKey(t.Context(), ref))
	w.mustHaveSeen(t, "UpdateAccessKey", "ReadAccounts", "ReadAccessKeys", "ReadUsers", "ReadAccessKeys", "ReadUsers")
}

func TestNotFoundAloneIsNotBelieved(t *testing.T) {
	refuse := func(op, code string) cloudsim.Fault {
		return cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 400, Code: code}
	}
	cases := map[string]struct {
		faults []cloudsim.Fault
		want   string
	}{
		"4000 to every call: our own key may be the one that is gone": {
			[]cloudsim.Fault{refuse("", "4000")}, "cannot be proven yet",
		},
		"the key is still listed": {
			[]cloudsim.Fault{refuse("UpdateAccessKey", "4000")}, "is still listed",
		},
		"the key is still listed after the second call": {
			[]cloudsim.Fault{refuse("DeleteAccessKey", "5027")}, "is still listed",
		},
		"the account cannot be read": {
			[]cloudsim.Fault{refuse("UpdateAccessKey", "4000"), {Op: "ReadAccounts", Kind: cloudsim.DropAnswer}}, "cannot be proven yet",
		},
		"the account is not told": {
			[]cloudsim.Fault{
				refuse("UpdateAccessKey", "4000"),
				{Op: "ReadAccounts", Kind: cloudsim.RubbishAnswer, Body: `{"Accounts":[{}]}`},
			}, "holds no account",
		},
		"the list cannot be read": {
			[]cloudsim.Fault{refuse("UpdateAccessKey", "4000"), {Op: "ReadAccessKeys", Kind: cloudsim.EmptyAnswer}}, "cannot be proven yet",
		},
		"the user is not found, but exists": {
			[]cloudsim.Fault{refuse("UpdateAccessKey", "5075"), refuse("ReadAccessKeys", "5075")}, "although it exists",
		},
		"the users cannot be read": {
			[]cloudsim.Fault{refuse("UpdateAccessKey", "5075"), refuse("ReadAccessKeys", "5075"), refuse("ReadUsers", "4000")},
			"cannot be proven yet",
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
				for _, fault := range test.faults {
					w.cloud.Order(fault)
				}
				err := w.client.RevokeKey(t.Context(), ref)
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), ref.ID) {
					t.Fatalf("got %v, want one that says %q", err, test.want)
				}
				if provider.KindOf(err) == provider.KindNotFound {
					t.Errorf("%v has the kind of a key that is gone", err)
				}
				w.mustHave(t, ref.ID)
			})
		})
	}
}

func TestAKeyOfAnotherAccountIsNotGone(t *testing.T) {
	w := newWorld(t)
	other := w.cloud.AddAccount("210987654321")
	other.AddUser(testUser)
	ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
	err := w.as(t, other.RootKey()).RevokeKey(t.Context(), ref)
	want := "belongs to cloud account 123456789012, but the configured key to 210987654321"
	if err == nil || !strings.Contains(err.Error(), want) || provider.KindOf(err) == provider.KindNotFound {
		t.Errorf("got %v of kind %q, want one that says %q", err, provider.KindOf(err), want)
	}
	w.mustHave(t, ref.ID)
}

func TestAClientWhoseOwnKeyIsDeadRevokesNothing(t *testing.T) {
	deaths := map[string]func(w *world, own string){
		"deleted":  func(w *world, own string) { w.account.DeleteKey(own) },
		"inactive": nil,
		"expired":  nil,
	}
	want := map[string]provider.Kind{
		"deleted": provider.KindKeyUnclear, "inactive": provider.KindKeyRefused, "expired": provider.KindKeyRefused,
	}
	for name, kill := range deaths {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				spec := cloudsim.KeySpec{Inactive: name == "inactive"}
				if name == "expired" {
					spec.Expires = later(time.Minute)
				}
				own := w.account.AddKey(spec)
				if kill != nil {
					kill(w, own.AccessKey)
				}
				ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
				pass(2 * time.Minute)
				mustBeKind(t, w.as(t, own).RevokeKey(t.Context(), ref), want[name])
				if key := w.mustHave(t, ref.ID); !key.Live(time.Now()) {
					t.Errorf("got %+v", key)
				}
			})
		})
	}
}

func TestAUserWithoutThePermissionToRevokeIsDenied(t *testing.T) {
	w := newWorld(t)
	w.account.AddUser("engine", "api:Read*")
	ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
	own := w.account.AddKey(cloudsim.KeySpec{User: "engine"})
	mustBeKind(t, w.as(t, own).RevokeKey(t.Context(), ref), provider.KindDenied)
}

func TestAKeyDatedBeyondATightenedPolicyIsRevokedAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
		w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
		mustDo(t, w.client.RevokeKey(t.Context(), ref))
		if _, there := w.account.Key(ref.ID); there {
			t.Error("the key is still there")
		}
	})
}

func TestNothingIsProvenWithoutTheRightToListUsers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.account.AddUser("vault", "api:ReadAccounts", "api:ReadAccessKeys", "api:UpdateAccessKey", "api:DeleteAccessKey")
		client := w.as(t, w.account.AddKey(cloudsim.KeySpec{User: "vault"}))
		ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
		w.account.DeleteUser(testUser)
		mustBeKind(t, client.RevokeKey(t.Context(), ref), provider.KindDenied)
	})
}

// 4000 is what the API says of everything once the key that signs is gone.
func TestAUserIsGoneOnlyByACodeThatSpeaksOfUsers(t *testing.T) {
	for code, gone := range map[string]bool{"5075": true, "4000": false} {
		w := newWorld(t)
		ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
		user, _ := w.account.User(testUser)
		ref.UserID, ref.UserIDCertain = user.ID, true
		w.cloud.Order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.Refuse, Status: 400, Code: code})
		_, found, err := w.client.FindKey(t.Context(), ref)
		if found || gone != (err == nil) {
			t.Errorf("code %s: got %v, %v", code, found, err)
		}
	}
}

// Root is in no list of users, and its keys are shown to itself alone.
func TestAKeyThatMayBeTheAccountOwnersIsGoneForTheOwnerAlone(t *testing.T) {
	for name, byOwner := range map[string]bool{"the owner signs": true, "a user signs": false} {
		for _, there := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, it is there: %v", name, there), func(t *testing.T) {
				w := newWorld(t)
				w.account.AddUser("ops", "api:*")
				key := w.account.AddKey(cloudsim.KeySpec{})
				client := w.client
				if !byOwner {
					client = w.as(t, w.account.AddKey(cloudsim.KeySpec{User: "ops"}))
				}
				if !there {
					w.account.DeleteKey(key.AccessKey)
				}
				for range 2 { // the second search has seen all users already
					_, found, err := client.FindKey(t.Context(), provider.KeyRef{AccountID: testAccount, ID: key.AccessKey, AnyUser: true})
					var unproven *provider.UnprovenError
					switch {
					case byOwner && (err != nil || found != there):
						t.Errorf("got %v and %v", found, err)
					case !byOwner && (!errors.As(err, &unproven) || !strings.Contains(err.Error(), `the key that signs is user "ops"'s`)):
						t.Errorf("got %v and %v, want an error that says whose the key is that signs", found, err)
					}
				}
			})
		}
	}
}

func TestAKeyThatMayBeAUsersIsNotGoneWhereTheCallersOwnListIsNotWhole(t *testing.T) {
	w := newWorld(t)
	w.cloud.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RubbishAnswer, Body: `{"AccessKeys":[],"ResponseContext":{}}`, Times: 1})
	_, found, err := w.client.FindKey(t.Context(), provider.KeyRef{AccountID: testAccount, ID: "AKGONE", AnyUser: true})
	if found || err == nil || !strings.Contains(err.Error(), "lacks the key that signs") {
		t.Errorf("got %v and %v", found, err)
	}
}

func TestAKeyOfAUserThatStandsWhereLeasesUsersStandIsFound(t *testing.T) {
	label := keylabel.New(keylabel.NewID(), keylabel.KindUser)
	cases := map[string]func(w *world, ref *provider.KeyRef){
		"it has no label":           func(*world, *provider.KeyRef) {},
		"it was handed over":        func(_ *world, ref *provider.KeyRef) { ref.Label = keylabel.HandedOver(label.String()) },
		"it has that lease's label": func(_ *world, ref *provider.KeyRef) { ref.Label = label.String() },
		"it has another, and its user's id": func(w *world, ref *provider.KeyRef) {
			ref.Label, ref.UserID = keylabel.New(label.Instance, keylabel.KindLease).String(), w.userID(testUser)
		},
	}
	for name, know := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.account.MoveUser(testUser, "/"+label.Path())
			ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
			know(w, &ref)
			w.account.RenameUser(testUser, "renamed")
			mustDo(t, w.client.DeactivateKey(t.Context(), ref))
			if key := w.mustHave(t, ref.ID); key.Live(time.Now()) {
				t.Errorf("got %+v", key)
			}
		})
	}
}
