// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// witness is a testing.TB that keeps what the judge reports.
type witness struct {
	testing.TB
	reports []string
}

func (w *witness) Errorf(format string, args ...any) {
	w.reports = append(w.reports, fmt.Sprintf(format, args...))
}

// send signs and sends one call through the transport and returns the body of the answer.
func send(t *testing.T, rt http.RoundTripper, creds cloudsim.Credentials, op, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cloudsim.test/api/v1/"+op, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(body))
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{
		Request: r, PayloadHash: hash[:], Service: "oapi", Region: "eu-west-2",
		Credentials: credentials.Credentials{AccessKeyID: creds.AccessKey, SecretAccessKey: creds.SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func TestEveryAnswerOfTheSimulationFitsTheDescription(t *testing.T) {
	cloud := cloudsim.New()
	account := cloud.AddAccount("123456789012")
	account.AddUser("deploy", "api:*")
	expires := time.Now().Add(time.Hour)
	root := account.AddKey(cloudsim.KeySpec{Expires: expires})
	id := account.AddKey(cloudsim.KeySpec{User: "deploy", Tag: "t", Expires: expires}).AccessKey
	account.DeleteKey(account.RootKey().AccessKey)
	rt := New(t).Wrap(cloud.Transport())

	for _, call := range []struct {
		op, body string
		status   int
	}{
		{"CreateAccessKey", `{"UserName":"deploy","Tag":"x"}`, 200},
		{"CreateAccessKey", `{"ExpirationDate":"2001-01-01"}`, 400},
		{"ReadAccessKeys", `{"UserName":"deploy","Tag":"t","Filters":{"States":["ACTIVE"]}}`, 200},
		{"DeleteAccessKey", fmt.Sprintf(`{"UserName":"deploy","AccessKeyId":%q}`, id), 409},
		{"UpdateAccessKey", fmt.Sprintf(`{"UserName":"deploy","State":"INACTIVE","AccessKeyId":%q}`, id), 200},
		{"DeleteAccessKey", fmt.Sprintf(`{"UserName":"deploy","AccessKeyId":%q}`, id), 200},
		{"CreateUser", `{"UserName":"new","Path":"/a/"}`, 200},
		{"CreateUser", `{"UserName":"new"}`, 409},
		{"ReadUsers", `{"FirstItem":0,"ResultsPerPage":1}`, 200},
		{"DeleteUser", `{"UserName":"new"}`, 200},
		{"DeleteUser", `{"UserName":"deploy"}`, 409},
		{"ReadApiAccessPolicy", `{}`, 200},
		{"UpdateApiAccessPolicy", `{"MaxAccessKeyExpirationSeconds":0,"RequireTrustedEnv":false,"RequireTrustedEnvSecureMode":false}`, 200},
		{"ReadAccounts", `{}`, 200},
		{"ReadAccounts", `{"DryRun":true}`, 200},
		{"ReadRegions", `{}`, 200},
		{"ReadVms", `{}`, 200},
	} {
		if status, body := send(t, rt, root, call.op, call.body); status != call.status {
			t.Errorf("%s %s: got %d %s, want %d", call.op, call.body, status, body, call.status)
		}
	}
}

func TestTheJudgeCatchesWrongRequests(t *testing.T) {
	cases := map[string]struct{ op, body, want string }{
		"an unknown parameter":    {"CreateAccessKey", `{"ExpiryDate":"2099-01-01"}`, "CreateAccessKey: the request"},
		"a wrong type":            {"UpdateApiAccessPolicy", `{"MaxAccessKeyExpirationSeconds":"900","RequireTrustedEnv":false,"RequireTrustedEnvSecureMode":false}`, "/MaxAccessKeyExpirationSeconds"},
		"a missing parameter":     {"UpdateApiAccessPolicy", `{"MaxAccessKeyExpirationSeconds":900,"RequireTrustedEnv":false}`, "RequireTrustedEnvSecureMode"},
		"a body that is null":     {"ReadAccessKeys", `null`, "ReadAccessKeys: the request"},
		"a call that is not ours": {"GetCallerIdentity", `{}`, "no such call"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			cloud := cloudsim.New()
			root := cloud.AddAccount("123456789012").RootKey()
			w := &witness{TB: t}
			send(t, New(w).Wrap(cloud.Transport()), root, test.op, test.body)
			if len(w.reports) != 1 || !strings.Contains(w.reports[0], test.want) {
				t.Errorf("got reports %q, want one with %q", w.reports, test.want)
			}
		})
	}
}

// canned answers every request alike.
type canned struct {
	status int
	body   string
	header http.Header
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: c.header, Body: io.NopCloser(bytes.NewReader([]byte(c.body))), Request: r}, nil
}

func TestTheJudgeCatchesWrongAnswers(t *testing.T) {
	cases := map[string]struct {
		answer canned
		caught bool
	}{
		"an unknown field":               {canned{status: 200, body: `{"AccessKey":{"Owner":"x"}}`}, true},
		"a wrong type":                   {canned{status: 200, body: `{"AccessKey":{"Tag":[]}}`}, true},
		"a truncated body":               {canned{status: 200, body: `{"AccessKey":{"Ta`}, true},
		"an empty body":                  {canned{status: 200}, true},
		"an error of another shape":      {canned{status: 400, body: `{"message":"no"}`}, true},
		"an error with a numeric code":   {canned{status: 400, body: `{"Errors":[{"Type":"x","Details":"","Code":4120}]}`}, true},
		"an error without a code":        {canned{status: 400, body: `{"Errors":[{"Type":"x"}]}`}, true},
		"not a good answer":              {canned{status: 200, body: `{"AccessKey":{"Tag":"t"}}`}, false},
		"not a good error":               {canned{status: 400, body: `{"Errors":[{"Type":"x","Details":"","Code":"1"}]}`}, false},
		"not what a fault has distorted": {canned{status: 200, body: `{`, header: http.Header{faultHeader: {"rubbish_answer"}}}, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := &witness{TB: t}
			_, body := send(t, New(w).Wrap(test.answer), cloudsim.Credentials{AccessKey: "A", SecretKey: "S"}, "CreateAccessKey", "{}")
			if caught := len(w.reports) > 0; caught != test.caught {
				t.Errorf("got reports %q, want any: %v", w.reports, test.caught)
			}
			if body != test.answer.body {
				t.Errorf("the answer was changed to %q", body)
			}
		})
	}
}

func TestAReportNeverQuotesASecret(t *testing.T) {
	const secret = "SECRETSECRETSECRETSECRETSECRETSECRETSECR"
	w := &witness{TB: t}
	answer := canned{status: 200, body: `{"AccessKey":{"SecretKey":["` + secret + `"]}}`}
	send(t, New(w).Wrap(answer), cloudsim.Credentials{AccessKey: "A", SecretKey: "S"}, "CreateAccessKey", "{}")
	if len(w.reports) != 1 || strings.Contains(w.reports[0], secret) {
		t.Errorf("got %q", w.reports)
	}
}
