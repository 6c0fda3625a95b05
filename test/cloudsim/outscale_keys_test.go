// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"fmt"
	"regexp"
	"testing"
	"time"
)

func TestAnAccessKeyHasTheFormOfTheRealOnes(t *testing.T) {
	c, a, root := newCloud()
	made := root.mustSucceed(t, "CreateAccessKey", `{"ExpirationDate":"2099-02-18","Tag":"t"}`)

	for what, check := range map[string]struct{ got, pattern string }{
		"AccessKeyId":    {made.AccessKey.AccessKeyId, `^[A-Z0-9]{20}$`},
		"SecretKey":      {made.AccessKey.SecretKey, `^[A-Z0-9]{40}$`},
		"CreationDate":   {made.AccessKey.CreationDate, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$`},
		"ExpirationDate": {made.AccessKey.ExpirationDate, `^2099-02-18T00:00:00\.000\+0000$`},
		"State":          {made.AccessKey.State, `^ACTIVE$`},
		"Tag":            {made.AccessKey.Tag, `^t$`},
		"RequestId":      {made.ResponseContext.RequestId, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`},
		"Date":           {made.Header.Get("Date"), ` GMT$`},
	} {
		if !regexp.MustCompile(check.pattern).MatchString(check.got) {
			t.Errorf("%s: got %q, want %s", what, check.got, check.pattern)
		}
	}
	root.as(Credentials{made.AccessKey.AccessKeyId, made.AccessKey.SecretKey}).mustSucceed(t, "ReadVms", "{}")

	for _, listed := range root.mustSucceed(t, "ReadAccessKeys", "{}").AccessKeys {
		if listed.SecretKey != "" {
			t.Errorf("the list shows a secret of %s", listed.AccessKeyId)
		}
	}
	if got := len(c.Secrets()); got != 2 || len(a.Keys()) != 2 {
		t.Errorf("got %d secrets and %d keys, want 2", got, len(a.Keys()))
	}
}

func TestAnExpirationDateIsReadAsISO8601(t *testing.T) {
	cases := map[string]struct {
		date   string
		want   string // as answered; "" if refused
		code   string
		status int
	}{
		"with fraction and Z":             {date: "2099-01-02T03:04:05.678Z", want: "2099-01-02T03:04:05.000+0000"},
		"without fraction":                {date: "2099-01-02T03:04:05Z", want: "2099-01-02T03:04:05.000+0000"},
		"with the API's own zone":         {date: "2099-01-02T03:04:05.000+0000", want: "2099-01-02T03:04:05.000+0000"},
		"with a zone with a colon":        {date: "2099-01-02T03:04:05+01:00", want: "2099-01-02T02:04:05.000+0000"},
		"in the basic form":               {date: "20990102T030405Z", want: "2099-01-02T03:04:05.000+0000"},
		"as a date, which means midnight": {date: "2099-01-02", want: "2099-01-02T00:00:00.000+0000"},
		"empty is an unknown type":        {date: "", status: 400, code: "4108"},
		"in another form is refused":      {date: "2/1/2099", status: 400, code: "4108"},
		"in the past is refused":          {date: "2001-01-01T00:00:00Z", status: 400, code: codePolicy},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, root := newCloud()
			body := fields("ExpirationDate", test.date)
			if test.want == "" {
				root.mustRefuse(t, "CreateAccessKey", body, test.status, test.code)
				return
			}
			if got := root.mustSucceed(t, "CreateAccessKey", body).AccessKey.ExpirationDate; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestTheEleventhKeyOfAnIdentityIsRefused(t *testing.T) {
	_, a, root := newCloud()
	a.AddUser("deploy")
	for i := range 8 {
		root.mustSucceed(t, "CreateAccessKey", fields("UserName", "deploy", "Tag", fmt.Sprint(i)))
	}
	a.AddKey(KeySpec{User: "deploy", Inactive: true})
	a.AddKey(KeySpec{User: "deploy", Expires: time.Now().Add(-time.Hour)})

	refused := root.mustRefuse(t, "CreateAccessKey", `{"UserName":"deploy"}`, 400, "10005")
	if got := refused.Errors[0].Type; got != "TooManyResources (QuotaExceded)" {
		t.Errorf("got type %q", got)
	}
	root.mustSucceed(t, "CreateAccessKey", "{}") // another identity has its own quota
}

func TestKeysAreListedPerIdentityAndFiltered(t *testing.T) {
	_, a, root := newCloud()
	a.AddUser("deploy", "api:*")
	one := a.AddKey(KeySpec{User: "deploy", Tag: "one"})
	a.AddKey(KeySpec{User: "deploy", Tag: "one more", Inactive: true})
	a.AddKey(KeySpec{User: "deploy", Expires: time.Now().Add(-time.Hour)})

	cases := map[string]struct {
		as   Credentials
		body string
		want int
	}{
		"without a name the caller's own":         {root.creds, `{}`, 1},
		"a user's own, when the user asks":        {one, `{}`, 3},
		"the named user's":                        {root.creds, `{"UserName":"deploy"}`, 3},
		"by exact tag":                            {root.creds, `{"UserName":"deploy","Tag":"one"}`, 1},
		"by id":                                   {root.creds, fields("UserName", "deploy", "Filters", map[string]any{"AccessKeyIds": []string{one.AccessKey}}), 1},
		"by another identity's id":                {root.creds, fields("Filters", map[string]any{"AccessKeyIds": []string{one.AccessKey}}), 0},
		"by state, where expired keys are ACTIVE": {root.creds, `{"UserName":"deploy","Filters":{"States":["ACTIVE"]}}`, 2},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got := root.as(test.as).mustSucceed(t, "ReadAccessKeys", test.body).AccessKeys
			if len(got) != test.want {
				t.Errorf("got %d keys, want %d", len(got), test.want)
			}
		})
	}
}

func TestAUsersKeyMustBeInactiveBeforeItIsDeleted(t *testing.T) {
	_, a, root := newCloud()
	id := a.AddKey(KeySpec{User: "deploy", Expires: time.Now().Add(time.Hour)}).AccessKey
	body := fields("AccessKeyId", id, "UserName", "deploy")

	root.mustRefuse(t, "DeleteAccessKey", fields("AccessKeyId", id), 400, "4000")
	root.mustRefuse(t, "DeleteAccessKey", body, 409, "6003")
	root.mustSucceed(t, "UpdateAccessKey", fields("AccessKeyId", id, "UserName", "deploy", "State", "INACTIVE", "ExpirationDate", in(time.Hour)))
	root.mustSucceed(t, "DeleteAccessKey", body)
	root.mustRefuse(t, "DeleteAccessKey", body, 400, "4000")

	t.Run("but the root user's key need not be", func(t *testing.T) {
		root.mustSucceed(t, "DeleteAccessKey", fields("AccessKeyId", a.AddKey(KeySpec{}).AccessKey))
	})
	t.Run("nor where the rules say so", func(t *testing.T) {
		_, a, root := newCloud(WithRules(Rules{DeleteActiveUserKeys: true}))
		id := a.AddKey(KeySpec{User: "deploy"}).AccessKey
		root.mustSucceed(t, "DeleteAccessKey", fields("AccessKeyId", id, "UserName", "deploy"))
	})
}

func TestAnExpiredKeyIsUndeletableWhereTheRulesSaySo(t *testing.T) {
	_, a, root := newCloud(WithRules(Rules{RefuseExpiredDelete: true}))
	id := a.AddKey(KeySpec{Expires: time.Now().Add(-time.Hour)}).AccessKey

	root.mustRefuse(t, "DeleteAccessKey", fields("AccessKeyId", id), 409, "6003")
	root.mustSucceed(t, "UpdateAccessKey", fields("AccessKeyId", id, "State", "INACTIVE", "ExpirationDate", in(time.Hour)))
	root.mustSucceed(t, "DeleteAccessKey", fields("AccessKeyId", id))
}

func TestAnUpdateThatDoesNotResendTheDateMakesTheKeyImmortal(t *testing.T) {
	for name, test := range map[string]struct {
		rules   Rules
		policy  int64
		more    []any
		status  int
		forever bool
	}{
		"as documented":                      {status: 200, forever: true},
		"which a policy refuses":             {policy: 7200, status: 400},
		"unless the rules keep the date":     {rules: Rules{KeepDateOnUpdate: true}, policy: 7200, status: 200},
		"unless the date is resent":          {policy: 7200, more: []any{"ExpirationDate", in(time.Hour)}, status: 200},
		"and so does ClearExpirationDate":    {rules: Rules{KeepDateOnUpdate: true}, more: []any{"ClearExpirationDate", true}, status: 200, forever: true},
		"and a past date is refused as such": {more: []any{"ExpirationDate", in(-time.Hour)}, status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, root := newCloud(WithRules(test.rules))
			a.SetPolicy(Policy{MaxAccessKeyExpirationSeconds: test.policy})
			id := a.AddKey(KeySpec{Expires: time.Now().Add(time.Hour)}).AccessKey

			got := root.call(t, "UpdateAccessKey", fields(append([]any{"AccessKeyId", id, "State", "INACTIVE"}, test.more...)...))
			if got.Status != test.status {
				t.Fatalf("got %d %s, want %d", got.Status, got.Raw, test.status)
			}
			k, _ := a.Key(id)
			if k.Expires.IsZero() != test.forever {
				t.Errorf("got expiry %s", k.Expires)
			}
			if wantState := map[bool]string{true: Inactive, false: Active}[test.status == 200]; k.State != wantState {
				t.Errorf("got state %s, want %s", k.State, wantState)
			}
		})
	}
}

func TestAnUpdateReplacesOrClearsTheTag(t *testing.T) {
	_, a, root := newCloud()
	id := a.AddKey(KeySpec{Tag: "old"}).AccessKey

	root.mustSucceed(t, "UpdateAccessKey", fields("AccessKeyId", id))
	root.mustSucceed(t, "UpdateAccessKey", fields("AccessKeyId", id, "Tag", "new"))
	if k, _ := a.Key(id); k.Tag != "new" {
		t.Errorf("got tag %q, want new", k.Tag)
	}
	root.mustSucceed(t, "UpdateAccessKey", fields("AccessKeyId", id, "Tag", "ignored", "ClearTag", true))
	if k, _ := a.Key(id); k.Tag != "" {
		t.Errorf("got tag %q, want none", k.Tag)
	}
}

func TestParametersAreCheckedStrictly(t *testing.T) {
	cases := map[string]struct{ op, body, code string }{
		"an unknown parameter":             {"CreateAccessKey", `{"Tags":"x"}`, codeParameter},
		"a parameter in another case":      {"CreateAccessKey", `{"tag":"x"}`, codeParameter},
		"an unknown filter":                {"ReadAccessKeys", `{"Filters":{"Tags":["x"]}}`, codeParameter},
		"a parameter of another type":      {"CreateAccessKey", `{"Tag":1}`, codeType},
		"a null":                           {"CreateAccessKey", `{"Tag":null}`, codeType},
		"a body that is null":              {"CreateAccessKey", `null`, codeType},
		"a body that is not JSON":          {"CreateAccessKey", `x`, codeType},
		"no body":                          {"CreateAccessKey", ``, codeType},
		"a missing key id on an update":    {"UpdateAccessKey", `{}`, codeMissing},
		"a missing key id on a delete":     {"DeleteAccessKey", `{}`, codeMissing},
		"an unknown user":                  {"CreateAccessKey", `{"UserName":"nobody"}`, "5075"},
		"an unknown user on a list":        {"ReadAccessKeys", `{"UserName":"nobody"}`, "5075"},
		"an unknown key on an update":      {"UpdateAccessKey", `{"AccessKeyId":"NONE"}`, "4000"},
		"half a policy":                    {"UpdateApiAccessPolicy", `{"RequireTrustedEnv":false}`, codeMissing},
		"the other half of a policy":       {"UpdateApiAccessPolicy", `{"MaxAccessKeyExpirationSeconds":0}`, codeMissing},
		"a page of no users":               {"ReadUsers", `{"ResultsPerPage":0}`, codeValue},
		"a user name with a slash":         {"CreateUser", `{"UserName":"a/b"}`, codeValue},
		"a user path without a last slash": {"CreateUser", `{"UserName":"a","Path":"/x"}`, codeValue},
	}
	for name, test := range cases {
		t.Run(name+" is refused", func(t *testing.T) {
			_, _, root := newCloud()
			root.mustRefuse(t, test.op, test.body, 400, test.code)
		})
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	_, a, root := newCloud()
	weak := root.as(a.AddKey(KeySpec{User: "weak"}))

	root.mustSucceed(t, "CreateAccessKey", `{"DryRun":true}`)
	weak.mustRefuse(t, "CreateAccessKey", `{"DryRun":true}`, 401, "7")
	if got := len(a.Keys()); got != 2 {
		t.Errorf("got %d keys, want 2", got)
	}
}
