// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The values are those of the vendor's API Request Signing Guide (2019-11-15).
func TestSDKSignatureAgreesWithThePublishedExample(t *testing.T) {
	r, err := http.NewRequest(http.MethodGet, "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"+
		"?marker=13551d6b-755d-4757-b956-536f674975c0&limit=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Sdk-Date", "20191115T033655Z")
	auth, ok := parseSDKAuthorization("SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, " +
		"Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe")
	if !ok || auth.accessKey != "QTWAOYTTINDUT2QVKYUC" {
		t.Fatalf("parsed as %+v", auth)
	}

	canonical := sdkCanonicalRequest(r, auth.signedHeaders, nil)
	hashed := sha256.Sum256([]byte(canonical))
	if got, want := hex.EncodeToString(hashed[:]), "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"; got != want {
		t.Errorf("hash of the canonical request: got %s, want %s\n%s", got, want, canonical)
	}
	if !auth.verify(r, nil, "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc") {
		t.Error("the published signature is refused")
	}
	if auth.verify(r, nil, "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHd") {
		t.Error("the published signature is accepted for another secret")
	}
}

func TestASignedRequestToHuaweiIsVerified(t *testing.T) {
	wrong := strings.Repeat("X", 40)
	cases := map[string]struct {
		change func(*iamClient)
		tamper func(*http.Request)
		status int
		code   string
	}{
		"a good signature is accepted":          {status: 200},
		"a wrong secret is refused":             {change: func(c *iamClient) { c.creds.SecretKey = wrong }, status: 401, code: "APIGW.0301"},
		"an unknown key is refused":             {change: func(c *iamClient) { c.creds.AccessKey = wrong[:20] }, status: 401, code: "APIGW.0301"},
		"an unsigned request is refused":        {change: func(c *iamClient) { c.creds = Credentials{} }, status: 401, code: "APIGW.0301"},
		"fourteen minutes of skew are accepted": {change: func(c *iamClient) { c.skew = -14 * time.Minute }, status: 200},
		"sixteen minutes of skew are refused":   {change: func(c *iamClient) { c.skew = 16 * time.Minute }, status: 401, code: "APIGW.0303"},
		"a changed header is noticed":           {tamper: func(r *http.Request) { r.Header.Set("User-Agent", "proxy") }, status: 401, code: "APIGW.0301"},
		"a changed query is noticed":            {tamper: func(r *http.Request) { r.URL.RawQuery = "user_id=x" }, status: 401, code: "APIGW.0301"},
		"a changed method is noticed":           {tamper: func(r *http.Request) { r.Method = http.MethodPost }, status: 401, code: "APIGW.0301"},
		"without a date there is no signature":  {tamper: func(r *http.Request) { r.Header.Del("X-Sdk-Date") }, status: 401, code: "APIGW.0303"},
		"a missing domain is refused":           {change: func(c *iamClient) { c.domain = "" }, status: 401, code: "APIGW.0301"},
		"another domain is refused":             {change: func(c *iamClient) { c.domain = "0" }, status: 403, code: "IAM.0002"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, root := newHuawei()
				if test.change != nil {
					test.change(&root)
				}
				r, err := root.request(t.Context(), http.MethodGet, iamCredentials, "")
				if err != nil {
					t.Fatal(err)
				}
				if test.tamper != nil {
					test.tamper(r)
				}
				got, err := root.send(r)
				if err != nil || got.Status != test.status || got.ErrorCode != test.code {
					t.Errorf("got %v %d %s, want %d %s", err, got.Status, got.Raw, test.status, test.code)
				}
			})
		})
	}
}

// signOld signs the date alone in the older dialect, which derives its key step by step and may leave region and service empty.
func signOld(r *http.Request, body string, creds Credentials, scope ...string) {
	date := r.Header.Get("X-Sdk-Date")
	scope = append([]string{date[:8]}, scope...)
	key := []byte("SDK" + creds.SecretKey)
	for _, part := range scope {
		key = hmacOf(key, part)
	}
	canonical := fmt.Sprintf("%s\n%s/\n\nx-sdk-date:%s\n\nx-sdk-date\n%x", r.Method, r.URL.Path, date, sha256.Sum256([]byte(body)))
	text := fmt.Sprintf("SDK-HMAC-SHA256\n%s\n%s\n%x", date, strings.Join(scope, "/"), sha256.Sum256([]byte(canonical)))
	r.Header.Set("Authorization", fmt.Sprintf("SDK-HMAC-SHA256 Credential=%s/%s, SignedHeaders=x-sdk-date, Signature=%x",
		creds.AccessKey, strings.Join(scope, "/"), hmacOf(key, text)))
}

func hmacOf(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func TestTheOlderDialectIsVerifiedToo(t *testing.T) {
	for name, test := range map[string]struct {
		secret string
		scope  []string
		status int
	}{
		"without region and service": {scope: []string{"", "", "sdk_request"}, status: 200},
		"with region and service":    {scope: []string{"eu-de", "iam", "sdk_request"}, status: 200},
		"with another end":           {scope: []string{"", "", "aws4_request"}, status: 401},
		"with another secret":        {scope: []string{"", "", "sdk_request"}, secret: "X", status: 401},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, root := newHuawei(WithHuaweiRules(HuaweiRules{OldDialectOnly: true}))
			root.mustRefuse(t, listIAMKeys, "", 401, "APIGW.0301")
			r, err := root.request(t.Context(), http.MethodGet, iamCredentials, "")
			if err != nil {
				t.Fatal(err)
			}
			creds := root.creds
			creds.SecretKey += test.secret
			signOld(r, "", creds, test.scope...)
			if got, err := root.send(r); err != nil || got.Status != test.status {
				t.Errorf("got %v %d %s, want %d", err, got.Status, got.Raw, test.status)
			}
		})
	}
}
