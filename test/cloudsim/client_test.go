// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
)

const testAccount = "123456789012"

// client signs with AWS's own signer, so that the cloud's verification is tested against foreign code.
type client struct {
	endpoint string
	rt       http.RoundTripper
	creds    Credentials
	region   string
	service  string
	skew     time.Duration
}

// reply is an answer as the tests look at it.
type reply struct {
	Status     int
	Header     http.Header
	Raw        []byte
	AccessKey  accessKey
	AccessKeys []accessKey
	User       user
	Users      []user
	Errors     []struct{ Type, Details, Code string }

	HasMoreItems    bool
	ApiAccessPolicy *struct {
		MaxAccessKeyExpirationSeconds int64
		RequireTrustedEnv             bool
		RequireTrustedEnvSecureMode   bool
		Fourth                        json.RawMessage
	}
	ResponseContext struct{ RequestId string }
}

func (r reply) code() string {
	if len(r.Errors) == 0 {
		return ""
	}
	return r.Errors[0].Code
}

// newCloud returns a cloud with one account and a client with its root key, without sockets.
func newCloud(options ...Option) (*Cloud, *Account, client) {
	c := New(options...)
	a := c.AddAccount(testAccount)
	return c, a, client{endpoint: "http://cloudsim.test/api/v1", rt: c.Transport(), creds: a.RootKey()}
}

func (c client) as(creds Credentials) client {
	c.creds = creds
	return c
}

func (c client) request(ctx context.Context, op, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/"+op, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.creds.AccessKey == "" {
		return r, nil
	}
	region, service := c.region, c.service
	if region == "" {
		region = defaultRegion
	}
	if service == "" {
		service = signingService
	}
	hash := sha256.Sum256([]byte(body))
	return r, sigv4.New().SignRequest(&sigv4.SignRequestInput{
		Request:     r,
		PayloadHash: hash[:],
		Credentials: credentials.Credentials{AccessKeyID: c.creds.AccessKey, SecretAccessKey: c.creds.SecretKey},
		Service:     service,
		Region:      region,
		Time:        time.Now().Add(c.skew),
	})
}

// try sends a call and returns the answer or the failure of the connection.
func (c client) try(ctx context.Context, op, body string) (reply, error) {
	r, err := c.request(ctx, op, body)
	if err != nil {
		return reply{}, err
	}
	return c.send(r)
}

func (c client) send(r *http.Request) (reply, error) {
	response, err := c.rt.RoundTrip(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, err
	}
	out := reply{}
	_ = json.Unmarshal(raw, &out) // distorted answers are looked at as Raw
	out.Status, out.Header, out.Raw = response.StatusCode, response.Header, raw
	return out, nil
}

// call sends a call whose connection must hold.
func (c client) call(t *testing.T, op, body string) reply {
	t.Helper()
	out, err := c.try(t.Context(), op, body)
	if err != nil {
		t.Fatalf("%s %s: %v", op, body, err)
	}
	return out
}

func (c client) mustSucceed(t *testing.T, op, body string) reply {
	t.Helper()
	out := c.call(t, op, body)
	if out.Status != http.StatusOK {
		t.Fatalf("%s %s: got status %d %v, want 200", op, body, out.Status, out.Errors)
	}
	return out
}

func (c client) mustRefuse(t *testing.T, op, body string, status int, code string) reply {
	t.Helper()
	out := c.call(t, op, body)
	if out.Status != status || out.code() != code {
		t.Fatalf("%s %s: got status %d code %q (%s), want %d code %q", op, body, out.Status, out.code(), out.Raw, status, code)
	}
	return out
}

// in returns a date a while from now, as a client would send it.
func in(d time.Duration) string { return time.Now().Add(d).UTC().Format("2006-01-02T15:04:05.000Z") }

// fields encodes a request from names and values.
func fields(pairs ...any) string {
	object := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		object[pairs[i].(string)] = pairs[i+1]
	}
	encoded, err := json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

// pass lets time go by; in a synctest bubble that takes none.
func pass(d time.Duration) { <-time.After(d) }
