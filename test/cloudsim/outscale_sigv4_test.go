// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The values are those of AWS's own walk through Signature Version 4 (IAM ListUsers, 2015-08-30).
func TestSigV4AgreesWithAWSsPublishedExample(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	r, err := http.NewRequest(http.MethodGet, "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")

	canonical := canonicalRequest(r, []string{"content-type", "host", "x-amz-date"}, nil)
	hashed := sha256.Sum256([]byte(canonical))
	got := hex.EncodeToString(hashed[:])
	if want := "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"; got != want {
		t.Errorf("hash of the canonical request: got %s, want %s\n%s", got, want, canonical)
	}

	key := signingKey(signings[0], secret, "20150830", "us-east-1", "iam")
	if want := "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"; hex.EncodeToString(key) != want {
		t.Errorf("signing key: got %x, want %s", key, want)
	}
	text := "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n" + got
	if want := "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"; hex.EncodeToString(mac(key, text)) != want {
		t.Errorf("signature: got %x, want %s", mac(key, text), want)
	}
}

// The signature was made by OUTSCALE's SDK for Python (osc-sdk-python 0.42.0, its clock held at that time).
func TestASignatureOfOUTSCALEsOwnDialectIsVerified(t *testing.T) {
	const (
		secret        = "0123456789ABCDEFGHIJ0123456789ABCDEFGHIJ"
		body          = `{"UserName": "app"}`
		authorization = "OSC4-HMAC-SHA256 Credential=ABCDEFGHIJ0123456789/20261122/eu-west-2/api/osc4_request, SignedHeaders=content-type;host;x-osc-date, " +
			"Signature=3274e03a60e409c9ac51dedc3e51e30e3f35b92951ee23b366ce3ddae1ade1c0"
	)
	signedAt := time.Date(2026, 11, 22, 6, 45, 0, 0, time.UTC)
	cases := map[string]struct {
		url, body, secret string
		now               time.Time
		want              bool
	}{
		"as it was made":              {"https://api.eu-west-2.outscale.com/api/v1/ReadAccessKeys", body, secret, signedAt, true},
		"with repeated slashes":       {"https://api.eu-west-2.outscale.com//api/v1//ReadAccessKeys", body, secret, signedAt, true},
		"for another call":            {"https://api.eu-west-2.outscale.com/api/v1/ReadUsers", body, secret, signedAt, false},
		"for another host":            {"https://api.us-east-2.outscale.com/api/v1/ReadAccessKeys", body, secret, signedAt, false},
		"with another body":           {"https://api.eu-west-2.outscale.com/api/v1/ReadAccessKeys", "{}", secret, signedAt, false},
		"with another secret":         {"https://api.eu-west-2.outscale.com/api/v1/ReadAccessKeys", body, strings.Repeat("X", 40), signedAt, false},
		"twenty minutes after it was": {"https://api.eu-west-2.outscale.com/api/v1/ReadAccessKeys", body, secret, signedAt.Add(20 * time.Minute), false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(http.MethodPost, test.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			r.Header.Set("X-Osc-Date", "20261122T064500Z")
			auth, err := parseAuthorization(authorization)
			if err != nil {
				t.Fatal(err)
			}
			if got := auth.verify(r, []byte(test.body), test.secret, test.now); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestASignatureIsVerified(t *testing.T) {
	cases := map[string]struct {
		change  func(*client)
		tamper  func(*http.Request)
		options []Option
		status  int
		code    string
	}{
		"a good signature is accepted":                     {status: 200},
		"the region's own name is accepted in the scope":   {options: []Option{WithRegion("us-east-2")}, change: func(c *client) { c.region = "us-east-2" }, status: 200},
		"the SDK's constant region is accepted everywhere": {options: []Option{WithRegion("us-east-2")}, status: 200},
		"another region in the scope is refused":           {change: func(c *client) { c.region = "us-east-2" }, status: 401, code: "1"},
		"another region passes where the rules say so":     {options: []Option{WithRules(Rules{AnyScopeRegion: true})}, change: func(c *client) { c.region = "us-east-2" }, status: 200},
		"another service is refused":                       {change: func(c *client) { c.service = "api" }, status: 401, code: "1"},
		"a wrong secret is refused":                        {change: func(c *client) { c.creds.SecretKey = strings.Repeat("X", 40) }, status: 401, code: "1"},
		"an unknown key is an invalid parameter":           {change: func(c *client) { c.creds.AccessKey = strings.Repeat("X", 20) }, status: 400, code: "4120"},
		"an unsigned request is refused":                   {change: func(c *client) { c.creds = Credentials{} }, status: 401, code: "1"},
		"fourteen minutes of skew are accepted":            {change: func(c *client) { c.skew = -14 * time.Minute }, status: 200},
		"sixteen minutes of skew are refused":              {change: func(c *client) { c.skew = 16 * time.Minute }, status: 401, code: "1"},
		"another host than the signed one is refused":      {tamper: func(r *http.Request) { r.Host = "other.test" }, status: 401, code: "1"},
		"another call than the signed one is refused":      {tamper: func(r *http.Request) { r.URL.Path = "/api/v1/ReadVms" }, status: 401, code: "1"},
		"a query that was not signed is refused":           {tamper: func(r *http.Request) { r.URL.RawQuery = "a=b" }, status: 401, code: "1"},
		"another body than the signed one is refused": {tamper: func(r *http.Request) {
			r.Body = http.NoBody
		}, status: 401, code: "1"},
		"another scheme than SigV4 is refused": {tamper: func(r *http.Request) { r.SetBasicAuth("a", "b") }, status: 401, code: "1"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, c := newCloud(test.options...)
			if test.change != nil {
				test.change(&c)
			}
			r, err := c.request(t.Context(), "ReadAccounts", "{}")
			if err != nil {
				t.Fatal(err)
			}
			if test.tamper != nil {
				test.tamper(r)
			}
			got, err := c.send(r)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != test.status || got.code() != test.code {
				t.Errorf("got %d %s, want %d code %q", got.Status, got.Raw, test.status, test.code)
			}
		})
	}
}

func TestAKeyThatIsNotLiveCannotSign(t *testing.T) {
	for name, rules := range map[string]Rules{"harsh": {}, "unknown": {UnknownForDeadKeys: true}} {
		t.Run("under the rules "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status, code := 401, "1"
				if rules.UnknownForDeadKeys {
					status, code = 400, "4120"
				}
				_, a, root := newCloud(WithRules(rules))
				short := root.as(a.AddKey(KeySpec{Expires: time.Now().Add(time.Minute)}))
				short.mustSucceed(t, "ReadVms", "{}")
				pass(time.Minute)
				short.mustRefuse(t, "ReadVms", "{}", status, code)
				root.as(a.AddKey(KeySpec{Inactive: true})).mustRefuse(t, "ReadVms", "{}", status, code)
			})
		})
	}
}

func TestANewKeyIsUnknownUntilItsActivationDelayIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, root := newCloud(WithRules(Rules{ActivationDelay: 5 * time.Second, ListingDelay: 2 * time.Second}))
		made := root.mustSucceed(t, "CreateAccessKey", "{}").AccessKey
		fresh := root.as(Credentials{made.AccessKeyId, made.SecretKey})

		fresh.mustRefuse(t, "ReadVms", "{}", 400, "4120")
		if n := len(root.mustSucceed(t, "ReadAccessKeys", "{}").AccessKeys); n != 1 {
			t.Errorf("listed at once: got %d keys, want the old one only", n)
		}
		pass(5 * time.Second)
		fresh.mustSucceed(t, "ReadVms", "{}")
		if n := len(root.mustSucceed(t, "ReadAccessKeys", "{}").AccessKeys); n != 2 {
			t.Errorf("listed later: got %d keys, want 2", n)
		}
	})
}
