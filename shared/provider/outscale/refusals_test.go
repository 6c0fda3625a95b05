// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestRefusalsAreClassifiedByTheirFamilyOfCodes(t *testing.T) {
	cases := []struct {
		code   string
		status int
		want   provider.Kind
	}{
		{"0", 400, provider.KindUnknown},
		{"0", 500, provider.KindAmbiguous},
		{"1", 401, provider.KindKeyRefused},
		{"2", 401, provider.KindKeyRefused},
		{"20", 401, provider.KindKeyRefused},
		{"4", 401, provider.KindDenied},
		{"5", 401, provider.KindDenied},
		{"7", 401, provider.KindDenied},
		{"8", 403, provider.KindDenied},
		{"14", 401, provider.KindDenied},
		{"11", 401, provider.KindLockedOut},
		{"13", 401, provider.KindLockedOut},
		{"6", 503, provider.KindThrottled},
		{"24", 429, provider.KindThrottled},
		{"25", 429, provider.KindThrottled},
		{"1000", 424, provider.KindAmbiguous},
		{"1001", 424, provider.KindAmbiguous},
		{"4000", 400, provider.KindNotFound},
		{"4001", 400, provider.KindInvalid},
		{"4003", 400, provider.KindInvalid},
		{"4047", 400, provider.KindInvalid},
		{"4105", 400, provider.KindInvalid},
		{"4108", 400, provider.KindInvalid},
		{"4110", 400, provider.KindInvalid},
		{"4116", 400, provider.KindInvalid},
		{"4117", 400, provider.KindInvalid},
		{"4120", 400, provider.KindKeyUnclear},
		{"5020", 400, provider.KindNotFound},
		{"5027", 400, provider.KindNotFound},
		{"5060", 400, provider.KindNotFound},
		{"5071", 400, provider.KindNotFound},
		{"5075", 400, provider.KindNotFound},
		{"6003", 409, provider.KindConflict},
		{"6007", 409, provider.KindConflict},
		{"9008", 409, provider.KindConflict},
		{"9018", 409, provider.KindConflict},
		{"9022", 409, provider.KindConflict},
		{"9028", 409, provider.KindConflict},
		{"9085", 409, provider.KindConflict},
		{"10001", 400, provider.KindQuota},
		{"10005", 400, provider.KindQuota},
		{"10022", 400, provider.KindQuota},
		{"11000", 400, provider.KindUnknown},
		{"3999", 400, provider.KindUnknown},
	}
	for _, test := range cases {
		t.Run("code "+test.code+" with "+http.StatusText(test.status), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: test.status, Code: test.code})
				_, err := w.client.CreateKey(t.Context(), provider.KeySpec{User: testUser, Expires: later(time.Hour)})
				mustBeKind(t, err, test.want)
				if err == nil || !strings.Contains(err.Error(), "code "+test.code) || !strings.Contains(err.Error(), "[request id ") {
					t.Errorf("the error lacks the code or the request id: %v", err)
				}
			})
		})
	}
}

func TestAnswersWithoutOurErrorFormat(t *testing.T) {
	cases := map[string]struct {
		status int
		body   string
		write  provider.Kind
		read   provider.Kind
	}{
		"a gateway's page":               {502, "<html>", provider.KindAmbiguous, provider.KindUnreachable},
		"a gateway's timeout":            {504, "", provider.KindAmbiguous, provider.KindUnreachable},
		"a gateway that is overloaded":   {503, "<html>", provider.KindAmbiguous, provider.KindUnreachable},
		"a page of 401":                  {401, "<html>", provider.KindUnknown, provider.KindUnknown},
		"a page of 403":                  {403, "<html>", provider.KindUnknown, provider.KindUnknown},
		"a page of 404":                  {404, "404 page not found", provider.KindUnknown, provider.KindUnknown},
		"a page of 429":                  {429, "slow down", provider.KindThrottled, provider.KindThrottled},
		"a page of 400":                  {400, "<html>", provider.KindUnknown, provider.KindUnknown},
		"the format of the old gateways": {400, `{"__type":"UnknownOperationException"}`, provider.KindUnknown, provider.KindUnknown},
		"no errors in the list":          {400, `{"Errors":[]}`, provider.KindUnknown, provider.KindUnknown},
		"a code that is no number":       {400, `{"Errors":[{"Code":"x"}]}`, provider.KindUnknown, provider.KindUnknown},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				body := test.body
				if body == "" {
					body = " "
				}
				fault := cloudsim.Fault{Kind: cloudsim.Refuse, Status: test.status, Body: body}
				w := newWorld(t)
				w.cloud.Order(fault)
				_, err := w.client.CreateKey(t.Context(), provider.KeySpec{})
				mustBeKind(t, err, test.write)
				if test.status != 429 && w.cloud.CountCalls("CreateAccessKey") != 1 {
					t.Errorf("the create was sent %d times", w.cloud.CountCalls("CreateAccessKey"))
				}
				w = newWorld(t)
				w.cloud.Order(fault)
				_, err = w.client.ListKeys(t.Context(), "")
				mustBeKind(t, err, test.read)
				switch got := w.cloud.CountCalls("ReadAccessKeys"); {
				case test.status == 503 && got != 4, test.status == 429 && got < 10, test.status != 503 && test.status != 429 && got != 1:
					t.Errorf("the read was sent %d times", got)
				}
			})
		})
	}
}

func TestBothSpellingsOfTheQuotaAreKnown(t *testing.T) {
	for _, rules := range []cloudsim.Rules{{}, {QuotaExceededSpelling: true}} {
		w := newWorld(t, cloudsim.WithRules(rules), cloudsim.WithQuota(1))
		w.key(cloudsim.KeySpec{User: testUser})
		_, err := w.client.CreateKey(t.Context(), provider.KeySpec{User: testUser})
		mustBeKind(t, err, provider.KindQuota)
	}
}

func TestTheCloudsWordsAreMadeFitForAMessage(t *testing.T) {
	w := newWorld(t)
	secret := w.config.SecretKey.Reveal()
	hostile := `{"Errors":[{"Code":"4110\u0007","Type":"Type ` + secret + `","Details":"line\nbreak \u001b[31m\u202e ` + secret + ` ` +
		strings.Repeat("é", 500) + `"}],"ResponseContext":{"RequestId":"` + secret + strings.Repeat("x", 1000) + `"}}`
	w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Body: hostile})
	_, err := w.client.CreateKey(t.Context(), provider.KeySpec{})
	text := err.Error()
	if strings.Contains(text, secret) || strings.ContainsAny(text, "\n\a\x1b\u202e") {
		t.Errorf("got %q", text)
	}
	if !utf8.ValidString(text) || len(text) > 3*provider.MaxSaid {
		t.Errorf("got %d bytes, valid UTF-8: %v", len(text), utf8.ValidString(text))
	}
}

func FuzzReadRefusal(f *testing.F) {
	f.Add(400, []byte(`{"Errors":[{"Type":"InvalidParameterValue","Details":"","Code":"4120"}],"ResponseContext":{"RequestId":"1f2e"}}`))
	f.Add(401, []byte(`{"Errors":[{"Type":"AccessDenied","Details":"locked for 60 seconds","Code":"13"}]}`))
	f.Add(503, []byte(`{"Errors":null}`))
	f.Add(400, []byte(`{"Errors":[{"Code":4000}]}`))
	f.Add(400, []byte(`{"Errors":[null]}`))
	f.Add(502, []byte(`<html>bad gateway</html>`))
	f.Add(400, []byte(`{"__type":"x"}`))
	f.Add(400, []byte(nil))
	client, err := New(Config{AccessKey: "AK", SecretKey: "SECRETSECRET", Region: "eu-west-2", PerSecond: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := readRefusal(status, body)
		if r.kind() == "" {
			t.Error("a refusal without a kind")
		}
		if gone := r.kind() == provider.KindNotFound; gone && r.number() != 4000 && r.number()/1000 != 5 {
			t.Errorf("%q is taken for an object that is gone", body)
		}
		if view := client.clean(r.explained()); len(view) > provider.MaxSaid+len("…") || strings.Contains(view, "SECRETSECRET") {
			t.Errorf("got %q", view)
		}
	})
}

func TestAllErrorsOfAnAnswerAreJudged(t *testing.T) {
	cases := map[string]struct {
		status int
		body   string
		want   provider.Kind
		says   string
	}{
		"the second is a missing right": {
			400, `{"Errors":[{"Code":"4001","Details":"one"},{"Code":"7","Details":"two"}]}`, provider.KindDenied, "one two",
		},
		"not all say that it does not exist": {400, `{"Errors":[{"Code":"4000"},{"Code":"4110"}]}`, provider.KindInvalid, "4110"},
		"one of them says nothing":           {400, `{"Errors":[{"Code":"4000"},{}]}`, provider.KindUnknown, ""},
		"one of them cannot be read":         {400, `{"Errors":[{"Code":"4000"},"4000"]}`, provider.KindUnknown, ""},
		"all say that it does not exist":     {400, `{"Errors":[{"Code":"4000"},{"Code":"5075"}]}`, provider.KindNotFound, "4000"},
		"the code is a number":               {400, `{"Errors":[{"Code":10005,"Type":"TooManyResources"}]}`, provider.KindQuota, "10005"},
		"the code is null":                   {400, `{"Errors":[{"Code":null}]}`, provider.KindUnknown, ""},
		"throttled, and refused as well":     {401, `{"Errors":[{"Code":"24"},{"Code":"1"}]}`, provider.KindKeyRefused, ""},
		"they stand in no list":              {400, `{"Errors":{"Code":"4000"}}`, provider.KindNotFound, "4000"},
		"the context is none":                {400, `{"Errors":[{"Code":"10005"}],"ResponseContext":"x"}`, provider.KindQuota, "10005"},
		"the request id is a number":         {400, `{"Errors":[{"Code":"10005"}],"ResponseContext":{"RequestId":12}}`, provider.KindQuota, "[request id 12]"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Config{
				AccessKey: "AAAAAAAAAAAAAAAAAAAA", SecretKey: "s", Region: "eu-west-2", Timeout: time.Second, PerSecond: 1e6, Base: answers{test.status, test.body},
			})
			err := c.deleteKey(t.Context(), provider.KeyRef{ID: "BBBBBBBBBBBBBBBBBBBB"})
			mustBeKind(t, err, test.want)
			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestASuccessWithErrorsInItIsNone(t *testing.T) {
	const refused = `"ResponseContext":{"RequestId":"r"},"Errors":[{"Code":"4110","Type":"InvalidParameterValue","Details":"no"}]`
	cases := map[string]struct {
		op   string
		body string
		try  func(c *Client) error
		want provider.Kind
	}{
		"a delete": {"DeleteAccessKey", `{` + refused + `}`, func(c *Client) error {
			return c.DeleteKey(t.Context(), provider.KeyRef{AccountID: testAccount, ID: "BBBBBBBBBBBBBBBBBBBB"})
		}, provider.KindInvalid},
		"a create, which may have made something": {
			"CreateAccessKey", `{"AccessKey":{"AccessKeyId":"A","SecretKey":"S","State":"ACTIVE"},` + refused + `}`, func(c *Client) error {
				_, err := c.CreateKey(t.Context(), provider.KeySpec{User: testUser, Expires: later(time.Hour)})
				return err
			}, provider.KindAmbiguous,
		},
		"a list, which is not whole": {"ReadAccessKeys", `{"AccessKeys":[],` + refused + `}`, func(c *Client) error {
			_, err := c.ListKeys(t.Context(), testUser)
			return err
		}, provider.KindInvalid},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.Order(cloudsim.Fault{Op: test.op, Kind: cloudsim.RubbishAnswer, Status: 200, Body: test.body})
			err := test.try(w.client)
			mustBeKind(t, err, test.want)
			if err != nil && !strings.Contains(err.Error(), "code 4110") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnEmptyListOfErrorsIsASuccess(t *testing.T) {
	w := newWorld(t)
	w.cloud.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.RubbishAnswer, Status: 200, Body: `{"AccessKeys":[],"Errors":[]}`})
	keys, err := w.client.ListKeys(t.Context(), testUser)
	mustDo(t, err)
	if len(keys) != 0 {
		t.Errorf("got %+v", keys)
	}
}

func TestAPageInBetweenIsNeverReadAsAMissingPermission(t *testing.T) {
	for _, status := range []int{401, 403, 407} {
		c := newClient(t, Config{
			AccessKey: "AAAAAAAAAAAAAAAAAAAA", SecretKey: "s", Region: "eu-west-2", Timeout: time.Second, PerSecond: 1e6,
			Base: answers{status, "<html><body>Access denied: ask for the permission</body></html>"},
		})
		_, err := c.ListKeys(t.Context(), testUser)
		mustBeKind(t, err, provider.KindUnknown)
		if err == nil || !strings.Contains(err.Error(), "such as a proxy or a gateway") {
			t.Errorf("got %v", err)
		}
	}
}
