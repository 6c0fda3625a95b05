// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// answers is a cloud that says the same to everything.
type answers struct {
	status int
	body   string
}

// RoundTrip implements http.RoundTripper.
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(a.body)), Request: req,
	}, nil
}

// FuzzAnswer gives every call an answer that the API would not give. None panics, none takes
// it for a success that it is not, and no secret shows in an error.
func FuzzAnswer(f *testing.F) {
	const secret = "SECRETSECRETSECRETSECRETSECRETSECRETSECR"
	key := `{"AccessKeyId":"AAAAAAAAAAAAAAAAAAAA","State":"ACTIVE","CreationDate":"2026-01-01T00:00:00.000+0000","ExpirationDate":"2027-01-01"`
	for _, body := range []string{
		``, ` `, `{}`, `[]`, `null`, `<html>`, `{"AccessKey":null}`, `{"AccessKey":{}}`, `{"AccessKeys":null}`, `{"AccessKeys":[{}]}`,
		`{"AccessKey":` + key + `,"SecretKey":"` + secret + `"},"ResponseContext":{}}`,
		`{"AccessKey":` + key + `,"SecretKey":"` + secret + `"`,
		`{"AccessKeys":[` + key + `}],"ResponseContext":{}}`,
		`{"AccessKeys":[{"ExpirationDate":"never"}]}`,
		`{"Users":[{"UserName":"u","Path":"//","UserId":""}],"HasMoreItems":true}`,
		`{"Accounts":[{"AccountId":null}]}`,
		`{"ApiAccessPolicy":{"MaxAccessKeyExpirationSeconds":-1}}`,
		`{"Errors":[{"Code":"5027","Type":"InvalidResource","Details":"` + secret + `"}]}`,
		`{"Errors":[{"Code":"10005"}],"ResponseContext":{"RequestId":"` + strings.Repeat("x", 400) + `"}}`,
	} {
		for _, status := range []int{200, 201, 204, 302, 400, 401, 404, 409, 500} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 || status == 429 || status == 503 {
			return // what net/http does not let through, or the retries wait for
		}
		if strings.Contains(body, `"4120"`) || strings.Contains(body, "4000") || strings.Contains(body, `\u`) {
			return // the breaker waits for two seconds
		}
		fresh := func() *Client { // a refusal would open the breaker for the calls that follow
			return newClient(t, Config{
				AccessKey: "AAAAAAAAAAAAAAAAAAAA", SecretKey: secret, Region: "eu-west-2", Timeout: time.Second, PerSecond: 1e6, Base: answers{status, body},
			})
		}
		ref := provider.KeyRef{AccountID: testAccount, User: testUser, ID: "BBBBBBBBBBBBBBBBBBBB", Expires: time.Now().Add(time.Hour)}
		made, created := fresh().CreateKey(t.Context(), provider.KeySpec{User: testUser, Label: "l", Expires: ref.Expires})
		if created == nil && (made.ID == "" || made.Secret == "") {
			t.Errorf("%d %q: a key without id or secret: %+v", status, body, made.Key)
		}
		keys, listed := fresh().ListKeys(t.Context(), testUser)
		who, asked := fresh().WhoAmI(t.Context())
		if asked == nil && (who.AccountID == "" || who.Key.ID == "") {
			t.Errorf("%d %q: nobody: %+v", status, body, who)
		}
		policy, read := fresh().AccessPolicy(t.Context())
		if read == nil && policy.MaxKeyLifetime < 0 {
			t.Errorf("%d %q: a policy of %s", status, body, policy.MaxKeyLifetime)
		}
		errs := []error{created, listed, asked, read, fresh().MoveExpiry(t.Context(), ref), fresh().RevokeKey(t.Context(), ref)}
		if status >= 300 {
			for i, err := range errs {
				if err == nil {
					t.Errorf("%d %q: call %d succeeded, with %v", status, body, i, keys)
				}
			}
		}
		for _, err := range errs {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the secret shows in %q", err)
			}
		}
	})
}
