// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const (
	clockDetails = "the cloud finds the time of the request wrong: set the clock of the machine that Vault runs on right " +
		"(15 minutes are the most that it may be off)"
	endpointDetails  = "there is no IAM API at this endpoint: check region and endpoint"
	inBetweenDetails = "the answer is not in the form of Huawei Cloud's API: something in between has given it, such as a proxy or a gateway"
	redirectDetails  = "the endpoint answered with a redirect, which is never followed"
)

// refusal is what an answer with an error says.
type refusal struct {
	status    int
	code      string
	message   string
	requestID string
}

// refusalBody has both shapes: IAM's own, nested under "error", and that of the gateway
// and of IAM's newer calls.
type refusalBody struct {
	ErrorCode transport.Text `json:"error_code"`
	ErrorMsg  transport.Text `json:"error_msg"`
	RequestID transport.Text `json:"request_id"`
	Error     struct {
		Message   transport.Text `json:"message"`
		Code      transport.Text `json:"code"`
		ErrorCode transport.Text `json:"error_code"`
		ErrorMsg  transport.Text `json:"error_msg"`
	} `json:"error"`
}

// readRefusal reads the error formats of IAM and of the gateway before it. Anything else
// leaves its fields empty: the body itself is never repeated, since nobody knows what is
// in it.
func readRefusal(status int, header http.Header, body []byte) refusal {
	r := refusal{status: status, requestID: cmp.Or(header.Get("X-Request-Id"), header.Get("X-IAM-Trace-Id"))}
	var answer refusalBody
	var shape *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &answer); err != nil && !errors.As(err, &shape) {
		return r
	}
	r.code = string(cmp.Or(answer.Error.ErrorCode, answer.ErrorCode, answer.Error.Code))
	if r.code == strconv.Itoa(status) {
		r.code = "" // the status once more, which says nothing
	}
	r.message = string(cmp.Or(answer.Error.Message, answer.Error.ErrorMsg, answer.ErrorMsg))
	r.requestID = cmp.Or(r.requestID, string(answer.RequestID))
	return r
}

// empty tells that the answer is in none of the formats.
func (r refusal) empty() bool { return r.code == "" && r.message == "" }

func (r refusal) says(words string) bool { return strings.Contains(strings.ToLower(r.message), words) }

// gateway returns the number of a code of the API gateway: "0301" of APIGW.0301, which
// other clouds of the family write APIG.0301. Empty: IAM itself has answered.
func (r refusal) gateway() string {
	for _, prefix := range []string{"APIGW.", "APIG."} {
		if number, ok := strings.CutPrefix(r.code, prefix); ok {
			return number
		}
	}
	return ""
}

// clock tells that the time of the request is to blame. "signature expired" comes with the
// code of every bad signature.
func (r refusal) clock() bool {
	return r.gateway() == "0303" || r.status == http.StatusUnauthorized && r.says("signature expired")
}

// kind classifies. A 404 alone is no proof that an object is gone: the gateway answers so
// for an API that it does not have (APIGW.0101), and any web server for a page.
func (r refusal) kind() provider.Kind {
	switch gateway := r.gateway(); {
	case r.status < 400:
		return provider.KindUnreachable
	case gateway == "0308", r.code == "IAM.0012", r.status == http.StatusTooManyRequests:
		return provider.KindThrottled
	case gateway == "0101", gateway != "" && r.status == http.StatusNotFound:
		return provider.KindUnreachable
	case r.says("reach the limit,forbidden"), r.code == "IAM.0061":
		return provider.KindLockedOut
	case gateway == "0301" && r.says("not exist"):
		return provider.KindKeyUnclear // a key made seconds ago may get it as well
	case r.clock():
		return provider.KindClockWrong
	}
	if kind, ok := kindsOfCodes[r.code]; ok {
		return kind
	}
	switch {
	case r.says("aksknumexceed"):
		return provider.KindQuota
	case r.status == http.StatusUnauthorized && r.code != "":
		return provider.KindKeyRefused
	case r.status == http.StatusForbidden && !r.empty():
		return provider.KindDenied
	case r.status == http.StatusNotFound && !r.empty(), r.status == http.StatusBadRequest && r.says("could not find"):
		return provider.KindNotFound
	case r.status == http.StatusConflict:
		return provider.KindConflict
	case r.status == http.StatusBadRequest && !r.empty():
		return provider.KindInvalid
	case r.status >= 500:
		return provider.KindAmbiguous
	default:
		return provider.KindUnknown
	}
}

// kindsOfCodes are the codes that say more than their status (IAM API reference, "Error
// Codes"). IAM.0082 is missing on purpose: it may speak of the user that a call is about.
var kindsOfCodes = map[string]provider.Kind{
	"1109":      provider.KindConflict, // the user's name is taken
	"1115":      provider.KindQuota,    // users
	"IAM.0004":  provider.KindNotFound,
	"PAP5.0012": provider.KindNotFound,
	"IAM.0005":  provider.KindConflict,
	"IAM.0080":  provider.KindKeyRefused, // the key's user is disabled
	"IAM.1104":  provider.KindKeyRefused, // the key is blocked
	"IAM.1105":  provider.KindKeyRefused, // expired
	"IAM.1106":  provider.KindKeyRefused, // without a user
	"IAM.1107":  provider.KindKeyRefused, // inactive
	"IAM.1108":  provider.KindKeyRefused, // the security token has expired
}

// keyLock is for how long IAM locks a key after too many refusals in a row (APIGW.0301).
const keyLock = 5 * time.Minute

// clockPause is how soon a request is sent again whose time was wrong. The gateway looks at it before the signature.
const clockPause = time.Minute

// verdictOf tells the breaker what an answer says of our key.
func verdictOf(resp *http.Response) (v transport.Verdict, again time.Duration) {
	if resp.StatusCode < 300 {
		body := bytes.TrimSpace(transport.Peek(resp))
		if !bytes.HasPrefix(body, []byte("{")) && (len(body) > 0 || resp.StatusCode != http.StatusNoContent) {
			return transport.Silent, 0 // a gateway's page may come with status 200: it does not show that the cloud accepts the key
		}
		return transport.Accepted, 0
	}
	r := readRefusal(resp.StatusCode, resp.Header, transport.Peek(resp))
	switch kind := r.kind(); {
	case kind == provider.KindClockWrong:
		return transport.WrongTime, clockPause
	case kind == provider.KindKeyUnclear:
		return transport.Unclear, 0
	case kind == provider.KindLockedOut && r.gateway() != "":
		return transport.Locked, keyLock
	case kind == provider.KindLockedOut:
		return transport.Locked, 0
	case kind == provider.KindKeyRefused:
		return transport.Refused, 0
	case r.empty(), r.gateway() != "", kind == provider.KindThrottled, kind == provider.KindAmbiguous,
		r.status == http.StatusUnauthorized:
		return transport.Silent, 0
	default:
		return transport.Accepted, 0
	}
}

// own tells an answer of Huawei Cloud itself: its JSON, or the empty answer to a delete, with its request id.
func own(resp *http.Response) bool {
	body := transport.Peek(resp)
	named := cmp.Or(resp.Header.Get("X-Request-Id"), resp.Header.Get("X-IAM-Trace-Id")) != ""
	if named && len(body) == 0 {
		return resp.StatusCode == http.StatusNoContent
	}
	var answer struct {
		RequestID transport.Text `json:"request_id"`
	}
	return json.Unmarshal(body, &answer) == nil && (named || answer.RequestID != "")
}

// observe tells the kind of error that an attempt ended with.
func observe(tell func(provider.Kind)) func(*http.Response, error) {
	if tell == nil {
		return nil
	}
	return func(resp *http.Response, err error) {
		var notSent *transport.NotSentError
		switch {
		case errors.As(err, &notSent):
			tell(provider.KindUnreachable)
		case err != nil:
			tell(provider.KindAmbiguous)
		case resp.StatusCode < 300:
			tell(provider.KindNone)
		default:
			tell(readRefusal(resp.StatusCode, resp.Header, transport.Peek(resp)).kind())
		}
	}
}

// retryable tells answers after which the cloud surely did nothing. A 503 may come from a
// gateway after the work was done: only reads are repeated then.
func retryable(resp *http.Response) transport.Again {
	switch {
	case resp.StatusCode < 400:
		return transport.Never
	case readRefusal(resp.StatusCode, resp.Header, transport.Peek(resp)).kind() == provider.KindThrottled:
		return transport.UntilTheEnd
	case resp.StatusCode == http.StatusServiceUnavailable && resp.Request.Method == http.MethodGet:
		return transport.AFewTimes
	default:
		return transport.Never
	}
}

// fault turns an answer that is not the expected success into an error.
func (c *Client) fault(call call, resp *http.Response, body []byte) error {
	if resp.StatusCode < 300 {
		return unreadable(call, resp.StatusCode, "the status is not the one that means success here")
	}
	r := readRefusal(resp.StatusCode, resp.Header, body)
	e := &provider.Error{
		Kind: r.kind(), Op: call.op, Status: r.status, Code: c.clean(r.code),
		Details: c.clean(r.message), RequestID: c.clean(r.requestID),
	}
	switch {
	case e.Kind == provider.KindAmbiguous && call.harmless():
		e.Kind = provider.KindUnreachable
	case e.Kind == provider.KindThrottled:
		e.Details = strings.TrimSpace(e.Details + " (the account is " + c.pacer.String() + ")")
	case r.status < 400:
		e.Details = redirectDetails
	case e.Kind == provider.KindUnreachable, r.empty() && r.status == http.StatusNotFound:
		e.Details = endpointDetails
	case r.empty() && r.status < 500:
		e.Details = inBetweenDetails
	case r.clock():
		e.Details = clockDetails
	}
	return e
}

// unreadable is a success whose answer says nothing. For a call that changes something,
// what it changed is unknown. The text is always one of ours: the answer to a create
// holds a secret key.
func unreadable(call call, status int, why string) error {
	kind := provider.KindAmbiguous
	if call.harmless() {
		kind = provider.KindUnreachable
	}
	return &provider.Error{Kind: kind, Op: call.op, Status: status, Details: why}
}
