// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// maxDetails bounds how much of the cloud's explanation is repeated.
const maxDetails = 300

// refusal is what an answer with an error says.
type refusal struct {
	status    int
	code      string
	number    int // code as a number; -1 where it is none
	typ       string
	details   string
	requestID string
}

// readRefusal reads OUTSCALE's error format. Anything else leaves its fields
// empty: the body itself is never repeated, since nobody knows what is in it.
func readRefusal(status int, body []byte) refusal {
	r := refusal{status: status, number: -1}
	var answer osc.ErrorResponse
	if err := json.Unmarshal(body, &answer); err != nil {
		return r
	}
	if answer.ResponseContext != nil {
		r.requestID = answer.ResponseContext.GetRequestId()
	}
	if errs := answer.GetErrors(); len(errs) > 0 {
		r.code, r.typ, r.details = errs[0].GetCode(), errs[0].GetType(), errs[0].GetDetails()
	}
	if n, err := strconv.Atoi(r.code); err == nil {
		r.number = n
	}
	return r
}

// kind classifies by the families of numeric codes. The type's spelling is not
// to be relied on ("QuotaExceded" and "QuotaExceeded" are both seen), and what
// elsewhere is a 404 is a 400 here.
func (r refusal) kind() provider.Kind {
	switch n := r.number; {
	case r.status == http.StatusTooManyRequests, n == 6, n == 24, n == 25:
		return provider.KindThrottled
	case n == 11, n == 13:
		return provider.KindLockedOut
	case n == 4, n == 5, n == 7, n == 8, n == 14, r.status == http.StatusForbidden:
		return provider.KindDenied
	case r.status == http.StatusUnauthorized:
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

// judge tells the breaker what an answer says of our key.
func judge(resp *http.Response) transport.Verdict {
	if resp.StatusCode < 300 {
		return transport.Accepted
	}
	r := readRefusal(resp.StatusCode, transport.Peek(resp))
	switch kind := r.kind(); {
	case kind == provider.KindKeyUnclear:
		return transport.Unclear
	case kind == provider.KindKeyRefused, kind == provider.KindLockedOut:
		return transport.Refused
	case r.code == "", kind == provider.KindThrottled, kind == provider.KindAmbiguous:
		return transport.Silent
	default:
		return transport.Accepted
	}
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
			tell(readRefusal(resp.StatusCode, transport.Peek(resp)).kind())
		}
	}
}

// retryable tells answers after which the cloud surely did nothing. A 503
// without the throttling code may come from a gateway after the work was done:
// only reads are repeated then.
func retryable(resp *http.Response) bool {
	if resp.StatusCode < 400 {
		return false
	}
	if readRefusal(resp.StatusCode, transport.Peek(resp)).kind() == provider.KindThrottled {
		return true
	}
	return resp.StatusCode == http.StatusServiceUnavailable && isRead(path.Base(resp.Request.URL.Path))
}

func isRead(op string) bool { return strings.HasPrefix(op, "Read") }

// fault turns what the SDK returned into a provider.Error, nil for a success.
// The SDK's own error text is dropped: for an answer that it cannot decode, the
// answer may hold a secret key.
func (c *Client) fault(op string, resp *http.Response, err error) error {
	if err == nil {
		return nil
	}
	var answered osc.GenericOpenAPIError
	if resp == nil || !errors.As(err, &answered) {
		return noAnswer(op, err)
	}
	if resp.StatusCode < 300 {
		return unreadable(op, resp.StatusCode, "the answer could not be read")
	}
	r := readRefusal(resp.StatusCode, answered.Body())
	e := &provider.Error{
		Kind: r.kind(), Op: op, Status: r.status, Code: c.clean(r.code), Type: c.clean(r.typ),
		Details: c.clean(r.details), RequestID: c.clean(r.requestID),
	}
	switch {
	case e.Kind == provider.KindAmbiguous && isRead(op):
		e.Kind = provider.KindUnreachable
	case r.status < 400:
		e.Kind, e.Details = provider.KindUnreachable, "the endpoint answered with a redirect, which is never followed"
	case r.code == "" && r.status == http.StatusNotFound:
		e.Details = "there is no OUTSCALE API at this endpoint"
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

// done is fault for calls whose answer holds nothing to be read but what every answer of
// the API has. Without that it is no proof that the call arrived: gateways answer so.
func (c *Client) done(op string, resp *http.Response, err error, said *osc.ResponseContext) error {
	if err := c.fault(op, resp, err); err != nil {
		return err
	}
	if said == nil {
		return unreadable(op, resp.StatusCode, "the answer is empty")
	}
	return nil
}

// noAnswer classifies a call that ended without an answer.
func noAnswer(op string, err error) error {
	e := &provider.Error{Kind: provider.KindAmbiguous, Op: op, Err: err}
	var notSent *transport.NotSentError
	var held *transport.BreakerOpenError
	switch {
	case errors.As(err, &held):
		e.Kind = provider.KindKeyRefused
	case errors.As(err, &notSent), isRead(op):
		e.Kind = provider.KindUnreachable
	}
	return e
}

// clean makes what the cloud says fit for a message to an operator.
func (c *Client) clean(said string) string {
	said = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, c.redact(said))
	if len(said) > maxDetails {
		said = strings.ToValidUTF8(said[:maxDetails], "") + "…" // the cut may be within a character
	}
	return said
}
