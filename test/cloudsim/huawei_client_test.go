// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// iamClient signs as the vendor's own SDK does: it covers User-Agent, X-Domain-Id and X-Sdk-Date, neither Host nor
// Content-Type.
type iamClient struct {
	endpoint string
	rt       http.RoundTripper
	domain   string
	creds    Credentials
	token    string
	skew     time.Duration
}

// iamReply is an answer of Huawei's as the tests look at it.
type iamReply struct {
	Status      int
	Header      http.Header
	Raw         []byte
	Credential  iamCredentialReply
	Credentials []iamCredentialReply
	User        map[string]any
	Users       []map[string]any
	Groups      []map[string]any
	Domains     []map[string]any
	Projects    []map[string]any

	ErrorCode string `json:"error_code"`
	ErrorMsg  string `json:"error_msg"`
	RequestID string `json:"request_id"`
	Error     struct {
		Message string
		Code    int
		Title   string
	}
}

type iamCredentialReply struct {
	Access, Secret, Status, Description, SecurityToken string

	UserID      string `json:"user_id"`
	CreateTime  string `json:"create_time"`
	LastUseTime string `json:"last_use_time"`
	ExpiresAt   string `json:"expires_at"`
}

// code is what tells a refusal from others: its code, or the message where the older shape has no code.
func (r iamReply) code() string {
	if r.ErrorCode != "" {
		return r.ErrorCode
	}
	return r.Error.Message
}

func newHuawei(options ...Option) (*Cloud, *Domain, iamClient) {
	c := New(options...)
	d := c.AddDomain("acme")
	return c, d, iamClient{endpoint: "http://iam.test", rt: c.Transport(), domain: d.ID(), creds: d.RootKey()}
}

func (c iamClient) as(creds Credentials) iamClient {
	c.creds = creds
	return c
}

func (c iamClient) request(ctx context.Context, method, target, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.endpoint+target, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "test/1.0  (two  spaces)")
	if body != "" {
		r.Header.Set("Content-Type", "application/json;charset=utf8")
	}
	if c.domain != "" {
		r.Header.Set("X-Domain-Id", c.domain)
	}
	if c.token != "" {
		r.Header.Set("X-Security-Token", c.token)
	}
	if c.creds.AccessKey != "" {
		r.Header.Set("X-Sdk-Date", time.Now().Add(c.skew).UTC().Format("20060102T150405Z"))
		r.Header.Set("Authorization", signSDK(r, body, c.creds))
	}
	return r, nil
}

// signSDK follows the vendor's published description. Only targets without characters to escape are used here.
func signSDK(r *http.Request, body string, creds Credentials) string {
	var headers, names []string
	for _, name := range []string{"user-agent", "x-domain-id", "x-sdk-date", "x-security-token"} {
		if value := r.Header.Get(name); value != "" {
			headers = append(headers, name+":"+value+"\n")
			names = append(names, name)
		}
	}
	path, query, _ := strings.Cut(r.URL.RequestURI(), "?")
	bodyHash := sha256.Sum256([]byte(body))
	canonical := sha256.Sum256([]byte(strings.Join([]string{
		r.Method, path + "/", query, strings.Join(headers, ""), strings.Join(names, ";"), hex.EncodeToString(bodyHash[:]),
	}, "\n")))
	h := hmac.New(sha256.New, []byte(creds.SecretKey))
	h.Write([]byte("SDK-HMAC-SHA256\n" + r.Header.Get("X-Sdk-Date") + "\n" + hex.EncodeToString(canonical[:])))
	return "SDK-HMAC-SHA256 Access=" + creds.AccessKey + ", SignedHeaders=" + strings.Join(names, ";") +
		", Signature=" + hex.EncodeToString(h.Sum(nil))
}

func (c iamClient) try(ctx context.Context, method, target, body string) (iamReply, error) {
	r, err := c.request(ctx, method, target, body)
	if err != nil {
		return iamReply{}, err
	}
	return c.send(r)
}

func (c iamClient) send(r *http.Request) (iamReply, error) {
	response, err := c.rt.RoundTrip(r)
	if err != nil {
		return iamReply{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return iamReply{}, err
	}
	out := iamReply{}
	_ = json.Unmarshal(raw, &out) // distorted answers are looked at as Raw
	out.Status, out.Header, out.Raw = response.StatusCode, response.Header, raw
	return out, nil
}

// call sends "METHOD target" whose connection must hold.
func (c iamClient) call(t *testing.T, line, body string) iamReply {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	out, err := c.try(t.Context(), method, target, body)
	if err != nil {
		t.Fatalf("%s %s: %v", line, body, err)
	}
	if out.Header.Get("X-Request-Id") == "" {
		t.Errorf("%s: an answer without X-Request-Id", line)
	}
	return out
}

func (c iamClient) must(t *testing.T, status int, line, body string) iamReply {
	t.Helper()
	out := c.call(t, line, body)
	if out.Status != status {
		t.Fatalf("%s %s: got status %d %s, want %d", line, body, out.Status, out.Raw, status)
	}
	return out
}

func (c iamClient) mustRefuse(t *testing.T, line, body string, status int, code string) iamReply {
	t.Helper()
	out := c.must(t, status, line, body)
	if !strings.Contains(out.code(), code) || out.code() == "" {
		t.Fatalf("%s %s: got %s, want %q", line, body, out.Raw, code)
	}
	return out
}

const (
	iamCredentials = "/v3.0/OS-CREDENTIAL/credentials"
	createIAMKey   = "POST " + iamCredentials
	listIAMKeys    = "GET " + iamCredentials
	showIAMKey     = "GET " + iamCredentials + "/"
	updateIAMKey   = "PUT " + iamCredentials + "/"
	deleteIAMKey   = "DELETE " + iamCredentials + "/"
)

func (c iamClient) newKey(t *testing.T, userID string) Credentials {
	t.Helper()
	made := c.must(t, 201, createIAMKey, `{"credential":{"user_id":"`+userID+`","description":"d"}}`).Credential
	return Credentials{AccessKey: made.Access, SecretKey: made.Secret}
}
