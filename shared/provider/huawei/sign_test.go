// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// The key of the vendor's example (API Request Signing Guide, api-sign-algorithm-002 to
// -005), which also gives the hash of its canonical request and its signature.
const (
	guideAccess = "QTWAOYTTINDUT2QVKYUC"
	guideSecret = "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
)

func TestTheGuidesExampleIsReproduced(t *testing.T) {
	req := newRequest(t, "GET", "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0")
	req.Header.Set("Content-Type", "application/json")
	signer{accessKey: guideAccess, secret: guideSecret, write: signer.access}.sign(req, nil, date(t, "20191115T033655Z"))

	canonical, headers := canonicalRequest(req, nil)
	if got := hexHash([]byte(canonical)); got != "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a" || headers != "content-type;host;x-sdk-date" {
		t.Errorf("the canonical request hashes to %s with the headers %s:\n%s", got, headers, canonical)
	}
	mustBeSigned(t, req, "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, "+
		"Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe")
	if got := req.Header.Get("X-Sdk-Date"); got != "20191115T033655Z" {
		t.Errorf("X-Sdk-Date is %q", got)
	}
}

// The signatures are those of the official SDK's own tests (huaweicloud-sdk-go-v3,
// core/auth/signer/signer_test.go), which sign the date alone.
func TestTheOfficialSDKsVectorsAreReproduced(t *testing.T) {
	cases := map[string]struct{ method, query, body, signature string }{
		"without a body": {"GET", "limit=1", "", "5a2ce64c865e0e6046321c6f3d5a77ba8413eeaf355c3166c03d58d02ac79624"},
		"with a body":    {"POST", "key=value", "{\"Name\":\"test\",\"Id\":1}\n", "cecc2af119b18ab70b4d094c0750f3b42c02f254903179a0fc2cc72fc9db4f59"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			req := newRequest(t, test.method, "https://example.huaweicloud.com/path?"+test.query)
			req.Host = "" // unsigned there
			signer{accessKey: "AccessKey", secret: "SecretKey", write: signer.access}.sign(req, []byte(test.body), date(t, "20060102T150405Z"))
			mustBeSigned(t, req, "SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=x-sdk-date, Signature="+test.signature)
		})
	}
}

// What gophertelekomcloud v0.9.8 (signer_helper.go) has signed with the same key and date.
func TestTheOlderDialectIsThatOfOpenTelekomCloudsClient(t *testing.T) {
	req := newRequest(t, "POST", "https://iam.eu-de.otc.t-systems.com/v3.0/OS-CREDENTIAL/credentials?b=2&a=1")
	req.Header.Set("Content-Type", "application/json;charset=utf8")
	req.Header.Set("X-Domain-Id", "0a1b2c")
	s := signer{accessKey: guideAccess, secret: guideSecret, region: "eu-de", write: signer.credential}
	s.sign(req, []byte(`{"credential":{}}`), date(t, "20261122T052329Z"))
	mustBeSigned(t, req, "SDK-HMAC-SHA256 Credential=QTWAOYTTINDUT2QVKYUC/20261122/eu-de/iam/sdk_request, "+
		"SignedHeaders=content-type;host;x-domain-id;x-sdk-date, Signature=4d8a3e5d3dfb7f9e45a43bb0a9c0fb9d206018af6b117a72abef90c83f0e40f0")
}

// The expected text is that of the official SDK's test of canonicalQueryString.
func TestAQueryIsSortedAndEscaped(t *testing.T) {
	query := url.Values{
		"limit": {"1"}, "enable": {"true"}, "test": {"一 (&=?!#%.*)"}, "path": {"/tmp/123"}, "multi": {"3", "1", "2"},
	}
	want := "enable=true&limit=1&multi=1&multi=2&multi=3&path=%2Ftmp%2F123&test=%E4%B8%80%20%28%26%3D%3F%21%23%25.%2A%29"
	if got := canonicalQuery(query); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAPathEndsInASlashWhereItIsSigned(t *testing.T) {
	for path, want := range map[string]string{
		"": "/", "/": "/", "/v3/users": "/v3/users/", "/v3/users/": "/v3/users/", "/a b/ü~": "/a%20b/%C3%BC~/",
	} {
		if got := canonicalPath(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func TestASignatureCoversWhatMatters(t *testing.T) {
	sign := func(change func(req *http.Request, body *string)) string {
		req, body := newRequest(t, "PUT", "https://iam.myhuaweicloud.eu/v3/x?a=1"), `{"a":1}`
		req.Header.Set("X-Domain-Id", "d1")
		change(req, &body)
		signer{accessKey: "AK", secret: "SK", token: "TOKEN", write: signer.access}.sign(req, []byte(body), date(t, "20260102T030405Z"))
		if req.Header.Get("X-Security-Token") != "TOKEN" {
			t.Error("the security token is missing")
		}
		return req.Header.Get("Authorization")
	}
	plain := sign(func(*http.Request, *string) {})
	if !strings.Contains(plain, "SignedHeaders=host;x-domain-id;x-sdk-date;x-security-token,") {
		t.Errorf("got %s", plain)
	}
	for name, change := range map[string]func(req *http.Request, body *string){
		"the host":    func(req *http.Request, _ *string) { req.Host = "elsewhere" },
		"the account": func(req *http.Request, _ *string) { req.Header.Set("X-Domain-Id", "d2") },
		"the path":    func(req *http.Request, _ *string) { req.URL.Path = "/v3/y" },
		"the query":   func(req *http.Request, _ *string) { req.URL.RawQuery = "a=2" },
		"the method":  func(req *http.Request, _ *string) { req.Method = "DELETE" },
		"the body":    func(_ *http.Request, body *string) { *body = `{"a":2}` },
		"the type":    func(req *http.Request, _ *string) { req.Header.Set("Content-Type", "application/json") },
	} {
		if sign(change) == plain {
			t.Errorf("%s is not signed", name)
		}
	}
	if sign(func(req *http.Request, _ *string) { req.Header.Set("User-Agent", "a proxy's") }) != plain {
		t.Error("a proxy that rewrites User-Agent would break the signature")
	}
}

func newRequest(t *testing.T, method, address string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	mustDo(t, err)
	return req
}

func date(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(signingDate, text)
	mustDo(t, err)
	return at
}

func mustBeSigned(t *testing.T, req *http.Request, want string) {
	t.Helper()
	if got := req.Header.Get("Authorization"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestADialectThatDoesNotExistIsRefused(t *testing.T) {
	_, err := New(Config{AccessKey: "AK", SecretKey: provider.Secret("SK"), Region: "eu-de", Signature: "other"})
	if err == nil || !strings.Contains(err.Error(), "is not known") {
		t.Errorf("got %v", err)
	}
}
