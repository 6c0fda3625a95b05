// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// refusal is what an answer with errors says. Its fields are those of the error that decides.
type refusal struct {
	status int
	wireError
	all       []wireError
	requestID string
}

// wireError is one error of an answer.
type wireError struct {
	Code    transport.Text
	Type    transport.Text
	Details transport.Text
}

// number is the code as a number; -1 where it is none.
func (e wireError) number() int {
	if n, err := strconv.Atoi(string(e.Code)); err == nil {
		return n
	}
	return -1
}

// readRefusal reads OUTSCALE's error format. Anything else leaves its fields
// empty: the body itself is never repeated, since nobody knows what is in it.
func readRefusal(status int, body []byte) refusal {
	r := refusal{status: status}
	var answer struct {
		Errors          json.RawMessage
		ResponseContext struct{ RequestId transport.Text }
	}
	var shape *json.UnmarshalTypeError // what else stands in the answer is read all the same
	if err := json.Unmarshal(body, &answer); err != nil && !errors.As(err, &shape) {
		return r
	}
	r.requestID = string(answer.ResponseContext.RequestId)
	var list []json.RawMessage
	if err := json.Unmarshal(answer.Errors, &list); err != nil && len(answer.Errors) > 0 {
		list = []json.RawMessage{answer.Errors} // errors in no form that is known are errors all the same
	}
	for _, raw := range list {
		var e wireError
		_ = json.Unmarshal(raw, &e) // what cannot be read is an error that says nothing
		r.all = append(r.all, e)
	}
	r.decide()
	return r
}

// decisive are the kinds in the order in which one of several errors decides: what says something
// of our key or our rights before what says something of the call. That something does not exist,
// or that nothing was done, must be said by all of them.
var decisive = []provider.Kind{
	provider.KindLockedOut, provider.KindClockWrong, provider.KindKeyRefused, provider.KindKeyUnclear, provider.KindDenied, provider.KindQuota,
	provider.KindConflict, provider.KindInvalid, provider.KindAmbiguous, provider.KindUnknown, provider.KindThrottled, provider.KindNotFound,
}

// decide picks the error that the others are judged with.
func (r *refusal) decide() {
	rank := func(e wireError) int {
		alone := refusal{status: r.status, wireError: e}
		return slices.Index(decisive, alone.kind())
	}
	for i, e := range r.all {
		if i == 0 || rank(e) < rank(r.wireError) {
			r.wireError = e
		}
	}
}

// explained are the details of all errors.
func (r refusal) explained() string {
	var said []string
	for _, e := range r.all {
		if e.Details != "" && !slices.Contains(said, string(e.Details)) {
			said = append(said, string(e.Details))
		}
	}
	return strings.Join(said, " ")
}

// kind classifies by the families of numeric codes. The type's spelling is not
// to be relied on ("QuotaExceded" and "QuotaExceeded" are both seen), and what
// elsewhere is a 404 is a 400 here. Without a code it is not OUTSCALE that has
// answered: a proxy's or gateway's page says nothing of keys and rights.
func (r refusal) kind() provider.Kind {
	switch n := r.number(); {
	case r.status == http.StatusTooManyRequests, n == 6, n == 24, n == 25:
		return provider.KindThrottled
	case n == 11, n == 13:
		return provider.KindLockedOut
	case n == 4, n == 5, n == 7, n == 8, n == 14, n >= 0 && r.status == http.StatusForbidden:
		return provider.KindDenied
	case n >= 0 && r.status == http.StatusUnauthorized:
		return provider.KindKeyRefused
	case n == 4120:
		return provider.KindKeyUnclear
	case n == 4000, n >= 5000 && n <= 5999:
		return provider.KindNotFound
	case n >= 4001 && n <= 4999:
		return provider.KindInvalid
	case n >= 6000 && n <= 6999, n >= 9000 && n <= 9999:
		return provider.KindConflict
	case n >= 10000 && n <= 10999:
		return provider.KindQuota
	case r.status >= 500, r.status == http.StatusFailedDependency:
		return provider.KindAmbiguous
	default:
		return provider.KindUnknown
	}
}

// verdictOf tells the breaker what an answer says of our key.
func verdictOf(resp *http.Response) (v transport.Verdict, again time.Duration) {
	if !refuses(resp) {
		if !bytes.Contains(transport.Peek(resp), []byte("ResponseContext")) {
			return transport.Silent, 0 // a gateway's page may come with status 200: it does not show that the cloud accepts the key
		}
		return transport.Accepted, 0
	}
	r := readRefusal(resp.StatusCode, transport.Peek(resp))
	switch kind := r.kindAt(resp.Header); {
	case kind == provider.KindClockWrong:
		return transport.WrongTime, 0 // which counts as a refusal of the key: nothing is known to the contrary
	case kind == provider.KindKeyUnclear, r.number() == 4000 && namesNothing(resp):
		return transport.Unclear, 0
	case kind == provider.KindLockedOut:
		return transport.Locked, r.lockedFor()
	case kind == provider.KindKeyRefused:
		return transport.Refused, 0
	case r.Code == "", kind == provider.KindThrottled, kind == provider.KindAmbiguous:
		return transport.Silent, 0
	default:
		return transport.Accepted, 0
	}
}

// namesNothing tells a call that can miss nothing but the key that signs it: OUTSCALE's own SDK counts 4000 among the errors of
// authentication (osc-sdk-go v3, IsAuthError).
func namesNothing(resp *http.Response) bool {
	if resp.Request == nil {
		return false
	}
	op := path.Base(resp.Request.URL.Path)
	return op == "ReadAccounts" || op == "ReadApiAccessPolicy"
}

// kindAt is kind, with what an answer's date tells. OUTSCALE has no code of its own for a request whose time is wrong: it says that
// the key is refused.
func (r refusal) kindAt(header http.Header) provider.Kind {
	kind := r.kind()
	if kind == provider.KindKeyRefused && transport.ClocksApart(header, time.Now()) {
		return provider.KindClockWrong
	}
	return kind
}

// lockSeconds is how the API says for how long it is locked: "locked for 60 seconds".
var lockSeconds = regexp.MustCompile(`(?i)\b(\d{1,6}) ?s|seconds\W{1,3}(\d{1,6})`)

// lockedFor is for how long the API is locked; 0 where the answer does not tell.
func (r refusal) lockedFor() time.Duration {
	said := lockSeconds.FindStringSubmatch(string(r.Details))
	if said == nil {
		return 0
	}
	seconds, _ := strconv.Atoi(said[1] + said[2]) // one of them is there, and six digits always are a number
	return time.Duration(seconds) * time.Second
}

// own tells an answer of OUTSCALE itself: its JSON, with its request id.
func own(resp *http.Response) bool {
	var answer struct {
		ResponseContext struct{ RequestId transport.Text }
	}
	return json.Unmarshal(transport.Peek(resp), &answer) == nil && answer.ResponseContext.RequestId != ""
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
		case !refuses(resp):
			tell(provider.KindNone)
		default:
			tell(readRefusal(resp.StatusCode, transport.Peek(resp)).kindAt(resp.Header))
		}
	}
}

// retryable tells answers after which the cloud surely did nothing. A 503
// without the throttling code may come from a gateway after the work was done:
// only reads are repeated then.
func retryable(resp *http.Response) transport.Again {
	switch {
	case resp.StatusCode < 400:
		return transport.Never
	case readRefusal(resp.StatusCode, transport.Peek(resp)).kind() == provider.KindThrottled:
		return transport.UntilTheEnd
	case resp.StatusCode == http.StatusServiceUnavailable && isRead(path.Base(resp.Request.URL.Path)):
		return transport.AFewTimes
	default:
		return transport.Never
	}
}

func isRead(op string) bool { return strings.HasPrefix(op, "Read") }

// refuses tells an answer that is no success. A success in which errors stand is none, whatever its
// status; most answers hold no such word, and are not read twice.
func refuses(resp *http.Response) bool {
	return resp.StatusCode >= 300 || holdsErrors(transport.Peek(resp))
}

func holdsErrors(body []byte) bool {
	return bytes.Contains(body, []byte("rrors")) && len(readRefusal(http.StatusOK, body).all) > 0
}

// refused turns an answer that is no success into a provider.Error; nil: it is one.
func (c *Client) refused(op string, resp *http.Response, body []byte) error {
	status := resp.StatusCode
	if status < 300 && !holdsErrors(body) {
		return nil
	}
	r := readRefusal(status, body)
	e := &provider.Error{
		Kind: r.kindAt(resp.Header), Op: op, Status: r.status, Code: c.clean(string(r.Code)), Type: c.clean(string(r.Type)),
		Details: c.clean(r.explained()), RequestID: c.clean(r.requestID),
	}
	switch {
	case status < 300 && strings.HasPrefix(op, "Create"):
		e.Kind = provider.KindAmbiguous // what it reports was perhaps made all the same
	case e.Kind == provider.KindAmbiguous && isRead(op):
		e.Kind = provider.KindUnreachable
	case e.Kind == provider.KindThrottled:
		e.Details = strings.TrimSpace(e.Details + " (the account is " + c.pacer.String() + ")")
	case e.Kind == provider.KindClockWrong:
		e.Details = "by the cloud's clock it is " + resp.Header.Get("Date")
	case status >= 300 && status < 400:
		e.Kind, e.Details = provider.KindUnreachable, "the endpoint answered with a redirect, which is never followed"
	case len(r.all) == 0 && status == http.StatusNotFound:
		e.Details = "there is no OUTSCALE API at this endpoint"
	case len(r.all) == 0 && status < 500:
		e.Details = "the answer is not in the form of OUTSCALE's API: something in between has given it, such as a proxy or a gateway"
	}
	return e
}

// unreadable is a success whose answer says nothing. For a call that changes
// something, what it changed is unknown.
func unreadable(op string, status int, why string) error {
	kind := provider.KindAmbiguous
	if isRead(op) {
		kind = provider.KindUnreachable
	}
	return &provider.Error{Kind: kind, Op: op, Status: status, Details: why}
}
