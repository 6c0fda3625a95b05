// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

var huaweiPath = regexp.MustCompile(`^/v[0-9]`)

// isHuawei tells the two clouds' requests apart, so that one listener serves both.
func isHuawei(r *http.Request) bool {
	return huaweiPath.MatchString(r.URL.Path) || r.Header.Get(sdkDate) != ""
}

// iamOperation does the work of one call and returns the answer's body, nil for none.
type iamOperation func(iamCaller) (any, *iamError)

// route is one operation. A pattern's segments in braces are variables.
type route struct {
	op      string
	method  string
	pattern string
	status  int  // of success
	old     bool // the older shape of errors
	anyone  bool // needs no X-Domain-Id
	work    iamOperation
}

// match returns the values of the pattern's variables. An id must not be empty: the SDK sends such calls.
func (rt route) match(r *http.Request) ([]string, bool) {
	want := strings.Split(rt.pattern, "/")
	got := strings.Split(r.URL.EscapedPath(), "/")
	if r.Method != rt.method || len(want) != len(got) {
		return nil, false
	}
	values := []string{}
	for i, segment := range want {
		if !strings.HasPrefix(segment, "{") {
			if segment != got[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		values = append(values, value)
	}
	return values, true
}

// routeOf finds the operation of a request; its name is "" if there is none.
func routeOf(r *http.Request, body []byte) (route, []string) {
	for _, rt := range routes() {
		if values, ok := rt.match(r); ok {
			if rt.op == opByAgency && !assumesAgency(body) {
				continue
			}
			return rt, values
		}
	}
	return route{}, nil
}

// respondHuawei serves one request to Huawei from its arrival to the answer.
func (c *Cloud) respondHuawei(ctx context.Context, r *http.Request, body []byte) (*answer, error) {
	rt, values := routeOf(r, body)
	call := &Call{Op: rt.op, Target: r.Method + " " + r.URL.RequestURI(), At: time.Now(), Body: recordable(body)}
	nulls := c.claimIAM(call, r)
	words := iamFaults{old: rt.old, nulls: nulls, requestID: newRequestID(), accessKey: call.AccessKey}

	a, err := c.serve(ctx, call, words, func() *answer {
		result, refusal := c.workIAM(rt, iamRequest{r, body, values})
		if refusal != nil {
			return refusal.encode(rt.old, nulls, words.requestID)
		}
		return encodeIAM(rt.status, result)
	})
	if a != nil {
		a.requestID = words.requestID
		if r.Method == http.MethodHead {
			a.body = nil // net/http would drop it, Transport would not
		}
	}
	return a, err
}

// claimIAM notes whose key the request says has signed it. It also returns the rule for the words of errors, which the
// caller needs without the lock.
func (c *Cloud) claimIAM(call *Call, r *http.Request) (nulls bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if auth, ok := parseSDKAuthorization(r.Header.Get("Authorization")); ok {
		call.AccessKey = auth.accessKey
		call.Account, call.User = c.claimed(auth.accessKey)
	}
	return c.huawei.NullErrorCodes
}

func (c *Cloud) claimed(accessKey string) (domain, user string) {
	if k, ok := c.iamKeys[accessKey]; ok {
		return k.owner.domain.id, k.User
	}
	if s, ok := c.sessions[accessKey]; ok && s.caller.who != nil {
		return s.caller.domain.id, s.caller.who.name
	} else if ok {
		return s.caller.domain.id, ""
	}
	return "", ""
}

// workIAM authenticates and does what was asked, all at one moment.
func (c *Cloud) workIAM(rt route, in iamRequest) (any, *iamError) {
	if rt.op == "" {
		return nil, gatewayRefusal(http.StatusNotFound, codeGatewayNoAPI,
			"The API does not exist or has not been published in the environment")
	}
	c.mu.Lock()
	defer c.mu.Unlock()

	who, refusal := c.authenticateIAM(in)
	if refusal != nil {
		return nil, refusal
	}
	if !rt.anyone {
		if refusal := who.inDomain(); refusal != nil {
			return nil, refusal
		}
	}
	return rt.work(who)
}

// withBody makes an operation of a method with a typed request.
func withBody[T any](work func(iamCaller, T) (any, *iamError)) iamOperation {
	return func(c iamCaller) (any, *iamError) {
		kind, _, err := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
		if err != nil || kind != "application/json" {
			return nil, errInvalid("The content type must be application/json.")
		}
		var in T
		if err := json.Unmarshal(c.request.body, &in); err != nil {
			return nil, errInvalid("The request body is invalid.")
		}
		return work(c, in)
	}
}
