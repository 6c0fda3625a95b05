// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const madeKey = `{"credential":{"access":"P83EVBZJMXCYTMUIAAAA","create_time":"2026-01-08T06:25:19.014028Z","user_id":"` + wireUserID +
	`","description":"` + ours + `/until/2026-11-22T10:00:00Z","secret":"TTqAHPbhWorg9ozx8Dv9MUyzYnOKDppxzHt12345","status":"active"}}`

const (
	madeSecret = "TTqAHPbhWorg9ozx8Dv9MUyzYnOKDppxzHt12345"
	madeID     = "P83EVBZJMXCYTMUIAAAA"
)

var due = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// wireCalls are all calls as the API's reference has them.
func wireCalls() map[string]struct {
	do     func(ctx context.Context, c *Client) error
	answer exchange
	target string
	body   string
} {
	ref := provider.KeyRef{AccountID: wireDomain, User: "deploy", ID: madeID, Label: ours, Expires: due}
	user := provider.User{ID: wireUserID, Name: "deploy"}
	switchedOff := strings.Replace(madeKey, `"active"`, `"inactive"`, 1)
	return map[string]struct {
		do     func(ctx context.Context, c *Client) error
		answer exchange
		target string
		body   string
	}{
		"create a key": {
			func(ctx context.Context, c *Client) error {
				_, err := c.CreateKey(ctx, provider.KeySpec{User: "deploy", Label: ours, Expires: due})
				return err
			},
			exchange{status: 201, body: madeKey},
			"POST /v3.0/OS-CREDENTIAL/credentials",
			`{"credential":{"user_id":"` + wireUserID + `","description":"` + ours + `/until/2026-11-22T10:00:00Z"}}`,
		},
		"list keys": {
			func(ctx context.Context, c *Client) error { _, err := c.ListKeys(ctx, "deploy"); return err },
			exchange{status: 200, body: `{"credentials":[]}`},
			"GET /v3.0/OS-CREDENTIAL/credentials?user_id=" + wireUserID, "",
		},
		"list the caller's own keys": {
			func(ctx context.Context, c *Client) error { _, err := c.ListKeys(ctx, ""); return err },
			exchange{status: 200, body: `{"credentials":[]}`},
			"GET /v3.0/OS-CREDENTIAL/credentials", "",
		},
		"move a date": {
			func(ctx context.Context, c *Client) error { return c.MoveExpiry(ctx, ref) },
			exchange{status: 200, body: madeKey},
			"PUT /v3.0/OS-CREDENTIAL/credentials/" + madeID, `{"credential":{"description":"` + ours + `/until/2026-11-22T10:00:00Z"}}`,
		},
		"switch a key off": {
			func(ctx context.Context, c *Client) error { return c.DeactivateKey(ctx, ref) },
			exchange{status: 200, body: switchedOff},
			"PUT /v3.0/OS-CREDENTIAL/credentials/" + madeID, `{"credential":{"status":"inactive","description":"` + ours + `/until/2026-11-22T10:00:00Z"}}`,
		},
		"switch off a key of somebody else's": {
			func(ctx context.Context, c *Client) error {
				return c.DeactivateKey(ctx, provider.KeyRef{ID: madeID, Label: "by hand <&>"})
			},
			exchange{status: 200, body: switchedOff},
			"PUT /v3.0/OS-CREDENTIAL/credentials/" + madeID, `{"credential":{"status":"inactive"}}`,
		},
		"delete a key": {
			func(ctx context.Context, c *Client) error { return c.DeleteKey(ctx, ref) },
			exchange{status: 204},
			"DELETE /v3.0/OS-CREDENTIAL/credentials/" + madeID, "",
		},
		"show its own key": {
			func(ctx context.Context, c *Client) error { _, err := c.OwnKey(ctx); return err },
			exchange{status: 200, body: strings.ReplaceAll(madeKey, madeID, wireAccess)},
			"GET /v3.0/OS-CREDENTIAL/credentials/" + wireAccess, "",
		},
		"create a user": {
			func(ctx context.Context, c *Client) error {
				_, err := c.CreateUser(ctx, provider.UserSpec{Name: "job-1", Path: "/", Label: ours})
				return err
			},
			exchange{status: 201, body: `{"user":{"id":"` + wireOther + `","name":"job-1","enabled":true,"password":null,"pwd_status":false}}`},
			"POST /v3.0/OS-USER/users",
			`{"user":{"name":"job-1","domain_id":"` + wireDomain + `","description":"` + ours + `","access_mode":"programmatic","enabled":true}}`,
		},
		"join a group": {
			func(ctx context.Context, c *Client) error { return c.joinGroup(ctx, user.ID, wireOther) },
			exchange{status: 204},
			"PUT /v3/groups/" + wireOther + "/users/" + wireUserID, "",
		},
		"list groups": {
			func(ctx context.Context, c *Client) error { _, err := c.groupIDs(ctx); return err },
			exchange{status: 200, body: `{"groups":[],"links":{"self":"x","previous":null,"next":null}}`},
			"GET /v3/groups?domain_id=" + wireDomain, "",
		},
		"a session of its own": {
			func(ctx context.Context, c *Client) error {
				_, err := c.CreateSession(ctx, provider.SessionSpec{Lifetime: time.Hour})
				return err
			},
			exchange{status: 201, body: sessionAnswer},
			"POST /v3.0/OS-CREDENTIAL/securitytokens",
			`{"auth":{"identity":{"methods":["token"],"token":{"duration_seconds":3600}}}}`,
		},
		"a session of an agency": {
			func(ctx context.Context, c *Client) error {
				_, err := c.CreateSession(ctx, provider.SessionSpec{
					Agency: "builders", AgencyDomain: "acme", Policy: `{"Version":"1.1"}`, Name: "job-1", Lifetime: 15 * time.Minute,
				})
				return err
			},
			exchange{status: 201, body: sessionAnswer},
			"POST /v3.0/OS-CREDENTIAL/securitytokens",
			`{"auth":{"identity":{"methods":["assume_role"],"assume_role":{"agency_name":"builders","domain_name":"acme","duration_seconds":900,"session_user":{"name":"job-1"}},"policy":{"Version":"1.1"}}}}`,
		},
		"a session of an agency of its own account": {
			func(ctx context.Context, c *Client) error {
				_, err := c.CreateSession(ctx, provider.SessionSpec{Agency: "builders", Lifetime: 24 * time.Hour})
				return err
			},
			exchange{status: 201, body: sessionAnswer},
			"POST /v3.0/OS-CREDENTIAL/securitytokens",
			`{"auth":{"identity":{"methods":["assume_role"],"assume_role":{"agency_name":"builders","domain_id":"` + wireDomain + `","duration_seconds":86400}}}}`,
		},
	}
}

const sessionAnswer = `{"credential":{"access":"E6DX0TF2ZREQ4ZAAAAAA","expires_at":"2026-04-17T07:55:18.575000Z","secret":"w9ePum0qdfac39ErLD0UdjofYkqort6Iw0qhaaaa","securitytoken":"gQpjbi1ub3J0aC0xAAAA"}}`

func TestCallsAsTheyGoOverTheWire(t *testing.T) {
	for name, test := range wireCalls() {
		t.Run(name, func(t *testing.T) {
			client, server := serve(t, test.answer)
			client.justMade("deploy", wireUserID)
			mustDo(t, test.do(t.Context(), client))
			got := server.sent(t)
			if got.target != test.target || got.body != test.body {
				t.Errorf("sent %s\n%s\nwant %s\n%s", got.target, got.body, test.target, test.body)
			}
			signed, want := "host;x-domain-id;x-sdk-date", ""
			if test.body != "" {
				signed, want = "content-type;"+signed, "application/json;charset=utf8"
			}
			if !strings.HasPrefix(got.header.Get("Authorization"), "SDK-HMAC-SHA256 Access="+wireAccess+", SignedHeaders="+signed+", Signature=") ||
				got.header.Get("Content-Type") != want || got.header.Get("X-Domain-Id") != wireDomain || got.header.Get("User-Agent") != "cloudkeys-test" {
				t.Errorf("the headers are %v", got.header)
			}
			for _, secret := range []string{wireSecret, madeSecret} {
				if strings.Contains(fmt.Sprint(got), secret) {
					t.Error("a secret was sent")
				}
			}
		})
	}
}

func TestOnlyTheOneStatusIsASuccess(t *testing.T) {
	for name, test := range wireCalls() {
		t.Run(name, func(t *testing.T) {
			for _, status := range []int{200, 201, 202, 204, 302, 307, 418} {
				if status == test.answer.status {
					continue
				}
				answer := test.answer
				answer.status, answer.header = status, map[string]string{"Location": "http://127.0.0.1:1/"}
				if status == 204 {
					answer.body = ""
				}
				client, server := serve(t, answer)
				client.justMade("deploy", wireUserID)
				if err := test.do(t.Context(), client); err == nil {
					t.Errorf("%d passed for a success", status)
				} else {
					mustHide(t, err, madeSecret, wireSecret)
				}
				server.sent(t)
			}
		})
	}
}

// The case that defeats the official SDK: its error quotes the secret key.
func TestAnAnswerCutAnywhereShowsNoSecret(t *testing.T) {
	for cut := range len(madeKey) {
		client, server := serve(t, exchange{status: 201, body: madeKey[:cut]})
		client.justMade("deploy", wireUserID)
		key, err := client.CreateKey(t.Context(), provider.KeySpec{User: "deploy", Label: ours, Expires: due})
		mustBeKind(t, err, provider.KindAmbiguous)
		mustHide(t, err, madeSecret, wireSecret)
		if key != (provider.IssuedKey{}) || server.count() != 1 {
			t.Fatalf("got %v after %d calls", key, server.count())
		}
	}
}

func TestAnAnswerToACreateIsHeldAgainstTheRequest(t *testing.T) {
	for name, body := range map[string]string{
		"the secret beside a number": strings.Replace(madeKey, `"active"`, `7`, 1),
		"the secret in the date":     strings.Replace(madeKey, "2026-01-08T06:25:19.014028Z", madeSecret, 1),
		"the secret in the id":       strings.Replace(madeKey, madeID, madeSecret+"/", 1),
		"no secret":                  strings.Replace(madeKey, madeSecret, "", 1),
		"no id":                      strings.Replace(madeKey, madeID, "", 1),
		"another user":               strings.Replace(madeKey, wireUserID, wireOther, 1),
		"null":                       "null",
		"an empty object":            "{}",
		"a list":                     "[" + madeKey + "]",
		"something behind it":        madeKey + madeSecret,
		"a page":                     "<html>" + madeSecret,
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, exchange{status: 201, body: body})
			client.justMade("deploy", wireUserID)
			_, err := client.CreateKey(t.Context(), provider.KeySpec{User: "deploy", Label: ours, Expires: due})
			mustBeKind(t, err, provider.KindAmbiguous)
			mustHide(t, err, madeSecret, wireSecret)
		})
	}
}

// An answer about another key is no success, whatever its status.
func TestAnAnswerToAChangeIsHeldAgainstTheRequest(t *testing.T) {
	other := strings.Replace(madeKey, madeID, "OTHEROTHEROTHEROTHER", 1)
	ref := provider.KeyRef{AccountID: wireDomain, User: "deploy", ID: madeID, Label: ours, Expires: due}
	for name, change := range map[string]func(*Client) error{
		"MoveExpiry":    func(c *Client) error { return c.MoveExpiry(t.Context(), ref) },
		"DeactivateKey": func(c *Client) error { return c.DeactivateKey(t.Context(), ref) },
		"RevokeKey":     func(c *Client) error { return c.RevokeKey(t.Context(), ref) },
		"RelabelKey":    func(c *Client) error { return c.RelabelKey(t.Context(), ref) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []string{other, "{}", "null"} {
				client, server := serve(t, exchange{status: 200, body: body})
				err := change(client)
				mustBeKind(t, err, provider.KindAmbiguous)
				mustHide(t, err, madeSecret)
				server.sent(t)
			}
		})
	}
}

func TestAKeyThatIsStillActiveWasNotSwitchedOff(t *testing.T) {
	ref := provider.KeyRef{AccountID: wireDomain, User: "deploy", ID: madeID, Label: ours, Expires: due}
	for name, change := range map[string]func(*Client) error{
		"DeactivateKey": func(c *Client) error { return c.DeactivateKey(t.Context(), ref) },
		"RevokeKey":     func(c *Client) error { return c.RevokeKey(t.Context(), ref) },
	} {
		for _, body := range []string{madeKey, strings.Replace(madeKey, `"active"`, `""`, 1)} {
			client, server := serve(t, exchange{status: 200, body: body})
			err := change(client)
			mustBeKind(t, err, provider.KindAmbiguous)
			if err != nil && !strings.Contains(err.Error(), "in another state than was asked for") {
				t.Errorf("%s: got %v", name, err)
			}
			server.sent(t)
		}
	}
}

func TestTheCreatedKeyIsReadWhole(t *testing.T) {
	client, _ := serve(t, exchange{status: 201, body: madeKey})
	client.justMade("deploy", wireUserID)
	key, err := client.CreateKey(t.Context(), provider.KeySpec{User: "deploy", Label: ours, Expires: due})
	mustDo(t, err)
	want := provider.IssuedKey{Key: provider.Key{
		ID: madeID, User: "deploy", UserID: wireUserID, Label: ours, Active: true, Created: time.Date(2026, 1, 8, 6, 25, 19, 14_028_000, time.UTC), Due: due,
	}, Secret: madeSecret}
	if key != want {
		t.Errorf("got %v, want %v", key, want)
	}
}

func TestARedirectIsNeverFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was sent to another address", r.URL.Path)
	}))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		client, _ := serve(t, exchange{status: status, header: map[string]string{"Location": elsewhere.URL}})
		for range 2 { // nor does it say anything of the key
			mustBeKind(t, client.DeleteKey(t.Context(), provider.KeyRef{ID: madeID}), provider.KindUnreachable)
		}
	}
}

func TestAnIDThatIsNoneEntersNoPath(t *testing.T) {
	client, server := serve(t, exchange{status: 204})
	for _, id := range []string{"", ".", "..", "A/../B?x=1", "a%2fb", "a b", "Ä", strings.Repeat("A", 129), "A\n"} {
		ref := provider.KeyRef{AccountID: wireDomain, ID: id, Label: ours, Expires: due}
		for name, err := range map[string]error{
			"RevokeKey":     client.RevokeKey(t.Context(), ref),
			"DeleteKey":     client.DeleteKey(t.Context(), ref),
			"DeactivateKey": client.DeactivateKey(t.Context(), ref),
			"MoveExpiry":    client.MoveExpiry(t.Context(), ref),
			"GrantUser":     client.joinGroup(t.Context(), id, wireOther),
		} {
			if provider.KindOf(err) != provider.KindInvalid {
				t.Errorf("%s of %q: got %v", name, id, err)
			}
		}
	}
	if server.count() != 0 {
		t.Errorf("%d requests were sent", server.count())
	}
}

// A filter that was not applied says nothing of this user's keys: passed over, the others' would make
// an empty list, and that a proof that the user's keys are gone.
func TestAListOfOthersKeysIsNotTheUsers(t *testing.T) {
	for name, body := range map[string]string{
		"beside the user's own": `{"credentials":[{"access":"AKONE","user_id":"` + wireOther + `","status":"active"},{"access":"AKTWO","user_id":"` + wireUserID + `","status":"inactive"}]}`,
		"alone":                 `{"credentials":[{"access":"AKONE","user_id":"` + wireOther + `","status":"active"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, exchange{status: 200, body: body})
			client.names.put("deploy", wireUserID)
			keys, err := client.ListKeys(t.Context(), "deploy")
			mustBeKind(t, err, provider.KindUnreachable)
			if len(keys) > 0 {
				t.Errorf("got %+v", keys)
			}
		})
	}
}

func TestAListThatCannotBeReadIsAnErrorAndNotEmpty(t *testing.T) {
	for name, body := range map[string]string{
		"no list":                "{}",
		"null":                   `{"credentials":null}`,
		"a key without an id":    `{"credentials":[{"user_id":"` + wireUserID + `"}]}`,
		"a date of another form": `{"credentials":[{"access":"AK","user_id":"` + wireUserID + `","create_time":"yesterday"}]}`,
		"half of it":             `{"credentials":[`,
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, exchange{status: 200, body: body})
			client.names.put("deploy", wireUserID)
			keys, err := client.ListKeys(t.Context(), "deploy")
			mustBeKind(t, err, provider.KindUnreachable)
			if keys != nil {
				t.Errorf("got %+v", keys)
			}
		})
	}
}

func TestTheFirstPageOfAListIsNotTheWhole(t *testing.T) {
	client, _ := serve(t, exchange{status: 200, body: `{"users":[],"groups":[],"links":{"next":"https://iam.example/v3/users?marker=1"}}`})
	for _, err := range client.ListUsers(t.Context()) {
		mustBeKind(t, err, provider.KindUnreachable)
	}
	_, err := client.groupIDs(t.Context())
	mustBeKind(t, err, provider.KindUnreachable)
}
