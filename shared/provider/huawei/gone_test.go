// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func refuse(op string, status int, code string) cloudsim.Fault {
	return cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: status, Code: code}
}

// missing answers as if a key, user or group did not exist.
func missing(op string) cloudsim.Fault {
	return cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: 404, Body: `{"error":{"message":"Could not find it.","code":404,"title":"Not Found"}}`}
}

func TestAKeyIsGoneOnlyWhereTheAccountSaysSo(t *testing.T) {
	cases := map[string]struct {
		faults   []cloudsim.Fault
		user     string // of the key, as the record has it
		keyGone  bool
		userGone bool
		believed bool
	}{
		"the lists lack it":                       {keyGone: true, user: testUser, believed: true},
		"the list of another lacks it":            {faults: []cloudsim.Fault{missing(opUpdateKey)}, user: "other"},
		"the list of its own keys lacks it":       {faults: []cloudsim.Fault{missing(opUpdateKey)}, believed: true},
		"the list has it still":                   {faults: []cloudsim.Fault{missing(opUpdateKey)}, user: testUser},
		"there is no such API":                    {faults: []cloudsim.Fault{refuse(opUpdateKey, 404, "APIGW.0101")}, user: "other"},
		"the account does not answer":             {faults: []cloudsim.Fault{missing(opUpdateKey), refuse(opListDomains, 500, "")}, user: "other"},
		"the list of keys does not answer":        {faults: []cloudsim.Fault{missing(opUpdateKey), refuse(opListKeys, 500, "")}, user: "other"},
		"its user is gone":                        {faults: []cloudsim.Fault{missing(opUpdateKey)}, user: testUser, userGone: true, believed: true},
		"its user's keys are missing, not itself": {faults: []cloudsim.Fault{missing(opUpdateKey), missing(opListKeys)}, user: testUser},
		"its own user's keys are missing":         {faults: []cloudsim.Fault{missing(opUpdateKey), missing(opListKeys)}},
		"the list of users does not answer":       {faults: []cloudsim.Fault{missing(opUpdateKey), refuse(opListUsers, 500, "")}, user: testUser, userGone: true},
		"the list of users is not permitted":      {faults: []cloudsim.Fault{missing(opUpdateKey), refuse(opListUsers, 403, "IAM.0002")}, user: testUser, userGone: true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.domain.AddUser("other")
				id := w.domain.AddKey(cloudsim.IAMKeySpec{User: testUser, Description: ours}).AccessKey
				_, err := w.client.ListKeys(t.Context(), "") // learns the account
				mustDo(t, err)
				if test.userGone {
					w.domain.DeleteUser(testUser)
				}
				if test.keyGone {
					w.domain.DeleteKey(id)
				}
				for _, fault := range test.faults {
					w.cloud.Order(fault)
				}
				ref := provider.KeyRef{AccountID: w.domain.ID(), User: test.user, ID: id, Label: ours, Expires: later(time.Hour)}
				err = w.client.RevokeKey(t.Context(), ref)
				if test.believed {
					mustDo(t, err)
					mustBeKind(t, w.client.MoveExpiry(t.Context(), ref), provider.KindNotFound)
				} else if err == nil || provider.KindOf(err) == provider.KindNotFound {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestAUserIsGoneOnlyWhereTheAccountSaysSo(t *testing.T) {
	cases := map[string]struct {
		faults   []cloudsim.Fault
		gone     bool // in the middle of the removal
		believed bool
	}{
		"it is shown, and deleted":                    {believed: true},
		"it is not shown, but listed":                 {faults: []cloudsim.Fault{missing(opShowUser)}, believed: true},
		"its keys and groups are missing":             {faults: []cloudsim.Fault{missing(opListKeys), missing(opGroupsOf)}, believed: true},
		"its key goes meanwhile":                      {faults: []cloudsim.Fault{missing(opUpdateKey)}, believed: true},
		"somebody else is faster":                     {faults: []cloudsim.Fault{missing(opDeleteUser)}, gone: true, believed: true},
		"it is not found, but listed":                 {faults: []cloudsim.Fault{missing(opDeleteUser)}},
		"the list does not answer":                    {faults: []cloudsim.Fault{missing(opShowUser), refuse(opListUsers, 500, "")}},
		"neither shown nor listed, and no account":    {faults: []cloudsim.Fault{missing(opShowUser), refuse(opListDomains, 500, "")}, gone: true},
		"showing it is not permitted":                 {faults: []cloudsim.Fault{refuse(opShowUser, 403, "IAM.0002")}},
		"its groups cannot be read":                   {faults: []cloudsim.Fault{refuse(opGroupsOf, 500, "")}},
		"it cannot leave a group":                     {faults: []cloudsim.Fault{refuse(opLeaveGroup, 403, "IAM.0002")}},
		"shown without its description, listed whole": {faults: []cloudsim.Fault{{Op: opShowUser, Kind: cloudsim.RubbishAnswer, Body: `{"user":{"id":"ID","name":"job-1"}}`}}, believed: true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			slow(t, cloudsim.HuaweiRules{}, func(t *testing.T, w *world) {
				user, _, err := w.job(t.Context())
				mustDo(t, err)
				<-time.After(provider.Settling)
				for _, fault := range test.faults {
					if fault.Kind == cloudsim.RubbishAnswer {
						fault.Body = `{"user":{"id":"` + user.ID + `","name":"job-1"}}`
					}
					w.cloud.Order(fault)
				}
				if test.gone {
					w.cloud.OnCall(func(call cloudsim.Call) {
						if call.Op == opDeleteUser || call.Op == opShowUser && len(test.faults) > 1 {
							w.domain.DeleteUser("job-1")
						}
					})
				}
				err = w.client.RemoveUser(t.Context(), w.userRef(user))
				if test.believed {
					mustDo(t, err)
				} else if err == nil || provider.KindOf(err) == provider.KindNotFound {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestAUserOfADifferentKindOfLabelIsNotRemoved(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []keylabel.Kind{keylabel.KindLease, keylabel.KindRoot, keylabel.KindStatic} {
		if err := w.client.RemoveUser(t.Context(), provider.UserRef{AccountID: w.domain.ID(), Name: testUser, Label: label(kind)}); err == nil {
			t.Errorf("removed with a label of kind %s", kind)
		}
	}
	w.mustHaveSeen(t)
}

func TestAKeyWithoutALabelHasNoDateToMove(t *testing.T) {
	w := newWorld(t)
	for _, ref := range []provider.KeyRef{
		{ID: madeID, Expires: due}, {ID: madeID, Label: ours}, {ID: madeID, Label: "by hand", Expires: due},
	} {
		if err := w.client.MoveExpiry(t.Context(), ref); err == nil {
			t.Errorf("moved %+v", ref)
		}
	}
	_, err := w.client.CreateKey(t.Context(), provider.KeySpec{User: testUser, Label: "by hand", Expires: due})
	mustBeKind(t, err, provider.KindInvalid)
	w.mustHaveSeen(t)
}

// The name may have been given to another user since its id was remembered.
func TestTheListThatConfirmsAnAbsenceIsOfTheNamesPresentOwner(t *testing.T) {
	client, server := serve(t,
		exchange{status: 404, body: `{"error":{"message":"Could not find credential.","code":404}}`},
		exchange{status: 200, body: `{"domains":[{"id":"` + wireDomain + `"}]}`},
		exchange{status: 200, body: `{"users":[{"id":"` + wireUserID + `","name":"deploy","enabled":true}]}`},
		exchange{status: 200, body: `{"credentials":[{"access":"` + madeID + `","user_id":"` + wireUserID + `","status":"active"}]}`},
	)
	client.names.put("deploy", wireOther)
	err := client.RevokeKey(t.Context(), provider.KeyRef{AccountID: wireDomain, User: "deploy", ID: madeID, Label: ours, Expires: due})
	if err == nil || server.count() != 4 {
		t.Errorf("got %v after %d calls", err, server.count())
	}
}
