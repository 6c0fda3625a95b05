// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
)

// eimReply is an answer of the EIM endpoint, as AWS's clients read it.
type eimReply struct {
	Status int
	Code   string    `xml:"Error>Code"`
	Users  []eimUser `xml:"ListUsersResult>Users>member"`
	User   eimUser   `xml:"GetUserResult>User"`
	Keys   []eimKey  `xml:"ListAccessKeysResult>AccessKeyMetadata>member"`
	Made   eimKey    `xml:"CreateAccessKeyResult>AccessKey"`
}

// eim sends a call to the EIM endpoint, signed for the service iam.
func (c client) eim(t *testing.T, action string, parameters ...string) eimReply {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for i := 0; i+1 < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	body := []byte(form.Encode())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://eim.cloudsim.test/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	hash := sha256.Sum256(body)
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{
		Request: r, PayloadHash: hash[:], Service: "iam", Region: defaultRegion, Time: time.Now(),
		Credentials: credentials.Credentials{AccessKeyID: c.creds.AccessKey, SecretAccessKey: c.creds.SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.send(r)
	if err != nil {
		t.Fatal(err)
	}
	out := eimReply{Status: got.Status}
	if err := xml.Unmarshal(got.Raw, &out); err != nil {
		t.Fatalf("%v: %s", err, got.Raw)
	}
	return out
}

func TestTheEIMEndpointShowsTheSameUsersAndKeysAsTheAPI(t *testing.T) {
	_, a, root := newCloud()
	a.AddUser("app", "iam:Get*")
	key := a.AddKey(KeySpec{User: "app"})

	if got := root.eim(t, "ListUsers"); len(got.Users) != 1 || got.Users[0].UserName != "app" || got.Users[0].Arn != "orn:ows:idauth::123456789012:user/app" {
		t.Errorf("ListUsers: %+v", got)
	}
	if got := root.as(key).eim(t, "GetUser"); got.User.UserName != "app" {
		t.Errorf("GetUser of the caller: %+v", got)
	}
	if got := root.eim(t, "ListAccessKeys", "UserName", "app"); len(got.Keys) != 1 || got.Keys[0].AccessKeyId != key.AccessKey || got.Keys[0].Status != "Active" {
		t.Errorf("ListAccessKeys: %+v", got)
	}
	made := root.eim(t, "CreateAccessKey", "UserName", "app").Made
	if got := root.as(Credentials{made.AccessKeyId, made.SecretAccessKey}).eim(t, "GetUser"); got.User.UserName != "app" {
		t.Errorf("GetUser with the key that was made: %+v", got)
	}
	if listed := root.mustSucceed(t, "ReadAccessKeys", fields("UserName", "app")).AccessKeys; len(listed) != 2 {
		t.Errorf("the API lists %+v", listed)
	}
}

func TestTheEIMEndpointRefusesAsAWSDoes(t *testing.T) {
	cases := map[string]struct {
		policy     int64
		key        string // a secret other than the user's own
		action     string
		parameters []string
		fault      *Fault
		status     int
		code       string
	}{
		"a call without the right":                   {action: "ListUsers", status: 403, code: "AccessDenied"},
		"a call that is unknown":                     {action: "DeleteEverything", status: 400, code: "InvalidAction"},
		"a wrong secret":                             {action: "GetUser", key: "wrong", status: 403, code: "SignatureDoesNotMatch"},
		"an unknown user":                            {action: "GetUser", parameters: []string{"UserName", "nobody"}, status: 404, code: "NoSuchEntity"},
		"a key without a date where dates are asked": {action: "CreateAccessKey", policy: 3600, status: 400, code: "InvalidInput"},
		"a failure to order":                         {action: "GetUser", fault: &Fault{Kind: Refuse, Op: "eim:GetUser", Status: 503}, status: 503, code: "ServiceUnavailable"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c, a, client := newCloud()
			a.SetPolicy(Policy{MaxAccessKeyExpirationSeconds: test.policy})
			a.AddUser("app", "iam:Get*", "iam:Create*")
			key := a.AddKey(KeySpec{User: "app"})
			if test.key != "" {
				key.SecretKey = test.key
			}
			if test.fault != nil {
				c.Order(*test.fault)
			}
			if got := client.as(key).eim(t, test.action, test.parameters...); got.Status != test.status || got.Code != test.code {
				t.Errorf("got %d %s, want %d %s", got.Status, got.Code, test.status, test.code)
			}
		})
	}
}
