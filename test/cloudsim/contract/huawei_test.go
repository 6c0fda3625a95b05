// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// sendHuawei signs "METHOD target" and sends it through the transport. It signs the date alone, which is allowed.
func sendHuawei(t *testing.T, rt http.RoundTripper, d *cloudsim.Domain, line, body string) (int, string) {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, "http://iam.test"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format("20060102T150405Z")
	r.Header.Set("X-Sdk-Date", date)
	r.Header.Set("X-Domain-Id", d.ID())
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	path, query, _ := strings.Cut(target, "?")
	canonical := fmt.Sprintf("%s\n%s/\n%s\nx-sdk-date:%s\n\nx-sdk-date\n%x", method, path, query, date, sha256.Sum256([]byte(body)))
	h := hmac.New(sha256.New, []byte(d.RootKey().SecretKey))
	fmt.Fprintf(h, "SDK-HMAC-SHA256\n%s\n%x", date, sha256.Sum256([]byte(canonical)))
	r.Header.Set("Authorization", fmt.Sprintf("SDK-HMAC-SHA256 Access=%s, SignedHeaders=x-sdk-date, Signature=%x", d.RootKey().AccessKey, h.Sum(nil)))
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

func TestEveryAnswerOfHuaweisSimulationFitsTheDocumentation(t *testing.T) {
	cloud := cloudsim.New()
	domain := cloud.AddDomain("acme")
	domain.AddAgency("ops", domain)
	user, group := domain.AddUser("deploy"), domain.AddGroup("readers")
	key := domain.AddKey(cloudsim.IAMKeySpec{User: "deploy", Description: "d"}).AccessKey
	rt := NewHuawei(t).Wrap(cloud.Transport())

	const credentials = "/v3.0/OS-CREDENTIAL/credentials"
	for _, test := range []struct {
		line, body string
		status     int
	}{
		{"POST " + credentials, `{"credential":{"user_id":"` + user + `","description":"d"}}`, 201},
		{"POST " + credentials, `{"credential":{"user_id":"` + user + `"}}`, 400},
		{"GET " + credentials + "?user_id=" + user, "", 200},
		{"GET " + credentials + "/" + key, "", 200},
		{"PUT " + credentials + "/" + key, `{"credential":{"status":"inactive"}}`, 200},
		{"DELETE " + credentials + "/" + key, "", 204},
		{"DELETE " + credentials + "/" + key, "", 404},
		{"POST /v3.0/OS-CREDENTIAL/securitytokens", `{"auth":{"identity":{"methods":["token"],"token":{"duration_seconds":900}}}}`, 201},
		{"POST /v3.0/OS-CREDENTIAL/securitytokens", `{"auth":{"identity":{"methods":["assume_role"],"assume_role":{"agency_name":"ops","domain_name":"acme"}}}}`, 201},
		{"POST /v3.0/OS-USER/users", `{"user":{"name":"lease","domain_id":"` + domain.ID() + `","access_mode":"programmatic"}}`, 201},
		{"POST /v3.0/OS-USER/users", `{"user":{"name":"lease","domain_id":"` + domain.ID() + `"}}`, 400},
		{"GET /v3.0/OS-USER/users/" + user, "", 200},
		{"GET /v3/users?name=deploy", "", 200},
		{"PUT /v3/groups/" + group + "/users/" + user, "", 204},
		{"HEAD /v3/groups/" + group + "/users/" + user, "", 204},
		{"GET /v3/users/" + user + "/groups", "", 200},
		{"GET /v3/groups?name=readers", "", 200},
		{"DELETE /v3/groups/" + group + "/users/" + user, "", 204},
		{"HEAD /v3/groups/" + group + "/users/" + user, "", 404},
		{"DELETE /v3/users/" + user, "", 204},
		{"GET /v3/auth/domains", "", 200},
		{"GET /v3/auth/projects", "", 200},
		{"GET /v3.0/OS-SECURITYPOLICY/domains/" + domain.ID() + "/protect-policy", "", 200},
		{"GET /v3.0/OS-QUOTA/domains/" + domain.ID() + "?type=user", "", 200},
	} {
		if status, raw := sendHuawei(t, rt, domain, test.line, test.body); status != test.status {
			t.Errorf("%s %s: got %d %s, want %d", test.line, test.body, status, raw, test.status)
		}
	}
}

// answering is a cloud that always answers the same.
type answering struct {
	status int
	body   string
}

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	header := http.Header{"X-Request-Id": {"r"}}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

func TestTheJudgeOfHuaweiReportsWhatIsNotDocumented(t *testing.T) {
	const (
		create = "POST /v3.0/OS-CREDENTIAL/credentials"
		body   = `{"credential":{"user_id":"u"}}`
		good   = `{"credential":{"access":"A","secret":"S3CR3T","create_time":"t","user_id":"u","status":"active"}}`
	)
	for name, test := range map[string]struct {
		line, body string
		answer     answering
		want       string // "": nothing is reported
	}{
		"a good call":                   {create, body, answering{201, good}, ""},
		"a good refusal":                {create, body, answering{400, `{"error":{"message":"akSkNumExceed","code":400,"title":"Bad Request"}}`}, ""},
		"a call that does not exist":    {"GET /v3/everything", "", answering{404, ""}, "no such call"},
		"an empty id":                   {"DELETE /v3/users/", "", answering{204, ""}, "no such call"},
		"a field that does not exist":   {create, `{"credential":{"user_id":"u","ttl":1}}`, answering{201, good}, "credential.ttl is not documented"},
		"a field that is missing":       {create, `{"credential":{}}`, answering{201, good}, "credential.user_id is missing"},
		"a query that does not exist":   {"GET /v3/users?limit=1", "", answering{200, `{"users":[]}`}, `no "limit"`},
		"a body where none belongs":     {"GET /v3/users", "{}", answering{200, `{"users":[]}`}, "no body"},
		"another success":               {create, body, answering{200, good}, "success is 201"},
		"an answer without its secret":  {create, body, answering{201, strings.Replace(good, `"secret":"S3CR3T",`, "", 1)}, "credential.secret is missing"},
		"an answer with a number":       {create, body, answering{201, strings.Replace(good, `"t"`, "7", 1)}, "create_time is not a string"},
		"an element without its id":     {"GET /v3/users", "", answering{200, `{"users":[{"name":"n","domain_id":"d","enabled":true}]}`}, "users[].id is missing"},
		"a refusal in unknown words":    {create, body, answering{400, `{"Errors":[]}`}, "none of the known forms"},
		"an answer that is not JSON":    {create, body, answering{201, "S3CR3T"}, "not JSON"},
		"a deletion that says too much": {"DELETE /v3/users/u", "", answering{204, "gone"}, "it has a body"},
	} {
		t.Run(name, func(t *testing.T) {
			saw := &witness{TB: t}
			domain := cloudsim.New().AddDomain("acme")
			sendHuawei(t, NewHuawei(saw).Wrap(test.answer), domain, test.line, test.body)
			report := strings.Join(saw.reports, "\n")
			if !strings.Contains(report, test.want) || (report == "") != (test.want == "") || strings.Contains(report, "S3CR3T") {
				t.Errorf("reported %q, want %q", report, test.want)
			}
		})
	}
}
