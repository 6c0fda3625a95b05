// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"
)

const (
	apiPath    = "/api/v1/"
	latestPath = "/api/latest/" // the same, for osc-cli
)

// answer is what leaves the cloud: a status and a body, or a cut connection.
type answer struct {
	status      int
	code        string
	body        []byte
	contentType string // default application/json
	location    string // of a redirect
	requestID   string // for the header X-Request-Id, which Huawei sets
	cut         bool
	refusedDial bool
	distorted   FaultKind // the answer's shape is not the API's: nobody should judge it by the API's description
}

// success is the status of an answer that went well, for a fault that spoils its body alone.
func (a *answer) success() int {
	if a.status >= http.StatusMultipleChoices {
		return http.StatusOK
	}
	return a.status
}

func refused(e *apiError) *answer {
	type item struct{ Type, Details, Code string }
	return encode(e.status, e.code, answerFields{"Errors": []item{{e.errorType, e.details, e.code}}})
}

func encode(status int, code string, fields answerFields) *answer {
	fields = maps.Clone(fields)
	fields["ResponseContext"] = struct{ RequestId string }{newRequestID()}
	body, err := json.Marshal(fields)
	if err != nil { // strings, numbers and booleans only: cannot happen
		return &answer{status: http.StatusInternalServerError, body: []byte(`{}`)}
	}
	return &answer{status: status, code: code, body: body}
}

// respond serves one request from its arrival to the answer, faults included. An error means that the caller has gone.
func (c *Cloud) respond(ctx context.Context, r *http.Request, body []byte) (*answer, error) {
	if isHuawei(r) {
		return c.respondHuawei(ctx, r, body)
	}
	if isEIM(r) {
		return c.respondEIM(ctx, r, body)
	}
	op, ok := operationOf(r)
	if !ok {
		return &answer{status: http.StatusNotFound, contentType: "text/plain", body: []byte("404 page not found\n")}, nil
	}

	call := &Call{Op: op, At: time.Now(), Body: recordable(body)}
	c.claim(call, r)
	return c.serve(ctx, call, outscaleFaults{}, func() *answer { return c.work(op, r, body) })
}

// operationOf is what a request to the API asks for.
func operationOf(r *http.Request) (op string, ok bool) {
	path := singleSlashes(r.URL.Path)
	op, ok = strings.CutPrefix(path, apiPath)
	if !ok {
		op, ok = strings.CutPrefix(path, latestPath)
	}
	return op, ok && r.Method == http.MethodPost && op != "" && !strings.Contains(op, "/")
}

// serve does one call's work as far as the faults let it, and tells the observers before and after.
func (c *Cloud) serve(ctx context.Context, call *Call, d dialect, work func() *answer) (*answer, error) {
	c.record(call)
	s := c.effectOn(call)
	a, err := suffer(ctx, s, d, work)
	if err != nil {
		a = &answer{cut: true}
	}
	c.finish(call, a, s.fault.Kind)
	return a, err
}

func suffer(ctx context.Context, s effect, d dialect, work func() *answer) (*answer, error) {
	if err := wait(ctx, s.before); err != nil {
		return nil, err
	}
	if a := s.fault.instead(d); a != nil {
		return a, nil
	}
	a := s.fault.distort(d, work())
	return a, wait(ctx, s.after)
}

// claim notes whose key the request says has signed it.
func (c *Cloud) claim(call *Call, r *http.Request) {
	if auth, err := parseAuthorization(r.Header.Get("Authorization")); err == nil {
		call.AccessKey, call.Scope = auth.accessKey, auth.region
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.accountOf(r); a != nil {
		call.Account, call.Login = a.id, true
	} else if k, ok := c.keys[call.AccessKey]; ok {
		call.Account, call.User = k.account.id, k.User
	} else if a, ok := c.deleted[call.AccessKey]; ok {
		call.Account = a.id
	}
}

// record keeps the call and tells the observers.
func (c *Cloud) record(call *Call) {
	c.mu.Lock()
	c.calls = append(c.calls, call)
	seen, observers := *call, c.onCall
	c.mu.Unlock()

	for _, observe := range observers {
		observe(seen)
	}
}

// recordable keeps a body that is not JSON as a JSON string, so that a list of calls can always be encoded.
func recordable(body []byte) json.RawMessage {
	if len(body) == 0 || json.Valid(body) {
		return body
	}
	quoted, err := json.Marshal(string(body))
	if err != nil {
		return nil
	}
	return quoted
}

func (c *Cloud) finish(call *Call, a *answer, kind FaultKind) {
	c.mu.Lock()
	call.Status, call.Code, call.Fault = a.status, a.code, kind
	call.Locked = bytes.Contains(a.body, []byte(accessKeyLocked))
	seen, observers := *call, c.onAnswer
	c.mu.Unlock()

	for _, observe := range observers {
		observe(seen)
	}
}

// work authenticates, authorizes and does what was asked, all at one moment.
func (c *Cloud) work(op string, r *http.Request, body []byte) *answer {
	do, ok := operations[op]
	if !ok {
		return refused(&apiError{http.StatusNotFound, "InvalidAction", "The action " + op + " is unknown.", codeDefault})
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	who := caller{cloud: c}
	if !withoutAuthentication[op] {
		var refusal *apiError
		if who.account, who.who, refusal = c.admit(op, r, body); refusal != nil {
			return refused(refusal)
		}
	}
	fields, refusal := do(who, body)
	if refusal != nil {
		return refused(refusal)
	}
	return encode(http.StatusOK, "", fields)
}
