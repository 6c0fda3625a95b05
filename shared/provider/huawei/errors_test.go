// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// old is IAM's own shape, in which the code is the status once more.
func old(message string) string {
	return `{"error":{"message":"` + message + `","code":400,"title":"Bad Request"}}`
}

// flat is the shape of the gateway and of IAM's newer calls.
func flat(code, message string) string {
	return `{"error_msg":"` + message + `","error_code":"` + code + `","request_id":"1f2e"}`
}

func TestRefusalsAreClassified(t *testing.T) {
	const bad = "Incorrect IAM authentication information: "
	cases := map[string]struct {
		status  int
		body    string
		want    provider.Kind
		verdict transport.Verdict
	}{
		"two keys are the most":              {400, old("akSkNumExceed"), provider.KindQuota, transport.Accepted},
		"the same with nulls":                {400, `{"error":{"code":400,"error_code":null,"error_msg":null,"message":"akSkNumExceed","title":"Bad Request"}}`, provider.KindQuota, transport.Accepted},
		"the account's users":                {400, flat("1115", "The number of IAM users has reached the maximum allowed limit."), provider.KindQuota, transport.Accepted},
		"a name that is taken":               {400, flat("1109", "The username already exists."), provider.KindConflict, transport.Accepted},
		"the same as a number":               {400, `{"error":{"message":"exists","code":1109}}`, provider.KindConflict, transport.Accepted},
		"a conflict":                         {409, `{"error":{"code":409,"error_code":null,"message":"Conflict occurred","title":"Conflict"}}`, provider.KindConflict, transport.Accepted},
		"a key that is gone":                 {404, `{"error":{"message":"Could not find credential: X.","code":404,"title":"Not Found"}}`, provider.KindNotFound, transport.Accepted},
		"a user that is gone":                {404, flat("IAM.0004", "Could not find user: X."), provider.KindNotFound, transport.Accepted},
		"the same with another status":       {400, old("Could not find user: X."), provider.KindNotFound, transport.Accepted},
		"not yet replicated":                 {404, flat("PAP5.0012", "not found"), provider.KindNotFound, transport.Accepted},
		"no such API":                        {404, flat("APIGW.0101", "The API does not exist or has not been published in the environment"), provider.KindUnreachable, transport.Silent},
		"no such API, elsewhere":             {404, flat("APIG.0101", "The API does not exist"), provider.KindUnreachable, transport.Silent},
		"another 404 of the gateway":         {404, flat("APIGW.0106", "Orchestration error"), provider.KindUnreachable, transport.Silent},
		"a page of 404":                      {404, "<html>", provider.KindUnknown, transport.Silent},
		"an empty 404":                       {404, "{}", provider.KindUnknown, transport.Silent},
		"a missing parameter":                {400, flat("IAM.0011", "Invalid request body"), provider.KindInvalid, transport.Accepted},
		"a bad name":                         {400, flat("1101", "Invalid username."), provider.KindInvalid, transport.Accepted},
		"a page of 400":                      {400, "<html>", provider.KindUnknown, transport.Silent},
		"no permission":                      {403, old("You are not authorized"), provider.KindDenied, transport.Accepted},
		"no permission, newer":               {403, flat("PAP5.0001", "access denied"), provider.KindDenied, transport.Accepted},
		"the key's user is disabled":         {403, flat("IAM.0080", "disabled"), provider.KindKeyRefused, transport.Refused},
		"some user is disabled":              {403, flat("IAM.0082", "disabled"), provider.KindDenied, transport.Accepted},
		"a blocked key":                      {400, flat("IAM.1104", "blacklist"), provider.KindKeyRefused, transport.Refused},
		"an inactive key":                    {400, flat("IAM.1107", "inactive"), provider.KindKeyRefused, transport.Refused},
		"an unknown key":                     {401, flat("APIGW.0301", bad+"ak XXXX not exist"), provider.KindKeyUnclear, transport.Unclear},
		"an unknown key, in other words":     {401, flat("APIG.0301", bad+"Get secretKey failed,ak:X,err:ak not exist"), provider.KindKeyUnclear, transport.Unclear},
		"a bad signature":                    {401, flat("APIGW.0301", bad+"verify aksk signature fail"), provider.KindKeyRefused, transport.Refused},
		"a locked key":                       {401, flat("APIGW.0301", bad+"AK access failed to reach the limit,forbidden."), provider.KindLockedOut, transport.Locked},
		"a clock that is wrong":              {401, flat("APIGW.0303", "Incorrect app authentication information: signature expired"), provider.KindClockWrong, transport.WrongTime},
		"a clock, in the words of signature": {401, flat("APIGW.0301", bad+"calc ak sk signature fail:signature expired"), provider.KindClockWrong, transport.WrongTime},
		"a bad token":                        {401, `{"error":{"code":401,"message":"The X-Auth-Token is invalid!","title":"Unauthorized"}}`, provider.KindUnknown, transport.Silent},
		"a page of 401":                      {401, "<html>", provider.KindUnknown, transport.Silent},
		"a page of 403":                      {403, "<html>", provider.KindUnknown, transport.Silent},
		"a 403 that says nothing":            {403, "", provider.KindUnknown, transport.Silent},
		"throttled by the gateway":           {429, flat("APIGW.0308", "policy user over ratelimit"), provider.KindThrottled, transport.Silent},
		"throttled by an older gateway":      {429, flat("APIG.0308", "policy user over ratelimit"), provider.KindThrottled, transport.Silent},
		"throttled by IAM":                   {429, flat("IAM.0012", "threshold: 10 times per 1 seconds"), provider.KindThrottled, transport.Silent},
		"throttled, under another status":    {403, flat("APIGW.0308", "policy user over ratelimit"), provider.KindThrottled, transport.Silent},
		"the same by IAM":                    {400, flat("IAM.0012", "threshold: 10 times per 1 seconds"), provider.KindThrottled, transport.Silent},
		"throttled by a page":                {429, "slow down", provider.KindThrottled, transport.Silent},
		"an error inside":                    {500, flat("IAM.0006", "error"), provider.KindAmbiguous, transport.Silent},
		"a gateway's page":                   {502, "<html>", provider.KindAmbiguous, transport.Silent},
		"a redirect":                         {302, "", provider.KindUnreachable, transport.Silent},
		"an error that is a string":          {400, `{"error":"invalid"}`, provider.KindUnknown, transport.Silent},
		"an error that is a list":            {404, `{"error":[{"message":"x"}]}`, provider.KindUnknown, transport.Silent},
		"JSON that is no object":             {404, `["Could not find credential"]`, provider.KindUnknown, transport.Silent},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			r := readRefusal(test.status, http.Header{}, []byte(test.body))
			if got := r.kind(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			resp := &http.Response{StatusCode: test.status, Body: readable(test.body)}
			got, again := verdictOf(resp)
			if got != test.verdict {
				t.Errorf("the breaker hears %v, want %v", got, test.verdict)
			}
			want := map[transport.Verdict]time.Duration{transport.Locked: 5 * time.Minute, transport.WrongTime: time.Minute}[test.verdict]
			if again != want {
				t.Errorf("a call is to try after %s, want %s", again, want)
			}
		})
	}
}

func TestARefusalSaysWhatCanBeDone(t *testing.T) {
	cases := map[string]struct {
		answer exchange
		want   []string
	}{
		"the clock": {
			exchange{status: 401, body: flat("APIGW.0303", "signature expired")},
			[]string{"set the clock", "HTTP 401", "code APIGW.0303", "[request id 1f2e]"},
		},
		"the endpoint": {exchange{status: 404, body: flat("APIGW.0101", "x")}, []string{"no IAM API at this endpoint", "region"}},
		"a page":       {exchange{status: 404, body: "<html>"}, []string{"no IAM API at this endpoint"}},
		"a redirect":   {exchange{status: 302, header: map[string]string{"Location": "https://login.example"}}, []string{"redirect"}},
		"IAM's own words": {
			exchange{status: 403, body: old("not permitted"), header: map[string]string{"X-IAM-Trace-Id": "token_cn_abc"}},
			[]string{"not permitted", "[request id token_cn_abc]"},
		},
		"the gateway's request id first": {
			exchange{status: 403, body: flat("IAM.0002", "x"), header: map[string]string{"X-Request-Id": "r1", "X-IAM-Trace-Id": "t1"}}, []string{"[request id r1]"},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, test.answer)
			_, err := client.ListKeys(t.Context(), "")
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestTheCloudsWordsAreMadeFitForAMessage(t *testing.T) {
	hostile := `{"error_code":"X\u0007","error_msg":"line\nbreak \u001b[31m\u202e ` + wireSecret + ` ` + strings.Repeat("é", 500) + `","request_id":"` + wireSecret + strings.Repeat("x", 1000) + `"}`
	client, _ := serve(t, exchange{status: 400, body: hostile})
	_, err := client.ListKeys(t.Context(), "")
	mustHide(t, err, wireSecret)
	text := err.Error()
	if strings.ContainsAny(text, "\n\a\x1b\u202e") || !utf8.ValidString(text) || len(text) > 3*provider.MaxSaid {
		t.Errorf("got %q", text)
	}
}

func FuzzReadRefusal(f *testing.F) {
	f.Add(400, []byte(old("akSkNumExceed")))
	f.Add(401, []byte(flat("APIGW.0301", "ak X not exist")))
	f.Add(404, []byte(`{"error":{"message":"Could not find credential: X.","code":404}}`))
	f.Add(404, []byte(`{"error_code":"APIGW.0101"}`))
	f.Add(503, []byte(`{"error":null}`))
	f.Add(400, []byte(`{"error":{"code":{"a":1},"message":[1]}}`))
	f.Add(502, []byte(`<html>bad gateway</html>`))
	f.Add(400, []byte(nil))
	client, err := New(Config{AccessKey: "AK", SecretKey: "SECRETSECRET", Region: "eu-west-101", PerSecond: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := readRefusal(status, http.Header{}, body)
		if r.kind() == "" {
			t.Error("a refusal without a kind")
		}
		if r.kind() == provider.KindNotFound && (r.empty() || r.gateway() == "0101" || status < 400) {
			t.Errorf("%d %q is taken for an object that is gone", status, body)
		}
		if view := client.clean(r.message); len(view) > provider.MaxSaid+len("…") || strings.Contains(view, "SECRETSECRET") {
			t.Errorf("got %q", view)
		}
	})
}

// A gateway's page may come with a 200. It must not end the pause after a refusal: each time the page goes, a dead key would be tried anew.
func TestASuccessThatIsNotTheCloudsSaysNothingOfTheKey(t *testing.T) {
	for body, test := range map[string]struct {
		status int
		want   transport.Verdict
	}{
		`{"users":[]}`: {200, transport.Accepted},
		"":             {204, transport.Accepted},
		"<html>":       {200, transport.Silent},
		" \n":          {200, transport.Silent},
		"ok":           {204, transport.Silent},
	} {
		t.Run(strconv.Itoa(test.status)+" "+body, func(t *testing.T) {
			if got, _ := verdictOf(&http.Response{StatusCode: test.status, Body: readable(body)}); got != test.want {
				t.Errorf("the breaker hears %v, want %v", got, test.want)
			}
		})
	}
}
