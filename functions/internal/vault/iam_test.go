// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/awscall"
)

// example are the credentials that AWS's documentation uses.
var example = awscall.Credentials{
	AccessKey: "AKIDEXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", SessionToken: "TOKEN", Region: "eu-west-3",
}

// TestTheLoginIsSignedAsRecomputedByHand compares with a vector that was computed apart
// from any SDK, step by step as the Signature Version 4 documentation says: a login that only
// our own code can verify would prove nothing, and moto verifies none.
func TestTheLoginIsSignedAsRecomputedByHand(t *testing.T) {
	body, err := iamLogin(t.Context(), example, "sweeper", "vault.example.com", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	headers := headersOf(t, body)
	want := "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-3/sts/aws4_request, " +
		"SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-vault-aws-iam-server-id, " +
		"Signature=1ee90f818f58bf6337ed6caf4e366de79aba24aa639153077fb8f995e2c460c7"
	if got := headers.Get("Authorization"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if headers.Get("X-Amz-Date") != "20260102T030405Z" || headers.Get("Host") != "sts.eu-west-3.amazonaws.com" {
		t.Errorf("%v", headers)
	}
}

func TestWhatALoginTellsVault(t *testing.T) {
	body, err := iamLogin(t.Context(), example, "sweeper", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the request goes to the region's STS and asks who signed it", func(t *testing.T) {
		if got := decoded(t, body["iam_request_url"]); got != "https://sts.eu-west-3.amazonaws.com/" {
			t.Errorf("got %s", got)
		}
		if got := decoded(t, body["iam_request_body"]); got != "Action=GetCallerIdentity&Version=2011-06-15" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("the secret key is nowhere in it", func(t *testing.T) {
		for name, value := range body {
			if text := value.(string); strings.Contains(text+decodedOrEmpty(text), example.SecretKey.Reveal()) {
				t.Errorf("%s shows it", name)
			}
		}
	})
	t.Run("without a server's id the header is not sent", func(t *testing.T) {
		if _, sent := headersOf(t, body)["X-Vault-Aws-Iam-Server-Id"]; sent {
			t.Error("it is sent")
		}
	})
	t.Run("China has a domain of its own", func(t *testing.T) {
		body, err := iamLogin(t.Context(), awscall.Credentials{AccessKey: "A", SecretKey: "S", Region: "cn-north-1"}, "r", "", time.Now())
		if err != nil || decoded(t, body["iam_request_url"]) != "https://sts.cn-north-1.amazonaws.com.cn/" {
			t.Errorf("%v, %v", body, err)
		}
	})
}

func headersOf(t *testing.T, body map[string]any) http.Header {
	t.Helper()
	var headers http.Header
	if err := json.Unmarshal([]byte(decoded(t, body["iam_request_headers"])), &headers); err != nil {
		t.Fatal(err)
	}
	return headers
}

func decoded(t *testing.T, value any) string {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(value.(string))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decodedOrEmpty(text string) string {
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return string(plain)
}

func TestTheLoginIsForTheRegionsOwnPartition(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-3": "https://sts.eu-west-3.amazonaws.com/", "cn-north-1": "https://sts.cn-north-1.amazonaws.com.cn/",
		"eusc-de-east-1": "https://sts.eusc-de-east-1.amazonaws.eu/", "us-gov-west-1": "https://sts.us-gov-west-1.amazonaws.com/",
		"us-iso-east-1": "https://sts.us-iso-east-1.c2s.ic.gov/",
	} {
		if got, err := awscall.Endpoint(t.Context(), "sts", region); err != nil || got != want {
			t.Errorf("got %s and error %v, want %s", got, err, want)
		}
	}
	if got, err := awscall.Endpoint(t.Context(), "sts", "no region"); err == nil {
		t.Errorf("got %s", got)
	}
}
