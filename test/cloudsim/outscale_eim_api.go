// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	eimNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"
	eimPrefix    = "eim:" // before the name of an operation, in Call.Op and Fault.Op
	eimDate      = "2006-01-02T15:04:05.000Z"
)

// isEIM tells calls to the EIM endpoint, which speaks AWS's IAM query protocol, from those to the API.
func isEIM(r *http.Request) bool {
	return r.Method == http.MethodPost && singleSlashes(r.URL.Path) == "/"
}

// eimOperation does the work of one call and returns the content of the answer's result.
type eimOperation func(caller, url.Values) (any, *apiError)

// eimOperations are the calls served, as far as OUTSCALE's pages show them with AWS's command line. A user needs the right iam:<call>.
var eimOperations = map[string]eimOperation{
	"ListUsers":       caller.eimListUsers,
	"GetUser":         caller.eimGetUser,
	"ListAccessKeys":  caller.eimListAccessKeys,
	"CreateAccessKey": caller.eimCreateAccessKey,
}

// eimAnswer is the document of a call that went well.
type eimAnswer struct {
	XMLName   xml.Name
	Result    any
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

func (c *Cloud) respondEIM(ctx context.Context, r *http.Request, body []byte) (*answer, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		form = url.Values{} // an action without a name is refused
	}
	call := &Call{Op: eimPrefix + form.Get("Action"), At: time.Now(), Body: recordable(body)}
	c.claim(call, r)
	return c.serve(ctx, call, eimFaults{}, func() *answer { return c.workEIM(form, r, body) })
}

func (c *Cloud) workEIM(form url.Values, r *http.Request, body []byte) *answer {
	action := form.Get("Action")
	do, known := eimOperations[action]
	if !known {
		return refusedEIM(&apiError{http.StatusBadRequest, "InvalidAction", "", codeDefault})
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	k, refusal := c.authenticate(r, body)
	if refusal == nil {
		refusal = k.authorize("iam:" + action)
	}
	if refusal != nil {
		return refusedEIM(refusal)
	}
	result, refusal := do(caller{cloud: c, account: k.account, who: k.owner}, form)
	if refusal != nil {
		return refusedEIM(refusal)
	}
	return encodeEIM(http.StatusOK, "", eimAnswer{
		XMLName: xml.Name{Space: eimNamespace, Local: action + "Response"}, Result: result, RequestID: newRequestID(),
	})
}

func encodeEIM(status int, code string, document any) *answer {
	body, err := xml.Marshal(document)
	if err != nil { // strings and booleans only: cannot happen
		return &answer{status: http.StatusInternalServerError, body: []byte("<ErrorResponse/>"), contentType: "text/xml"}
	}
	return &answer{status: status, code: code, body: body, contentType: "text/xml"}
}

// eimUser is a user as AWS's clients read it.
type eimUser struct {
	Path       string
	UserName   string
	UserId     string
	Arn        string
	CreateDate string
}

func (a *Account) eimUser(who *identity) eimUser {
	return eimUser{
		Path: cmp.Or(who.path, "/"), UserName: who.name, UserId: who.id, Arn: a.eimARN(who), CreateDate: who.created.UTC().Format(eimDate),
	}
}

func (a *Account) eimARN(who *identity) string {
	if who.name == "" {
		return "orn:ows:idauth::" + a.id + ":account"
	}
	return "orn:ows:idauth::" + a.id + ":user" + who.path + who.name
}

func (c caller) eimListUsers(form url.Values) (any, *apiError) {
	var result struct {
		XMLName     xml.Name  `xml:"ListUsersResult"`
		Users       []eimUser `xml:"Users>member"`
		IsTruncated bool
	}
	for _, who := range c.account.users() {
		if strings.HasPrefix(who.path, form.Get("PathPrefix")) {
			result.Users = append(result.Users, c.account.eimUser(who))
		}
	}
	return result, nil
}

func (c caller) eimGetUser(form url.Values) (any, *apiError) {
	who, refusal := c.eimIdentity(form)
	if refusal != nil {
		return nil, refusal
	}
	return struct {
		XMLName xml.Name `xml:"GetUserResult"`
		User    eimUser
	}{User: c.account.eimUser(who)}, nil
}

// eimIdentity is whom a call names, or the caller.
func (c caller) eimIdentity(form url.Values) (*identity, *apiError) {
	if !form.Has("UserName") {
		return c.who, nil
	}
	name := form.Get("UserName")
	return c.identity(&name)
}

// eimKey is a key as AWS's clients read it, its date of expiry left out: they know none.
type eimKey struct {
	UserName        string
	AccessKeyId     string
	Status          string
	SecretAccessKey string `xml:",omitempty"`
	CreateDate      string
}

func (k *key) eim() eimKey {
	status := "Active"
	if k.State == Inactive {
		status = "Inactive"
	}
	return eimKey{UserName: k.account.eimARN(k.owner), AccessKeyId: k.ID, Status: status, CreateDate: k.Created.Format(eimDate)}
}

func (c caller) eimListAccessKeys(form url.Values) (any, *apiError) {
	who, refusal := c.eimIdentity(form)
	if refusal != nil {
		return nil, refusal
	}
	var result struct {
		XMLName     xml.Name `xml:"ListAccessKeysResult"`
		UserName    string
		Keys        []eimKey `xml:"AccessKeyMetadata>member"`
		IsTruncated bool
	}
	result.UserName = who.name
	for _, k := range who.keys {
		if !time.Now().Before(k.visibleAt) {
			result.Keys = append(result.Keys, k.eim())
		}
	}
	return result, nil
}

// eimCreateAccessKey makes a key without a date, since the protocol has no field for one: where the account's policy wants dates, it
// is assumed to be refused.
func (c caller) eimCreateAccessKey(form url.Values) (any, *apiError) {
	who, refusal := c.eimIdentity(form)
	if refusal != nil {
		return nil, refusal
	}
	made, refusal := c.makeKey(who, nil, nil)
	if refusal != nil {
		return nil, refusal
	}
	view := made.eim()
	view.SecretAccessKey = made.secret
	return struct {
		XMLName   xml.Name `xml:"CreateAccessKeyResult"`
		AccessKey eimKey
	}{AccessKey: view}, nil
}
