// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// errorShape is one of the JSON forms in which Huawei's IAM words its errors.
type errorShape int

const (
	apiShape     errorShape = iota // that of the API called
	oldShape                       // {"error":{"message","code":400,"title"}}: Keystone and OS-CREDENTIAL
	flatShape                      // {"error_msg","error_code"}: newer APIs, such as OS-USER, and IAM's authentication
	gatewayShape                   // {"error_msg","error_code","request_id"}: before the call reaches IAM
)

// iamError is a refusal. In the old shape only the message shows, and the code stands for it in Call.Code.
type iamError struct {
	status  int
	code    string
	message string
	shape   errorShape
}

// Codes of the gateway and of IAM, from the vendor's lists.
const (
	codeGatewayAuth      = "APIGW.0301"
	codeGatewayClock     = "APIGW.0303"
	codeGatewayThrottled = "APIGW.0308"
	codeGatewayNoAPI     = "APIGW.0101"
	codeKeyQuota         = "akSkNumExceed"
	codeIAMDenied        = "IAM.0002"
	codeIAMNotFound      = "IAM.0004"
	codeIAMInternal      = "IAM.0006"
	codeIAMInvalid       = "IAM.0011"
	codeIAMThrottled     = "IAM.0012"
	codeIAMUserDisabled  = "IAM.0080"
	codeIAMConsoleOnly   = "IAM.0081"
	codeIAMUserGone      = "IAM.1106"
	codeIAMKeyInactive   = "IAM.1107"
	codeIAMTokenExpired  = "IAM.1108"
	codeUserInvalid      = "1100"
	codeUserName         = "1101"
	codeOwner            = "1107"
	codeUserExists       = "1109"
	codeUserQuota        = "1115"
	codeAccessMode       = "1120"

	codeGroupQuota = "1134" // assumed: the list has no code for it
)

func gatewayRefusal(status int, code, format string, args ...any) *iamError {
	return &iamError{status, code, fmt.Sprintf(format, args...), gatewayShape}
}

func errGatewayAuth(format string, args ...any) *iamError {
	return gatewayRefusal(http.StatusUnauthorized, codeGatewayAuth,
		"Incorrect IAM authentication information: "+format, args...)
}

func errNoSuchAK(accessKey string) *iamError { return errGatewayAuth("ak %s not exist", accessKey) }

func iamRefusal(status int, code, format string, args ...any) *iamError {
	return &iamError{status, code, fmt.Sprintf(format, args...), flatShape}
}

// apiRefusal takes the shape of the API that was called.
func apiRefusal(status int, code, format string, args ...any) *iamError {
	return &iamError{status, code, fmt.Sprintf(format, args...), apiShape}
}

func errNotFound(target, id string) *iamError {
	return apiRefusal(http.StatusNotFound, codeIAMNotFound, "Could not find %s: %s.", target, id)
}

func errDenied(action string) *iamError {
	return apiRefusal(http.StatusForbidden, codeIAMDenied, "You are not authorized to perform the requested action: %s.", action)
}

func errInvalid(format string, args ...any) *iamError {
	return apiRefusal(http.StatusBadRequest, codeIAMInvalid, format, args...)
}

// encode words the error; old tells whether the API called belongs to the older ones.
func (e *iamError) encode(old, nulls bool, requestID string) *answer {
	shape := e.shape
	if shape == apiShape {
		shape = flatShape
		if old {
			shape = oldShape
		}
	}
	type flat struct {
		Message   string `json:"error_msg"`
		Code      string `json:"error_code"`
		RequestID string `json:"request_id,omitempty"`
	}
	switch shape {
	case oldShape:
		a := encodeIAM(e.status, e.oldBody(nulls))
		a.code = e.code
		if strings.HasPrefix(e.code, "IAM.") { // what the answer does not show, nobody should count on
			a.code = strconv.Itoa(e.status)
		}
		return a
	case gatewayShape:
		a := encodeIAM(e.status, flat{e.message, e.code, requestID})
		a.code = e.code
		return a
	default:
		a := encodeIAM(e.status, flat{e.message, e.code, ""})
		a.code = e.code
		return a
	}
}

func (e *iamError) oldBody(nulls bool) any {
	type old struct {
		Message string `json:"message"`
		Code    int    `json:"code"`
		Title   string `json:"title"`
	}
	type withNulls struct {
		old
		ErrorCode *string `json:"error_code"`
		ErrorMsg  *string `json:"error_msg"`
	}
	body := old{e.message, e.status, http.StatusText(e.status)}
	if nulls {
		return map[string]any{"error": withNulls{old: body}}
	}
	return map[string]any{"error": body}
}

func encodeIAM(status int, body any) *answer {
	if body == nil {
		return &answer{status: status}
	}
	encoded, err := json.Marshal(body)
	if err != nil { // strings, numbers and booleans only: cannot happen
		return &answer{status: http.StatusInternalServerError, body: []byte(`{}`)}
	}
	return &answer{status: status, body: encoded}
}

// iamFaults words faults as Huawei words its errors: the code says who speaks.
type iamFaults struct {
	old       bool
	nulls     bool
	requestID string
	accessKey string
}

func (f iamFaults) failure(status int, code string) *answer {
	e := apiRefusal(status, cmp.Or(code, codeIAMInternal), "%s", http.StatusText(status))
	switch {
	case strings.HasPrefix(code, "APIG"):
		e.shape = gatewayShape
	case strings.HasPrefix(code, "IAM."):
		e.shape = flatShape
	case code != "":
		e.message = code // the old shape has no other place for it
	}
	return e.encode(f.old, f.nulls, f.requestID)
}

func (f iamFaults) throttled(status int, code string) *answer {
	e := gatewayRefusal(status, cmp.Or(code, codeGatewayThrottled),
		"The throttling threshold has been reached: policy user over ratelimit,limit:10,time:1 second")
	if code == codeIAMThrottled {
		e = iamRefusal(status, code, "The throttling threshold has been reached. threshold: 10 times per 1 seconds")
	}
	return e.encode(f.old, f.nulls, f.requestID)
}

func (f iamFaults) unknownKey() *answer {
	return errNoSuchAK(f.accessKey).encode(f.old, f.nulls, f.requestID)
}
