// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"encoding/xml"
	"net/http"
)

// eimCodes are AWS's names of the API's refusals, under which its clients know them, with their statuses; 0 is that of the refusal.
// Which ones OUTSCALE sends is not documented.
var eimCodes = map[string]struct {
	status int
	code   string
}{
	codeAuthentication: {http.StatusForbidden, "SignatureDoesNotMatch"},
	codeUnknownKey:     {http.StatusForbidden, "InvalidClientTokenId"},
	codeNotAllowed:     {http.StatusForbidden, "AccessDenied"},
	codeLocked:         {http.StatusForbidden, "AccessDenied"},
	codeNoSuchUser:     {http.StatusNotFound, "NoSuchEntity"},
	codeTooManyKeys:    {http.StatusConflict, "LimitExceeded"},
	codePolicy:         {http.StatusBadRequest, "InvalidInput"},
	codeThrottled:      {0, "Throttling"},
}

func refusedEIM(e *apiError) *answer {
	status, code := e.status, e.errorType
	if known, is := eimCodes[e.code]; is {
		status, code = cmp.Or(known.status, status), known.code
	}
	fault := "Sender"
	if status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	type detail struct{ Type, Code, Message string }
	return encodeEIM(status, e.code, struct {
		XMLName   xml.Name `xml:"https://iam.amazonaws.com/doc/2010-05-08/ ErrorResponse"`
		Error     detail
		RequestId string
	}{Error: detail{fault, code, e.details}, RequestId: newRequestID()})
}

// eimFaults words faults as the EIM endpoint does.
type eimFaults struct{}

func (eimFaults) failure(status int, code string) *answer {
	return refusedEIM(&apiError{status, errorTypeOf(status), "", cmp.Or(code, codeDefault)})
}

func (f eimFaults) throttled(status int, code string) *answer {
	return f.failure(status, cmp.Or(code, codeThrottled))
}

func (eimFaults) unknownKey() *answer { return refusedEIM(errUnknownKey()) }
